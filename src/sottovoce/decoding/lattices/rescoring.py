"""Lattices rescored by a language model that remembers the words before.

Nodes are split by history (Liu, Chen, Wang, Gales and Woodland, "Two efficient lattice rescoring methods using
recurrent neural network language models", TASLP 2016): histories at a node that agree in their last order - 1 words are
one, and the better of them goes on as the state of both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from sottovoce.decoding.language_model import LanguageModel
from sottovoce.decoding.lattices.lattice import Integers, Lattice
from sottovoce.decoding.protocol import State, gather, select
from sottovoce.decoding.scores import LM, Scores, ScoreWeights
from sottovoce.errors import ConfigError

_History = tuple[int, ...]


def rescore_lattice(
    lattice: Lattice,
    model: LanguageModel,
    weights: ScoreWeights,
    *,
    name: str = LM,
    order: int | None = None,
    beam: float = math.inf,
    max_histories: int = 64,
    start: State | None = None,
) -> Lattice:
    """The lattice with the model's log-probabilities as score ``name``, those of ``</s>`` on links at its end.

    ``weights`` judge which history is the better one and must have a factor for ``name``; the result carries them.
    ``order``: histories that agree in their last order - 1 words are merged; None keeps all apart. At a node, histories
    whose score lies more than ``beam`` (nats) under the best are left out, and all but the ``max_histories`` best, so
    that the result has at most max_histories times the nodes and links. ``start``: the state of a history to begin from
    (``read_history``). Without a beam and with room for all histories every path gets exactly its score.

    Raises ConfigError for an order or number of histories below 1, a beam below 0, or weights without ``name``.
    """
    if (order is not None and order < 1) or max_histories < 1 or not beam >= 0:
        raise ConfigError(
            f"rescoring: expected an order and a number of histories of at least 1 and a beam of at least 0, found "
            f"{order}, {max_histories} and {beam}"
        )
    if name not in weights.factors:
        raise ConfigError(f"rescoring: expected a weight for the score {name!r}, found {dict(weights.factors)}")
    return _Expansion(lattice, model, weights, name, order, beam, max_histories).run(start)


@dataclass(eq=False)
class _Word:
    """A word after the history in ``row`` of ``states``; ``after`` is where the history with it is, once it is read."""

    states: State
    row: int
    text: str
    after: tuple[State, int] | None = None


@dataclass(frozen=True)
class _Arrival:
    """A history that reaches a node: from which split node, by which link, with what score, and its last word."""

    source: int
    link: int
    log_prob: float
    score: float
    history: _History
    word: _Word


@dataclass
class _Grown:
    """The new lattice so far: the old node of each node; the ends, old link and log-probability of each link."""

    nodes: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


class _Expansion:
    def __init__(
        self,
        lattice: Lattice,
        model: LanguageModel,
        weights: ScoreWeights,
        name: str,
        order: int | None,
        beam: float,
        max_histories: int,
    ) -> None:
        self.lattice, self.model, self.weights, self.name = lattice, model, weights, name
        self.kept_words = None if order is None else order - 1
        self.beam, self.max_histories = beam, max_histories
        others = ScoreWeights({key: f for key, f in weights.factors.items() if key != name}, weights.word_penalty)
        self.totals, self.factor = lattice.totals(others).tolist(), weights.factors[name]
        self.labels, self.ends = lattice.labels.tolist(), lattice.ends.tolist()
        self.edges = lattice.outgoing.tolist()
        self.grown = _Grown()

    def run(self, start: State | None) -> Lattice:
        arriving: dict[int, list[_Arrival]] = defaultdict(list)
        begin = self.model.start(1) if start is None else start
        arriving[0].append(_Arrival(-1, -1, 0.0, 0.0, (), _Word(begin, 0, "", (begin, 0))))
        ended: list[tuple[int, _Arrival]] = []
        for level in _levels(self.lattice):
            here = [pair for node in level for pair in self._settle(node, arriving.pop(node))]
            ended += [pair for pair in here if self.grown.nodes[pair[0]] == self.lattice.final]
            self._leave([pair for pair in here if self.grown.nodes[pair[0]] != self.lattice.final], arriving)
        return self._finished(ended)

    def _settle(self, node: int, arrivals: list[_Arrival]) -> list[tuple[int, _Arrival]]:
        """The new nodes of an old one, each with the best of the histories that it stands for."""
        merged: dict[_History, list[_Arrival]] = defaultdict(list)
        for arrival in arrivals:
            merged[arrival.history].append(arrival)
        groups = sorted(((max(group, key=_score), group) for group in merged.values()), key=lambda x: -x[0].score)
        limit = groups[0][0].score - self.beam
        kept = []
        for best, group in groups[: self.max_histories]:
            if best.score < limit:
                break
            number = len(self.grown.nodes)
            self.grown.nodes.append(node)
            for arrival in group if node else ():
                self._link(arrival.source, number, arrival.link, arrival.log_prob)
            kept.append((number, best))
        return kept

    def _link(self, start: int, end: int, link: int, log_prob: float) -> None:
        self.grown.starts.append(start)
        self.grown.ends.append(end)
        self.grown.links.append(link)
        self.grown.log_probs.append(log_prob)

    def _leave(self, here: list[tuple[int, _Arrival]], arriving: dict[int, list[_Arrival]]) -> None:
        """Take every link out of these nodes; a word after a history is scored once, wherever it leads."""
        if not here:
            return
        states = self._gathered([arrival for _, arrival in here])
        pairs: dict[tuple[int, int], int] = {}
        for row, (number, _) in enumerate(here):
            node = self.grown.nodes[number]
            for label in self.labels[self.edges[node] : self.edges[node + 1]]:
                if label:
                    pairs.setdefault((row, label), len(pairs))
        words = [_Word(states, row, self.lattice.words[label]) for row, label in pairs]
        log_probs = self._scores(words, states)
        for row, (number, arrival) in enumerate(here):
            node = self.grown.nodes[number]
            for link in range(self.edges[node], self.edges[node + 1]):
                place = pairs.get((row, self.labels[link]), -1)
                log_prob = log_probs[place] if place >= 0 else 0.0
                arriving[self.ends[link]].append(
                    _Arrival(
                        number,
                        link,
                        log_prob,
                        arrival.score + self.totals[link] + self.factor * log_prob,
                        self._extended(arrival.history, self.labels[link]),
                        words[place] if place >= 0 else arrival.word,
                    )
                )

    def _scores(self, words: list[_Word], states: State) -> list[float]:
        if not words:
            return []
        rows = np.array([word.row for word in words], np.int64)
        scores: list[float] = self.model.peek([word.text for word in words], select(states, rows)).tolist()
        return scores

    def _gathered(self, arrivals: list[_Arrival]) -> State:
        """The states of these histories as one, in their order; words that nobody has read yet are read now, so that
        none is read for a history that did not go on."""
        unread = list(dict.fromkeys(arrival.word for arrival in arrivals if arrival.word.after is None))
        if unread:
            before = gather([(word.states, word.row) for word in unread])
            _, after = self.model.step([word.text for word in unread], before)
            for row, word in enumerate(unread):
                word.after = (after, row)
        return gather([arrival.word.after for arrival in arrivals if arrival.word.after is not None])

    def _extended(self, history: _History, label: int) -> _History:
        if not label or self.kept_words == 0:
            return history
        history = (*history, label)
        return history if self.kept_words is None else history[-self.kept_words :]

    def _finished(self, ended: list[tuple[int, _Arrival]]) -> Lattice:
        """One last node more, which the histories at the old last node reach by ``</s>``."""
        log_probs = self.model.end(self._gathered([arrival for _, arrival in ended]))
        last = len(self.grown.nodes)
        for (number, _), log_prob in zip(ended, log_probs.tolist(), strict=True):
            self._link(number, last, -1, log_prob)
        self.grown.nodes.append(self.lattice.final)
        return _rebuilt(self.lattice, self.grown, self.name, self.weights)


def _score(arrival: _Arrival) -> float:
    return arrival.score


def _levels(lattice: Lattice) -> list[list[int]]:
    """Nodes by the number of links on the longest way to them: links lead to higher levels only."""
    depth = [0] * lattice.nodes
    for start, end in zip(lattice.starts.tolist(), lattice.ends.tolist(), strict=True):
        depth[end] = max(depth[end], depth[start] + 1)
    levels: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for node, level in enumerate(depth):
        levels[level].append(node)
    return levels


def _rebuilt(lattice: Lattice, grown: _Grown, name: str, weights: ScoreWeights) -> Lattice:
    """The grown lattice; nodes that beam or number left without a way on are gone, and with them their links."""
    links = np.array(grown.links, np.int64)
    old, real = np.maximum(links, 0), links >= 0
    scores: dict[str, Scores] = {
        key: np.where(real, values[old], 0.0) for key, values in lattice.scores.items() if key != name
    }
    scores[name] = np.array(grown.log_probs)
    order = np.argsort(np.array(grown.starts), kind="stable")
    nodes: Integers = np.array(grown.nodes, np.int64)
    return replace(
        lattice,
        times=lattice.times[nodes],
        starts=np.array(grown.starts, np.int64)[order],
        ends=np.array(grown.ends, np.int64)[order],
        labels=np.where(real, lattice.labels[old], 0)[order],
        scores={key: values[order] for key, values in scores.items()},
        weights=weights,
        notes={
            key: tuple(values[i] if i >= 0 else "" for i in links[order].tolist())
            for key, values in lattice.notes.items()
        },
    ).keeping(np.ones(len(links), np.bool_))
