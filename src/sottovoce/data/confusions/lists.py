"""Lattices and n-best lists of what was heard, and the noise at which so many words are wrong."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sottovoce.data.confusions.decoder import Decoder, Links
from sottovoce.data.confusions.lexicon import Lexicon, pronounce
from sottovoce.decoding.lattices.forward_backward import backward_scores, forward_scores
from sottovoce.decoding.lattices.lattice import Lattice, make_lattice
from sottovoce.decoding.lattices.paths import best_path, nbest_paths
from sottovoce.decoding.nbest_lists import NBestList, nbest_list
from sottovoce.decoding.scores import ACOUSTIC, NGRAM
from sottovoce.errors import DataError
from sottovoce.evaluation.wer import score, total

_PHONE_SECONDS = 0.08  # of each observation, in the times of lattices
_NARROW = 4.0  # nats: where the search for n-best paths begins
_QUIET, _LOUD, _FIRST, _STEP, _ROUNDS, _SAMPLE = 0.02, 2.0, 0.45, 1.4, 5, 200


@dataclass(frozen=True)
class Reference:
    """An utterance that is to be misheard; ``recording`` is its conversation."""

    id: str
    text: str
    recording: str


@dataclass(frozen=True)
class Confuser:
    """Hears utterances through ``decoder.channel``; ``language`` is espeak-ng's, for their words. What is drawn for an
    utterance depends on ``seed`` and its id alone."""

    decoder: Decoder
    seed: int = 0
    language: str = "en-us"

    def lattices(self, references: Sequence[Reference]) -> list[Lattice | None]:
        """What is heard of each utterance: links with the scores "acoustic", the channel's log-likelihood ratio of the
        observations (this word's phones against no phones), and "ngram", the word's unigram. Words outside of the
        vocabulary are said and cannot be found. None where nothing can be said or heard."""
        spoken = pronounce(sorted({word for item in references for word in item.text.split()}), self.language)
        return [self._lattice(item.id, [p for word in item.text.split() for p in spoken[word]]) for item in references]

    def _lattice(self, id: str, said: Sequence[int]) -> Lattice | None:
        if not said:
            return None
        state = (self.seed, int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]))
        observed = self.decoder.channel.observe(said, np.random.default_rng(state))
        links = self.decoder.links(observed)
        return _lattice(id, links, len(observed), self.decoder.lexicon) if len(links.words) else None

    def at(self, noise: float) -> Confuser:
        """The same in more or less noise."""
        return replace(self, decoder=replace(self.decoder, channel=replace(self.decoder.channel, noise=noise)))


def _lattice(id: str, links: Links, observations: int, lexicon: Lexicon) -> Lattice:
    return make_lattice(
        id,
        (_PHONE_SECONDS * np.arange(observations + 1)).tolist(),
        links.starts.tolist(),
        links.ends.tolist(),
        [lexicon.words[word] for word in links.words],
        {ACOUSTIC: links.acoustic.tolist(), NGRAM: lexicon.unigram[links.words].tolist()},
        initial=0,
        finals={observations: {}},
    )


def nbest_of(lattice: Lattice, n: int, reference: Reference) -> NBestList:
    """The n best texts of a lattice, exactly, with what is known of the utterance.

    All paths within a beam of the best one are in the lattice pruned to that beam: it is widened until the n-th best
    lies in it. Texts of equal score come in any order, the same each time.
    """
    beam = _NARROW
    while True:
        part = _within(lattice, beam)
        paths = nbest_paths(part, n)
        exact = len(paths) == n and paths[0].score - paths[-1].score <= beam
        if exact or part.links == lattice.links:
            found = nbest_list(part, n)
            return replace(found, recording=reference.recording, reference=reference.text)
        beam *= 2


def _within(lattice: Lattice, beam: float) -> Lattice:
    totals = lattice.totals()
    before, after = forward_scores(lattice, totals, "best"), backward_scores(lattice, totals, "best")
    return lattice.keeping(before[lattice.starts] + totals + after[lattice.ends] >= before[-1] - beam)


def word_errors(references: Sequence[Reference], lattices: Sequence[Lattice | None]) -> float:
    """Word error rate of the best paths, percent; where there is no lattice nothing was heard."""
    heard = {
        item.id: " ".join(best_path(lattice).words) if lattice else ""
        for item, lattice in zip(references, lattices, strict=True)
    }
    return total(score({item.id: item.text for item in references}, heard)).wer


def calibrate(confuser: Confuser, references: Sequence[Reference], wer: float) -> float:
    """The noise at which ``wer`` percent of the words of the best paths are wrong, on at most 200 of the utterances,
    evenly spaced; by bisection, to about one part in a hundred. All utterances have another rate by a point or two,
    which is what the sample's chance is.

    Raises DataError where no noise gives that rate.
    """
    sample = references[:: max(1, -(-len(references) // _SAMPLE))]
    quiet, loud = _bracket(confuser, sample, wer)
    for _ in range(_ROUNDS):
        middle = math.sqrt(quiet * loud)
        if _errors_at(confuser, sample, middle) < wer:
            quiet = middle
        else:
            loud = middle
    return round(math.sqrt(quiet * loud), 4)


def _bracket(confuser: Confuser, references: Sequence[Reference], wer: float) -> tuple[float, float]:
    """Noises a step apart, with fewer and with more errors; in loud noise the search is slow, so it is gone to last."""
    noise, step = _FIRST, _STEP
    if _errors_at(confuser, references, noise) > wer:
        step = 1 / _STEP
    while _QUIET < noise < _LOUD:
        before, noise = noise, noise * step
        found = _errors_at(confuser, references, noise)
        if (found > wer) == (step > 1):
            return min(before, noise), max(before, noise)
    raise DataError(f"wer {wer:g}: at a noise of {noise:.2g} this text and these words still have {found:.1f} %")


def _errors_at(confuser: Confuser, references: Sequence[Reference], noise: float) -> float:
    return word_errors(references, confuser.at(noise).lattices(references))
