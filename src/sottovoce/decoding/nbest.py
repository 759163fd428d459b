"""What a search finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sottovoce.decoding.protocol import BLANK


@dataclass(frozen=True)
class Hypothesis:
    """One token sequence of one utterance.

    tokens: ids, blanks left out. times: the encoder frame, counted from 0, at which each token was emitted.
    token_log_probs: the joiner's log-probability of each token there. score: the hypothesis' log-probability, in nats,
    blanks (less any blank penalty) included; a beam search sums it over the alignments that it kept.
    """

    tokens: tuple[int, ...]
    times: tuple[int, ...]
    score: float
    token_log_probs: tuple[float, ...]


@dataclass(frozen=True)
class NBest:
    """The hypotheses of one utterance, best first, all with different tokens; never empty."""

    hypotheses: tuple[Hypothesis, ...]

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]

    def __len__(self) -> int:
        return len(self.hypotheses)

    def __iter__(self) -> Iterator[Hypothesis]:
        return iter(self.hypotheses)


@dataclass(frozen=True, slots=True)
class Trace:
    """The last token of a hypothesis and the way back: hypotheses share their beginnings, and extending one is O(1)."""

    parent: Trace | None
    token: int
    time: int
    log_prob: float


EMPTY = Trace(None, BLANK, -1, 0.0)


def follow(trace: Trace, score: float) -> Hypothesis:
    """The whole hypothesis that ends in this trace."""
    steps: list[Trace] = []
    while trace.parent is not None:
        steps.append(trace)
        trace = trace.parent
    steps.reverse()
    return Hypothesis(
        tokens=tuple(step.token for step in steps),
        times=tuple(step.time for step in steps),
        score=score,
        token_log_probs=tuple(step.log_prob for step in steps),
    )
