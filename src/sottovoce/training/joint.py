"""A recognizer's run and a language model's as one search takes them: dev n-best lists that both score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sottovoce.decoding.nbest_lists import NBestList
from sottovoce.decoding.scores import ACOUSTIC, LM, ScoreWeights
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError
from sottovoce.evaluation.fused import FusedLists
from sottovoce.evaluation.line_search import Floats
from sottovoce.evaluation.weight_search import TunedWeights, tune_weights
from sottovoce.losses import rnnt_loss_from_logits
from sottovoce.models import LanguageModel, Rnnt
from sottovoce.packed import TransformerLmArchitecture
from sottovoce.packed.language_model import END
from sottovoce.runtime import LanguageModelScorer, Recognizer
from sottovoce.runtime.language_models import knows, token_model
from sottovoce.search.joint import ListScorer
from sottovoce.search.rounding import evaluating
from sottovoce.training.lm_module import LmModule
from sottovoce.training.module import RnntModule
from sottovoce.training.scoring import entries_of
from sottovoce.training.searching import Trained, open_trained
from sottovoce.training.task import shipped, task_of

ROLES = ("asr", "lm")
KNOWN = 0.5  # of the words must be the language model's own; below that it is one of another language or spelling
_ELEMENTS = 1 << 25  # of the joiner's outputs that are there at once, 128 MiB
_TOKENS = 4096
_START = ScoreWeights({ACOUSTIC: 1.0, LM: 0.3})


@dataclass(frozen=True)
class JointInputs:
    """What a joint search works on: both models by role, dev lists with their scores, and how these are weighted."""

    scorers: Mapping[str, ListScorer]
    lists: FusedLists
    tuned: TunedWeights


def joint_models(runs: Mapping[str, Path]) -> dict[str, Trained]:
    """The recognizer (``asr``) and the language model (``lm``), by role.

    Raises ConfigError for folders that are no finished runs of these tasks.
    """
    asr = _opened(runs, "asr", RnntModule, "recognizer")
    return {"asr": asr, "lm": _opened(runs, "lm", LmModule, "language model")}


def joint_inputs(
    models: Mapping[str, Trained],
    *,
    data: Path | None = None,
    utterances: int = 200,
    nbest: int = 8,
    seed: int = 0,
    blank_penalty: float | None = None,
) -> JointInputs:
    """Both ``joint_models`` with fused n-best lists of dev speech.

    Lists of ``nbest`` entries come from the float recognizer's beam search over ``utterances`` of its dev split, drawn
    by ``seed`` (all, where there are fewer), with ``blank_penalty``, by default the recipe's. An entry's acoustic score
    is then the RNN-T's log probability of its text, over all alignments of the tokens that the tokenizer writes it with
    (a penalty would take the same from all entries of a list); the language model's that of the sentence and its end,
    read alone. The weights are tuned on these lists by float models, the acoustic one being 1.

    Raises ConfigError for a language model that knows less than half of the words of the lists, DataError for data that
    cannot be used.
    """
    asr, lm = models["asr"], models["lm"]
    sampled = task_of(asr.recipe).data(data or asr.data, shipped(asr.base), seed)
    batches = cast(Sequence[dict[str, Any]], sampled.sample("dev", utterances, seed))
    lists = _first_pass(asr, batches, nbest, blank_penalty)
    references = {id: text for batch in batches for id, text in zip(batch["ids"], batch["texts"], strict=True)}
    model = token_model(LanguageModelScorer(lm.run.model))
    words = [w for item in lists for entry in item.entries for w in entry.words]
    _check_words(lm.run.folder, words, {word: knows(model, word) for word in set(words)})
    rows = [[t for w in entry.words for t in model.encode(w)] for item in lists for entry in item.entries]
    tokenizer = Tokenizer(asr.base.tokenizer or b"")
    tokens = [[tokenizer.encode(entry.text) for entry in item.entries] for item in lists]
    scorers = {
        "asr": _scorer(asr, ACOUSTIC, partial(acoustic_scores, cast(Rnnt, asr.module.model), batches, tokens)),
        "lm": _scorer(lm, LM, partial(sentence_scores, cast(LanguageModel, lm.module.model), rows)),
    }
    for scorer in scorers.values():
        with evaluating(scorer.model):
            lists = _with_scores(lists, scorer.name, scorer.scores())
    tuned = tune_weights(lists, references, _START)
    return JointInputs(scorers, FusedLists.of(lists, references, tuned.weights), tuned)


@torch.no_grad()
def acoustic_scores(
    model: Rnnt, batches: Sequence[Mapping[str, Any]], tokens: Sequence[Sequence[Sequence[int]]]
) -> Floats:
    """log P(tokens | speech) by the RNN-T of each entry of each utterance's list, float64 (M,).

    batches: ``features``, ``feature_lengths``; tokens: of each utterance in order, of each entry. The encoder reads an
    utterance once.
    """
    found: list[Tensor] = []
    lists = iter(tokens)
    for batch in batches:
        frames, lengths = model.encoder(batch["features"], batch["feature_lengths"])
        for frame, length in zip(frames, lengths, strict=True):
            found += _forced(model, frame[: int(length)], next(lists))
    return torch.cat(found).double().numpy()


def _forced(model: Rnnt, frames: Tensor, entries: Sequence[Sequence[int]]) -> list[Tensor]:
    """Scores of one utterance's entries, frames (T', J), some entries at a time."""
    lengths = torch.tensor([len(entry) for entry in entries])
    targets = pad_sequence([torch.tensor(entry, dtype=torch.int64) for entry in entries], batch_first=True)
    cells = len(frames) * (targets.shape[1] + 1) * model.architecture.vocabulary
    some = max(1, _ELEMENTS // cells)
    found = []
    for start in range(0, len(entries), some):
        rows = slice(start, start + some)
        history = model.predictor(targets[rows])
        logits = model.joiner(frames[None, :, None], history[:, None])
        spoken = torch.full((len(logits),), len(frames))
        found.append(-rnnt_loss_from_logits(logits, targets[rows], spoken, lengths[rows], reduction="none"))
    return found


@torch.no_grad()
def sentence_scores(model: LanguageModel, sentences: Sequence[Sequence[int]]) -> Floats:
    """Log-probability of each sentence's tokens and its end, float64 (N,), each read from nothing; one that is longer
    than a Transformer's context in pieces, as in training."""
    a = model.architecture
    longest = a.context if isinstance(a, TransformerLmArchitecture) else max(map(len, sentences), default=0) + 1
    pieces: list[tuple[int, Tensor]] = []
    for i, sentence in enumerate(sentences):
        row = torch.tensor([END, *sentence, END])
        pieces += [(i, row[start : start + longest + 1]) for start in range(0, len(row) - 1, longest)]
    pieces.sort(key=lambda piece: len(piece[1]))
    found = np.zeros(len(sentences))
    some = max(1, _TOKENS // max((len(row) for _, row in pieces), default=1))
    for start in range(0, len(pieces), some):
        group = pieces[start : start + some]
        rows = pad_sequence([row for _, row in group], batch_first=True, padding_value=-1)
        targets = rows[:, 1:]
        real = targets >= 0
        log_probs = model.output(model.hidden(rows[:, :-1].clamp_min(0))[0][real]).float().log_softmax(-1)
        each = torch.zeros(targets.shape, dtype=torch.float64)
        each[real] = log_probs.gather(1, targets[real][:, None])[:, 0].double()
        np.add.at(found, [i for i, _ in group], each.sum(1).numpy())
    return found


def _opened(runs: Mapping[str, Path], role: str, kind: type, name: str) -> Trained:
    trained = open_trained(runs[role])
    if not isinstance(trained.module, kind):
        raise ConfigError(f"{runs[role]}: expected the run of a {name} as {role}, found another one")
    return trained


def _scorer(trained: Trained, name: str, scores: Any) -> ListScorer:
    return ListScorer(
        name,
        trained.module.model,
        scores,
        rows=trained.searchable.row_borders(),
        fields=trained.fields,
        tokenizer_bytes=trained.tokenizer_bytes,
        cache=trained.run.folder / "search",
    )


def _first_pass(
    asr: Trained, batches: Sequence[Mapping[str, Any]], nbest: int, blank_penalty: float | None
) -> list[NBestList]:
    penalty = cast(Any, asr.recipe).decoding.blank_penalty if blank_penalty is None else blank_penalty
    recognizer = Recognizer(asr.run.model, method="beam", beam=nbest, blank_penalty=penalty)
    lists = []
    for batch in batches:
        lengths = batch["feature_lengths"].tolist()
        found = recognizer.nbest_batch([x[:n].numpy() for x, n in zip(batch["features"], lengths, strict=True)])
        lists += [NBestList(id, entries_of(results)) for id, results in zip(batch["ids"], found, strict=True)]
    return lists


def _with_scores(lists: Sequence[NBestList], name: str, scores: Floats) -> list[NBestList]:
    parts = np.split(scores, np.cumsum([len(item.entries) for item in lists])[:-1])
    return [item.with_scores(name, part) for item, part in zip(lists, parts, strict=True)]


def _check_words(run: Path, words: Sequence[str], known: Mapping[str, bool]) -> None:
    share = sum(map(known.__getitem__, words)) / max(1, len(words))
    if words and share < KNOWN:
        stranger = next(word for word in words if not known[word])
        raise ConfigError(
            f"{run}: expected a language model of the recognizer's words, found one that knows {share:.0%} of those in "
            f"its lists, and not {stranger!r}"
        )
