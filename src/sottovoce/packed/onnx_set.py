"""A transducer that came as ONNX graphs: the file holds the graphs, and their weights as tensors like any others.

Weight ``initializer`` of graph ``encoder`` is the matrix ``encoder.{initializer}.weight``, rows are outputs; the graph
without it is the bytes of ``graphs.encoder``. No runtime of ours runs such a model: it is compressed, and written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sottovoce.errors import FormatError

PARTS = ("encoder", "decoder", "joiner")
TOKENS = "tokens"


@dataclass(frozen=True)
class OnnxSetArchitecture:
    """weights: shape (R, ...) of each; transposed: those whose matrix the graph wants as (C, R); lengths: bytes of each
    graph, and of tokens.txt."""

    weights: Mapping[str, tuple[int, ...]]
    transposed: frozenset[str]
    lengths: Mapping[str, int]

    TYPE: ClassVar[str] = "onnx-transducer"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "type": self.TYPE,
            "weights": {name: list(shape) for name, shape in self.weights.items()},
            "transposed": sorted(self.transposed),
            "lengths": dict(self.lengths),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OnnxSetArchitecture:
        """Raises FormatError for anything that ``to_dict`` did not write."""
        try:
            if data["type"] != cls.TYPE or set(data["lengths"]) != {*PARTS, TOKENS}:
                raise ValueError("another type, or other graphs")
            weights = {str(name): tuple(int(x) for x in shape) for name, shape in data["weights"].items()}
            lengths = {str(name): int(count) for name, count in data["lengths"].items()}
            return cls(weights, frozenset(map(str, data["transposed"])), lengths)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"architecture: expected a set of ONNX graphs ({error})") from error


def weight_name(part: str, initializer: str) -> str:
    """The tensor that holds a graph's weight."""
    return f"{part}.{initializer}.weight"


def graph_name(part: str) -> str:
    """The tensor that holds a graph, or tokens.txt, as bytes."""
    return f"graphs.{part}"
