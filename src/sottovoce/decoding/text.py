"""Text normalizations, one for each kind of corpus: the same for training a language model and for scoring with it.

Each takes a line as it stands in the corpus and gives its words with one space between them; applied twice it changes
nothing more. A packed language model names the one that it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sottovoce.errors import ConfigError, did_you_mean

_WORD = re.compile(r"(?:[^\W_]|')+")
_TAG = re.compile(r"<[^<>]*>")


def plain(text: str) -> str:
    """Words as they are; runs of white space become one space. For text that is tokenized already (PTB, WikiText)."""
    return " ".join(text.split())


def lower(text: str) -> str:
    """``plain`` in lower case. For text without punctuation (LibriSpeech)."""
    return plain(text.lower())


def spoken(text: str) -> str:
    """Lower case; sounds in angle brackets are left out; whatever is no letter, digit or apostrophe, the hyphen too,
    separates words; a lone apostrophe is no word. For transcripts with punctuation (SwDA, AMI).

    >>> spoken("Uh-huh, I've <laughter> GOT 'em.")
    "uh huh i've got 'em"
    """
    words = _WORD.findall(_TAG.sub(" ", text.lower().replace("’", "'")))
    return " ".join(word for word in words if word.strip("'"))


# What the transcribers of Switchboard (ISIP) and Fisher (LDC, WordWave) wrote, each with what stands for it.
_TELEPHONE = (
    (re.compile(r"\[laughter-([^\]]+)\]"), r"\1"),  # [laughter-yeah]: a word said laughing
    (re.compile(r"\[[^\]/]*/([^\]]*)\]"), r"\1"),  # [splace/space]: what was said / what was meant
    (re.compile(r"[\w']*\[[^\]]*\][\w']*-|-\[[^\]]*\][\w']*"), " "),  # th[at]-, -[th]at: a word broken off
    (re.compile(r"\[[^\]]*\]"), " "),  # [noise], [silence]
    (re.compile(r"\{([^}]*)\}"), r"\1"),  # {gotcha}: a coined word
    (re.compile(r"(?<!\S)\S*-(?!\S)|(?<!\S)-\S*"), " "),  # "h-": a word broken off
    (re.compile(r"_\d+"), " "),  # them_1: a variant in pronunciation
)


def telephone(text: str) -> str:
    """``spoken`` after the mark-up of Switchboard and Fisher transcripts is resolved: noises and words broken off are
    left out, a word said laughing stays, of a slip of the tongue what was meant.

    >>> telephone("[noise] i [laughter-mean] th[at]- them_1 [splace/space] (( uh-huh ))")
    'i mean them space uh huh'
    """
    for pattern, replacement in _TELEPHONE:
        text = pattern.sub(replacement, text)
    return spoken(text)


NORMALIZATIONS: dict[str, Callable[[str], str]] = {
    "plain": plain,
    "lower": lower,
    "spoken": spoken,
    "telephone": telephone,
}


def normalization(name: str) -> Callable[[str], str]:
    """The normalization of that name. Raises ConfigError for another name."""
    if name not in NORMALIZATIONS:
        raise ConfigError(
            f"normalization: expected one of {', '.join(NORMALIZATIONS)}, found {name!r}"
            f"{did_you_mean(str(name), NORMALIZATIONS)}"
        )
    return NORMALIZATIONS[name]
