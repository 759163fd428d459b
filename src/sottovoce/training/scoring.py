"""What a packed file makes of a split: the file itself is run, never the float model that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from sottovoce.data.datamodule import DataConfig, SpeechDataModule
from sottovoce.data.utterances import Utterance, split_utterances
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ACOUSTIC
from sottovoce.decoding.search import Method
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.evaluation.hypotheses import Hypothesis, read_hypotheses, write_hypotheses
from sottovoce.losses import rnnt_loss_from_logits
from sottovoce.models import Rnnt
from sottovoce.packed import RnntArchitecture, load_model
from sottovoce.progress import Progress
from sottovoce.quant.loading import load
from sottovoce.runtime import ModelInput, Recognizer, Result
from sottovoce.runtime.rules import Arithmetic


class SearchOptions(TypedDict, total=False):
    """Keywords of ``Recognizer`` that decide what is heard."""

    method: Method
    beam: int
    arithmetic: Arithmetic
    blank_penalty: float
    lm: Path | None
    lm_weight: float | None
    internal_lm_weight: float
    num_threads: int


def transcribe_split(
    model: Path, data: Path, split: str, progress: Progress | None = None, **options: Unpack[SearchOptions]
) -> list[Hypothesis]:
    """Hypotheses of the runtime for one split of prepared data, with references and speakers; ``progress`` is told how
    many utterances of how many are done.

    Raises FormatError for a file that cannot run, DataError for data that cannot be used.
    """
    recognizer = Recognizer(model, **options)
    utterances = split_utterances(data, split, recognizer.input)
    results = recognizer.transcribe_batch([u.features for u in utterances], progress)
    return [hypothesis_of(u, r.text) for u, r in zip(utterances, results, strict=True)]


def hypothesis_of(utterance: Utterance, text: str) -> Hypothesis:
    """What was heard in an utterance, with its speaker, recording and reference."""
    return Hypothesis(utterance.id, text, utterance.speaker or None, utterance.recording, utterance.text)


def nbest_split(
    model: Path, data: Path, split: str, progress: Progress | None = None, **options: Unpack[SearchOptions]
) -> list[NBestList]:
    """n-best lists of the runtime's beam search for one split, with references, speakers and recordings, in the order
    of the ids: that in which things were said, where a corpus has conversations.

    The score "acoustic" is the log-probability of a text, blank penalty included: summed over the token sequences that
    spell it among those that the beam kept, so that no text stands in a list twice. Raises FormatError for a file that
    cannot run, DataError for data that cannot be used.
    """
    search: SearchOptions = {**options, "method": "beam"}
    recognizer = Recognizer(model, **search)
    utterances = split_utterances(data, split, recognizer.input)
    found = recognizer.nbest_batch([u.features for u in utterances], progress)
    return [
        NBestList(u.id, entries_of(results), u.speaker or None, u.recording, u.text)
        for u, results in zip(utterances, found, strict=True)
    ]


def entries_of(results: list[Result]) -> tuple[NBestEntry, ...]:
    """One entry a text, best first."""
    scores: dict[tuple[str, ...], float] = {}
    for result in results:
        words = tuple(result.text.split())
        scores[words] = float(np.logaddexp(scores.get(words, -np.inf), result.score))
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return tuple(NBestEntry(words, {ACOUSTIC: score}) for words, score in ranked)


@torch.no_grad()
def loss_per_token(model: Path, data: Path, split: str) -> float:
    """RNN-T loss of a packed file on a split, in nats a token: float activations, no decoding, and less noise than WER.

    Raises FormatError for a file that is no RNN-T, DataError for data that it does not take.
    """
    packed = load_model(model)
    tokenizer = Tokenizer(packed.tokenizer or b"")
    network = Rnnt(RnntArchitecture.from_dict(packed.architecture))
    load(model, into=network)
    network.eval()
    module = SpeechDataModule(
        data,
        tokenizer,
        ModelInput.from_dict(packed.input),
        DataConfig(max_duration=30.0),
        min_frames=network.architecture.subsampling,
    )
    loss, tokens = 0.0, 0
    for batch in module.plain_loader(split):
        logits, _, lengths = network(batch["features"], batch["feature_lengths"], batch["tokens"])
        mean = rnnt_loss_from_logits(logits, batch["tokens"], lengths, batch["token_lengths"], overwrite_logits=True)
        loss += float(mean) * len(lengths)
        tokens += int(batch["token_lengths"].sum())
    return loss / max(tokens, 1)


def scored_once(model: Path, data: Path, split: str, into: Path, *, blank_penalty: float = 0.0) -> list[Hypothesis]:
    """As ``transcribe_split``, kept in a file so that an interrupted comparison goes on where it was.

    A penalty that is not zero goes into the file's name, so that no penalty's hypotheses pass for another's.
    Hypotheses older than the model are made anew.
    """
    if blank_penalty:
        into = into.with_name(f"{into.stem}-blank{float(blank_penalty)}{into.suffix}")
    if not into.exists() or into.stat().st_mtime_ns < model.stat().st_mtime_ns:
        write_hypotheses(into, transcribe_split(model, data, split, blank_penalty=blank_penalty))
    return read_hypotheses(into)
