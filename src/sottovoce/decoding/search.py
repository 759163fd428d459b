"""One face for all searches, and the choice between them by name."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from sottovoce.decoding.beam import Beam
from sottovoce.decoding.endpoint import Segment
from sottovoce.decoding.fusion import Fusion
from sottovoce.decoding.greedy import Greedy
from sottovoce.decoding.hotwords import ContextGraph
from sottovoce.decoding.nbest import NBest
from sottovoce.decoding.protocol import Floats, Integers, Transducer
from sottovoce.errors import ConfigError

Method = Literal["greedy", "beam"]


class Search(Protocol):
    """A search carries a state of its own type, a frozen dataclass of arrays whose axis 0 is the utterance."""

    def start(self, model: Transducer, n: int) -> Any:
        """The state of n utterances before their first frame."""

    def advance(self, model: Transducer, frames: Floats, lengths: Integers, state: Any) -> Any:
        """The state after frames float32 (N, T, J), of which the first lengths (N,) count; any chunking ends alike."""

    def restart(self, state: Any) -> Any:
        """A new segment: nothing found yet, frames counted on, the history of the best hypothesis kept."""

    def segments(self, state: Any) -> list[Segment]:
        """How far the present segment of each utterance is."""

    def results(self, state: Any) -> list[NBest]:
        """What was found so far in the present segment, for each utterance."""


def make_search(
    method: str = "greedy",
    *,
    beam: int = 4,
    blank_penalty: float = 0.0,
    max_symbols: int = 1,
    hotwords: ContextGraph | None = None,
    fusion: Fusion | None = None,
) -> Greedy | Beam:
    """The search of that name; beam counts for "beam" only. Raises ConfigError for an option that cannot be used."""
    if method == "greedy":
        if hotwords is not None:
            raise ConfigError("hotwords need a beam search: method must be 'beam', found 'greedy'")
        if fusion is not None:
            raise ConfigError("a language model needs a beam search: method must be 'beam', found 'greedy'")
        return Greedy(max_symbols, blank_penalty)
    if method != "beam":
        raise ConfigError(f"method must be 'greedy' or 'beam', found {method!r}")
    if max_symbols != 1:
        raise ConfigError(f"beam search takes one symbol a frame: max_symbols must be 1, found {max_symbols}")
    return Beam(beam, blank_penalty, hotwords, fusion)
