"""The messages of the socket, version 1: docs/serve.md is their description for other clients."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sottovoce.errors import SottovoceError
from sottovoce.serve.limits import CONTROL_BYTES

VERSION = 1
DONE, MALFORMED, TOO_BIG, FAILED, BUSY = 1000, 1008, 1009, 1011, 1013  # close codes of RFC 6455, and its registry

_DTYPES: dict[str, np.dtype[np.int16] | np.dtype[np.float32]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
Samples = NDArray[np.float32] | NDArray[np.int16]


class RefusedError(SottovoceError):
    """What ends a connection: one line for the client, and a close code."""

    def __init__(self, line: str, code: int = MALFORMED) -> None:
        super().__init__(line)
        self.code = code


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Start(_Message):
    version: Literal[1]
    models: list[str] | None = None
    """Names of the models that listen, by default all."""


class SamplesStart(_Start):
    """Sound follows as it is spoken: binary messages of little-endian samples, one channel."""

    type: Literal["samples"]
    rate: int = Field(ge=1_000, le=768_000)
    encoding: Literal["int16", "float32"] = "float32"
    endpoints: bool = True
    """Whether a pause begins a new segment."""


class FileStart(_Start):
    """A recording follows: binary messages with the bytes of a file that libsndfile reads."""

    type: Literal["file"]
    name: str = Field(default="recording", min_length=1, max_length=255)
    bytes: int = Field(ge=1)
    paced: bool = False
    """Decode it at the speed at which it was spoken."""
    endpoints: bool = False


class End(_Message):
    """No more binary messages."""

    type: Literal["end"]


Start = SamplesStart | FileStart
_CLIENT: TypeAdapter[SamplesStart | FileStart | End] = TypeAdapter(
    Annotated[SamplesStart | FileStart | End, Field(discriminator="type")]
)


class ModelFacts(_Message):
    """One model: bits of a packed weight on average, 32 for floats; bytes of the file, of the file without tokenizer,
    of its parameters as float32; what computes it."""

    name: str
    bits: float
    file_bytes: int
    model_bytes: int
    fp32_bytes: int
    kernel: str


class Ready(_Message):
    """The first message to a client."""

    type: Literal["ready"] = "ready"
    version: int = VERSION
    models: list[ModelFacts]
    limits: dict[str, int | float]
    """Of ``serve.limits.Limits``."""


class Heard(_Message):
    """A word: seconds from the start of the sound, and its confidence in [0, 1]."""

    text: str
    start: float
    end: float
    confidence: float


class Transcript(_Message):
    """The segment so far of one model. sound: seconds decoded; spent: seconds of computing on them; latency: seconds
    from the arrival of the last of that sound to this text, null where sound does not come at its own speed; words:
    once the segment is final."""

    type: Literal["transcript"] = "transcript"
    model: str
    segment: int
    text: str
    final: bool
    sound: float
    spent: float
    latency: float | None
    words: list[Heard] | None = None


class Done(_Message):
    """One model has decoded all sound; after the last model's the server closes with 1000."""

    type: Literal["done"] = "done"
    model: str
    sound: float
    spent: float


class Refusal(_Message):
    """Why the server closes now, in one line."""

    type: Literal["error"] = "error"
    message: str


def read_control(text: str) -> Start | End:
    """A client's text message. Raises RefusedError with one line for anything else."""
    if len(text.encode()) > CONTROL_BYTES:
        raise RefusedError(f"a control message has at most {CONTROL_BYTES} bytes, found {len(text.encode())}", TOO_BIG)
    try:
        return _CLIENT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"control message: {place}" if place else "control message"
        raise RefusedError(f"{where}: {' '.join(first['msg'].split())}") from None


def read_samples(content: bytes, encoding: str) -> Samples:
    """Samples (S,) of a binary message. Raises RefusedError for a part of a sample."""
    dtype = _DTYPES[encoding]
    if not content or len(content) % dtype.itemsize:
        expected = f"{dtype.itemsize} bytes for each {encoding} sample"
        raise RefusedError(f"binary message: expected {expected}, found {len(content)} bytes")
    return np.frombuffer(content, np.uint8).view(dtype)
