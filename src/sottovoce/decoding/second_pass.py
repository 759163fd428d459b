"""Language models over what a first pass left: new scores for n-best lists and lattices, in conversations or alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from sottovoce.decoding.language_model import LanguageModel
from sottovoce.decoding.lattices.lattice import Lattice
from sottovoce.decoding.lattices.paths import best_path
from sottovoce.decoding.lattices.rescoring import rescore_lattice
from sottovoce.decoding.nbest_lists import NBestList
from sottovoce.decoding.protocol import State, replace, select
from sottovoce.decoding.scores import Scores, ScoreWeights
from sottovoce.decoding.sentence_scores import read_sentences, word_scores
from sottovoce.decoding.skipped import Skipped
from sottovoce.errors import DataError
from sottovoce.progress import Progress

Models = Mapping[str, LanguageModel]
Conversations = Sequence[Sequence[int]]
T = TypeVar("T")

_LISTS = 64  # scored together: bounds memory, changes no result


def rescore_lists(
    lists: Sequence[NBestList],
    models: Models,
    *,
    weights: Callable[[NBestList], ScoreWeights] | None = None,
    conversations: Conversations | None = None,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> list[NBestList]:
    """The lists with the log-probability of each model, ``</s>`` included, as a score of its name; in their order.

    ``weights``: of a list, by which its best come first; else entries stay as they are. ``conversations``: indexes of
    the lists that follow one another; models then go on from the first entry of each list before. A list that cannot be
    scored is noted in ``skipped``, or raises DataError without it.
    """

    def scored(some: Sequence[NBestList], starts: _States) -> list[NBestList]:
        found = _with_scores(some, models, starts)
        return found if weights is None else [item.reordered(weights(item)) for item in found]

    def one_by_one(some: Sequence[NBestList], starts: _States) -> list[NBestList | None]:
        try:
            return list(scored(some, starts))
        except DataError as error:
            if skipped is None:
                raise
            if len(some) > 1:
                return [one_by_one([item], starts.of(i))[0] for i, item in enumerate(some)]
            skipped.append(Skipped(some[0].id, str(error)))
            return [None]

    done = _in_rounds(lists, models, conversations, one_by_one, lambda item: item.best.words, progress)
    return [item for item in done if item is not None]


def rescore_lattices(
    lattices: Sequence[Lattice],
    models: Models,
    weights: Callable[[Lattice], ScoreWeights],
    *,
    order: int | None = None,
    beam: float = float("inf"),
    max_histories: int = 64,
    conversations: Conversations | None = None,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> list[Lattice]:
    """The same with ``rescore_lattice``, model after model; a model's pass is judged by the weights of the scores that
    are there by then. ``weights`` of a lattice are what the result carries."""

    def scored(lattice: Lattice, starts: _States) -> Lattice:
        wanted, names = weights(lattice), set(lattice.scores)
        for name, model in models.items():
            names.add(name)
            now = ScoreWeights({k: f for k, f in wanted.factors.items() if k in names}, wanted.word_penalty)
            start = starts.states[name] if starts.states else None
            lattice = rescore_lattice(
                lattice,
                model,
                now.replacing(**{name: now.factors.get(name, 0.0)}),
                name=name,
                order=order,
                beam=beam,
                max_histories=max_histories,
                start=start,
            )
        return lattice

    def one_by_one(some: Sequence[Lattice], starts: _States) -> list[Lattice | None]:
        found: list[Lattice | None] = []
        for i, lattice in enumerate(some):
            try:
                found.append(scored(lattice, starts.of(i)))
            except DataError as error:
                if skipped is None:
                    raise
                skipped.append(Skipped(lattice.utterance, str(error)))
                found.append(None)
        return found

    done = _in_rounds(lattices, models, conversations, one_by_one, lambda item: best_path(item).words, progress)
    return [item for item in done if item is not None]


@dataclass(frozen=True)
class _States:
    """Of each model, the states of histories, one an utterance; none where utterances begin anew."""

    states: Mapping[str, State] = field(default_factory=dict)

    def of(self, row: int) -> _States:
        return _States({name: select(state, np.array([row])) for name, state in self.states.items()})


def _with_scores(lists: Sequence[NBestList], models: Models, starts: _States) -> list[NBestList]:
    sentences = [entry.words for item in lists for entry in item.entries]
    sizes = [len(item.entries) for item in lists]
    origins = np.repeat(np.arange(len(lists)), sizes) if starts.states else None
    for name, model in models.items():
        found = word_scores(model, sentences, starts=starts.states.get(name), origins=origins)
        totals: Scores = np.array([float(np.sum(scores)) for scores in found])
        parts = np.split(totals, np.cumsum(sizes)[:-1])
        lists = [item.with_scores(name, part) for item, part in zip(lists, parts, strict=True)]
    return list(lists)


def _in_rounds(
    items: Sequence[T],
    models: Models,
    conversations: Conversations | None,
    run: Callable[[Sequence[T], _States], Sequence[T | None]],
    words: Callable[[T], Sequence[str]],
    progress: Progress | None,
) -> list[T | None]:
    """What ``run`` makes of all items: the first ones of all conversations together, then the second ones, and so on;
    or, without conversations, as they come."""
    done: list[T | None] = [None] * len(items)
    finished = 0
    remembered = models if conversations is not None else {}
    groups = [[i] for i in range(len(items))] if conversations is None else conversations
    for first in range(0, len(groups), _LISTS):
        some = groups[first : first + _LISTS]
        states = {name: model.start(len(some)) for name, model in remembered.items()}
        for place in range(max(map(len, some))):
            rows = [row for row, group in enumerate(some) if len(group) > place]
            now = [some[row][place] for row in rows]
            starts = {name: select(state, np.array(rows)) for name, state in states.items()}
            finished += len(now)
            for i, item in zip(now, run([items[i] for i in now], _States(starts)), strict=True):
                done[i] = item
            said = {row: done[some[row][place]] for row in rows if len(some[row]) > place + 1}
            texts = {row: words(item) for row, item in said.items() if item is not None}
            for name, model in remembered.items() if texts else ():
                after = np.array(list(texts))
                read = read_sentences(model, select(states[name], after), list(texts.values()))
                states[name] = replace(states[name], after, read)
            if progress is not None:
                progress(finished, len(items))
    return done
