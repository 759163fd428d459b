"""Which words can have been said, and how likely each is where: a beam search over the lexicon's tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.confusions.channel import Channel
from sottovoce.data.confusions.lexicon import Integers, Lexicon

Floats = NDArray[np.float64]

_LOST = 2  # phones that may be missing between two observations, or at a word's ends
_MOST = 1_000  # partial words kept at one observation


class Links(NamedTuple):
    """Words between observations: int64 ``starts``, ``ends``, ``words`` (L,), and float64 ``acoustic`` (L,)."""

    starts: Integers
    ends: Integers
    words: Integers
    acoustic: Floats


class _Tokens(NamedTuple):
    """Partial words: the observation before which each began, its node, and the log-likelihood since, (K,) each."""

    starts: Integers
    nodes: Integers
    scores: Floats


@dataclass(frozen=True)
class Decoder:
    """Finds words in observations. ``beam``, in nats: partial words stay within it of the best one that ends at the
    same observation, and links are on paths within it of the best path."""

    lexicon: Lexicon
    channel: Channel
    beam: float = 10.0

    def links(self, observed: Floats) -> Links:
        """Words with their log-likelihoods, each by its best alignment, between observations of (T, D), on paths from 0
        to T; by acoustic score and unigram. None where no path was found. Every word holds an observation."""
        emissions = self.channel.log_likelihoods(observed)  # (T, P)
        best = np.full(len(observed) + 1, -np.inf)  # of the paths to each place
        best[0] = 0.0
        tokens, found = _none(), list[Links]()
        for time in range(len(observed) + 1):
            tokens = self._skipping(tokens, best)
            links = self._words(tokens, time)
            if len(links.words):
                found.append(links)
                best[time] = (best[links.starts] + links.acoustic + self.lexicon.unigram[links.words]).max()
            if time == len(observed):
                break
            if np.isfinite(best[time]):
                fresh = _Tokens(np.array([time]), np.zeros(1, np.int64), np.zeros(1))
                tokens = _joined(tokens, self._skipping(fresh, best))
            tokens = self._merged(self._advanced(tokens, emissions[time], time), best)
        return self._on_paths(_all(found), best)

    def _totals(self, tokens: _Tokens, best: Floats) -> Floats:
        return best[tokens.starts] + tokens.scores + self.lexicon.ahead[tokens.nodes]

    def _pruned(self, tokens: _Tokens, best: Floats) -> _Tokens:
        totals = self._totals(tokens, best)
        if not len(totals):
            return tokens
        threshold = totals.max() - self.beam
        if len(totals) > _MOST:
            threshold = max(threshold, np.partition(totals, -_MOST)[-_MOST])
        return _chosen(tokens, totals >= threshold)

    def _merged(self, tokens: _Tokens, best: Floats) -> _Tokens:
        """Within the beam, of tokens that began at one place and are at one node the best."""
        tokens = self._pruned(tokens, best)
        keys = tokens.starts * len(self.lexicon.phone) + tokens.nodes
        order = np.lexsort((-tokens.scores, keys))
        keys = keys[order]
        first = np.ones(len(keys), np.bool_)
        first[1:] = keys[1:] != keys[:-1]
        return _chosen(tokens, order[first])

    def _skipping(self, tokens: _Tokens, best: Floats) -> _Tokens:
        """Also what is reached when the next phones are lost."""
        layer, layers = tokens, [tokens]
        for _ in range(_LOST):
            layer = self._children(layer)
            layer = self._pruned(layer._replace(scores=layer.scores + self.channel.deleting), best)
            layers.append(layer)
        return self._merged(_joined(*layers), best)

    def _advanced(self, tokens: _Tokens, emission: Floats, time: int) -> _Tokens:
        """After one more observation: of the next phone, or of none."""
        heard = self._children(tokens)
        gained = self.channel.emitting + emission[self.lexicon.phone[heard.nodes]]
        stays = _chosen(tokens, tokens.starts < time)
        return _joined(
            heard._replace(scores=heard.scores + gained),
            stays._replace(scores=stays.scores + self.channel.inserting),
        )

    def _children(self, tokens: _Tokens) -> _Tokens:
        first, last = self.lexicon.children[tokens.nodes], self.lexicon.children[tokens.nodes + 1]
        origins, nodes = _spread(first, last)
        return _Tokens(tokens.starts[origins], nodes, tokens.scores[origins])

    def _words(self, tokens: _Tokens, time: int) -> Links:
        first, last = self.lexicon.ends[tokens.nodes], self.lexicon.ends[tokens.nodes + 1]
        origins, places = _spread(first, last)
        ends = np.full(len(places), time)
        return Links(tokens.starts[origins], ends, self.lexicon.ending[places], tokens.scores[origins])

    def _on_paths(self, links: Links, best: Floats) -> Links:
        totals = links.acoustic + self.lexicon.unigram[links.words]
        after = np.full(len(best), -np.inf)
        after[-1] = 0.0
        bounds = np.searchsorted(links.ends, np.arange(len(best) + 1))
        for time in range(len(best) - 1, 0, -1):
            span = slice(bounds[time], bounds[time + 1])
            np.maximum.at(after, links.starts[span], totals[span] + after[time])
        through = best[links.starts] + totals + after[links.ends]
        kept = np.isfinite(through) & (through >= best[-1] - self.beam)
        return Links(*(column[kept] for column in links))


def _spread(first: Integers, last: Integers) -> tuple[Integers, Integers]:
    """For ranges first[k] to last[k]: k of each item, and the items."""
    sizes = last - first
    origins = np.repeat(np.arange(len(sizes)), sizes)
    return origins, np.arange(len(origins)) - np.repeat(np.cumsum(sizes) - sizes - first, sizes)


def _chosen(tokens: _Tokens, which: NDArray[np.bool_] | Integers) -> _Tokens:
    return _Tokens(tokens.starts[which], tokens.nodes[which], tokens.scores[which])


def _joined(*parts: _Tokens) -> _Tokens:
    starts, nodes, scores = zip(*parts, strict=True)
    return _Tokens(np.concatenate(starts), np.concatenate(nodes), np.concatenate(scores))


def _none() -> _Tokens:
    return _Tokens(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _all(found: list[Links]) -> Links:
    none = np.zeros(0, np.int64)
    columns = zip(Links(none, none, none, np.zeros(0)), *found, strict=True)
    return Links(*(np.concatenate(parts) for parts in columns))
