"""What packed language models are made of. Token 0 is ``</s>``: it ends a sentence, and it is what a sentence begins
from; token 1 is ``<unk>``; the rest follow by falling frequency, so that frequent words are the first rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from sottovoce.errors import FormatError

END, UNKNOWN = 0, 1
MAX_CONTEXT = 65_536

NORMS = ("pre", "post")
POSITIONS = ("learned", "sinusoidal")


@dataclass(frozen=True)
class LstmLmArchitecture:
    """Embedding (V, embedding), ``layers`` LSTMs of ``units``, and log-softmax(W h + b).

    ``tied``: the output's W is the embedding, which wants ``units`` equal to ``embedding``.
    Tensors: ``embedding.weight``, ``lstm.{weight_ih_l{i},weight_hh_l{i},bias_ih_l{i},bias_hh_l{i}}``,
    ``output.{weight,bias}``.
    """

    vocabulary: int
    embedding: int = 256
    units: int = 256
    layers: int = 1
    tied: bool = False

    TYPE: ClassVar[str] = "lstm-lm"

    def __post_init__(self) -> None:
        _check_sizes(self, ("vocabulary", "embedding", "units", "layers"), ("tied",))
        if self.tied and self.units != self.embedding:
            raise FormatError(
                f"architecture: tied embeddings want units equal to embedding, found {self.units} and {self.embedding}"
            )

    @property
    def width(self) -> int:
        """Width of what the output layer reads."""
        return self.units

    def layer_inputs(self) -> list[int]:
        """Input width of each LSTM layer, (layers,)."""
        return [self.embedding] + [self.units] * (self.layers - 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"type": self.TYPE, **asdict(self)}


@dataclass(frozen=True)
class TransformerLmArchitecture:
    """A decoder-only Transformer (Vaswani et al. 2017, arXiv 1706.03762) with GELU in its tanh form.

    x = embedding + position; then ``layers`` times attention over ``heads`` heads, and a feed-forward layer of
    ``feed_forward`` units, each with its residual. ``norm`` "pre" normalizes what a sublayer reads, and once more after
    the last layer; "post" normalizes the sum of a sublayer and its residual. At most ``context`` tokens are seen: when
    they are full, the newer half is kept and read anew from position 0. ``positions`` are learned, or the paper's
    sinusoids. ``tied``: the output's weight is the embedding.
    Tensors: ``embedding.weight``, ``positions`` if learned, ``layers.{i}.{query,key,value,attended,expand,contract}``
    with ``.weight`` and ``.bias``, ``layers.{i}.{attention_norm,feed_forward_norm}``, ``norm`` if pre, ``output``.
    """

    vocabulary: int
    width: int = 256
    layers: int = 2
    heads: int = 4
    feed_forward: int = 512
    context: int = 128
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["learned", "sinusoidal"] = "learned"
    tied: bool = False

    TYPE: ClassVar[str] = "transformer-lm"

    def __post_init__(self) -> None:
        _check_sizes(self, ("vocabulary", "width", "layers", "heads", "feed_forward", "context"), ("tied",))
        for name, known in (("norm", NORMS), ("positions", POSITIONS)):
            if getattr(self, name) not in known:
                raise FormatError(f"architecture: {name} must be {' or '.join(known)}, found {getattr(self, name)!r}")
        if self.width % (2 * self.heads):
            raise FormatError(
                f"architecture: width must be a multiple of twice the {self.heads} heads, found {self.width}"
            )
        if not 2 <= self.context <= MAX_CONTEXT:
            raise FormatError(f"architecture: context must be 2 to {MAX_CONTEXT} tokens, found {self.context}")

    @property
    def kept(self) -> int:
        """Tokens that stay when the context is full."""
        return self.context // 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"type": self.TYPE, **asdict(self)}


LmArchitecture = LstmLmArchitecture | TransformerLmArchitecture
_TYPES: dict[str, type[LstmLmArchitecture] | type[TransformerLmArchitecture]] = {
    LstmLmArchitecture.TYPE: LstmLmArchitecture,
    TransformerLmArchitecture.TYPE: TransformerLmArchitecture,
}


def is_language_model(architecture: Mapping[str, Any]) -> bool:
    """Whether a file's architecture is a language model's."""
    return architecture.get("type") in _TYPES


def lm_architecture(data: Mapping[str, Any]) -> LmArchitecture:
    """The architecture that ``to_dict`` wrote. Raises FormatError for another type, an unknown key or a bad value."""
    fields = dict(data)
    kind = fields.pop("type", None)
    if kind not in _TYPES:
        raise FormatError(f"architecture: expected type {' or '.join(map(repr, _TYPES))}, found {kind!r}")
    try:
        return _TYPES[kind](**fields)
    except TypeError as error:
        raise FormatError(f"architecture: {str(error).split('__init__() ')[-1]}") from error


def _check_sizes(architecture: object, sizes: tuple[str, ...], switches: tuple[str, ...]) -> None:
    for name in sizes:
        value = getattr(architecture, name)
        low, high = (3 if name == "vocabulary" else 1), 10_000_000
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise FormatError(f"architecture: {name} must be an integer in [{low}, {high}], found {value!r}")
    for name in switches:
        if not isinstance(getattr(architecture, name), bool):
            raise FormatError(f"architecture: {name} must be true or false, found {getattr(architecture, name)!r}")
