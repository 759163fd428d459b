"""Whether graphs compute the network of the packed file: they are run in ONNX Runtime beside the packed runtime.

The peer is the runtime in float activations, over the weights that the form of the graphs holds: what is left is the
rounding of activations (int8, int4), or of float32 sums in another order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sottovoce.errors import ExportError
from sottovoce.export.rounded import rounded
from sottovoce.export.sessions import Session
from sottovoce.export.weights import WeightForm
from sottovoce.packed import LstmLmArchitecture, PackedModel, Pcen, lm_architecture
from sottovoce.runtime import PackedRnnt
from sottovoce.runtime.arithmetic import Floats, log_softmax
from sottovoce.runtime.lstm_lm import LstmLmNetwork
from sottovoce.runtime.native_layers import layer_source
from sottovoce.runtime.transformer_lm import TransformerLmNetwork

FLOORS_DB: Mapping[WeightForm, float] = {"codes": 60.0, "float": 60.0, "int8": 10.0, "int4": 10.0}
"""How far the error of each form must lie under the outputs, in dB: a thousandth where weights and activations are
those of the packed runtime; where activations are rounded, enough to know the network by."""
_N, _CHUNKS = 2, 3
Graphs = Mapping[str, onnx.ModelProto]
Pair = tuple[str, NDArray[Any], NDArray[Any]]
"""The graph, what the packed runtime gives, and what the graph gives."""


@dataclass(frozen=True)
class Closeness:
    """How near a graph comes: the variance of the expected outputs over the mean square of the error, in dB, and the
    largest error."""

    graph: str
    signal_to_noise_db: float
    largest: float


def check_close(pairs: Iterable[Pair], form: WeightForm) -> list[Closeness]:
    """One entry a graph. Raises ExportError naming a graph below the floor of its form."""
    kept: dict[str, list[tuple[Floats, Floats]]] = defaultdict(list)
    for name, expected, found in pairs:
        kept[name].append((expected.ravel(), found.ravel()))
    closeness = [_closeness(name, *map(np.concatenate, zip(*of, strict=True))) for name, of in kept.items()]
    for one in closeness:
        if not one.signal_to_noise_db >= FLOORS_DB[form]:
            raise ExportError(
                f"{one.graph}: expected outputs at least {FLOORS_DB[form]:.0f} dB over their error beside the packed "
                f"runtime, found {one.signal_to_noise_db:.1f} dB"
            )
    return closeness


def _closeness(name: str, expected: Floats, found: Floats) -> Closeness:
    error = (found - expected).astype(np.float64)
    noise = float(np.mean(np.square(error)))
    ratio = float("inf") if noise == 0 else float(10 * np.log10(max(float(np.var(expected)), 1e-30) / noise))
    return Closeness(name, ratio, float(np.abs(error).max()))


def onnx_rnnt_pairs(graphs: Graphs, model: PackedModel, form: WeightForm) -> Iterator[Pair]:
    """Encoder chunks, predictor steps and a joiner of ``networks.onnx_graphs``, on random inputs."""
    network, rng = PackedRnnt(rounded(model, form), arithmetic="float"), np.random.default_rng(0)
    a = network.architecture
    session = Session(graphs["encoder"])
    _, *state = (session.zeros(N=_N, T=0) | _pcen_start(network)).values()
    theirs = network.encoder_start(_N)
    for features in _chunks(rng, model, network, 3 * a.subsampling):
        expected, theirs = network.encoder_step(features, theirs)
        frames, *state = session(features, *state)
        yield "encoder", expected, frames
    session = Session(graphs["predictor"])
    _, *state = session.zeros(N=_N).values()
    theirs = network.predictor_start(_N)
    for tokens in _histories(rng, a.vocabulary):
        predicted, theirs = network.predictor_step(tokens, theirs)
        output, *state = session(tokens, *state)
        yield "predictor", predicted, output
    (logits,) = Session(graphs["joiner"])(expected[:, 0], predicted)
    yield "joiner", network.joiner(expected[:, 0], predicted), log_softmax(logits)


def lm_pairs(graphs: Graphs, model: PackedModel, form: WeightForm) -> Iterator[Pair]:
    """Log-probabilities of ``networks.onnx_graphs`` of a language model, over a few pieces of random tokens."""
    a = lm_architecture(model.architecture)
    source = layer_source(rounded(model, form), arithmetic="float")
    lstm = isinstance(a, LstmLmArchitecture)
    network = LstmLmNetwork(a, source) if isinstance(a, LstmLmArchitecture) else TransformerLmNetwork(a, source)
    dense = source.dense("output", a.vocabulary, a.width)
    session, rng = Session(graphs["lm"]), np.random.default_rng(0)
    _, *state = session.zeros(N=_N, T=0, P=0).values()
    theirs = network.start(_N)
    steps = 4 if lstm else max(1, min(4, a.context // _CHUNKS))  # type: ignore[union-attr]
    for _ in range(_CHUNKS if lstm or a.context >= _CHUNKS else 1):  # type: ignore[union-attr]
        tokens = rng.integers(0, a.vocabulary, (_N, steps))
        hidden, theirs = network.read(tokens.ravel(), np.full(_N, steps), theirs)
        logits, *state = session(tokens, *state)
        yield "lm", log_softmax(dense(hidden)), log_softmax(logits.reshape(-1, a.vocabulary))


def lstm_type_pairs(graphs: Graphs, model: PackedModel, form: WeightForm, window: int) -> Iterator[Pair]:
    """The same of ``sherpa.lstm_graphs``; the decoder's windows are filled as sherpa-onnx fills them."""
    network, rng = PackedRnnt(rounded(model, form), arithmetic="float"), np.random.default_rng(0)
    session = Session(graphs["encoder"])
    x, *state = session.zeros(N=_N).values()
    theirs = network.encoder_start(_N)
    for features in _chunks(rng, model, network, x.shape[1]):
        expected, theirs = network.encoder_step(features, theirs)
        frames, *state = session(features, *state)
        yield "encoder", expected, frames
    session = Session(graphs["decoder"])
    theirs, seen = network.predictor_start(_N), np.full((_N, window), -1, np.int64)
    for tokens in _histories(rng, network.vocabulary)[:window]:
        predicted, theirs = network.predictor_step(tokens, theirs)
        seen = np.concatenate([seen[:, 1:], np.maximum(tokens, 0)[:, None]], axis=1)
        (output,) = session(seen)
        yield "decoder", predicted, output
    (logits,) = Session(graphs["joiner"])(expected[:, 0], predicted)
    yield "joiner", network.joiner(expected[:, 0], predicted), log_softmax(logits)


def nemo_pairs(graphs: Graphs, model: PackedModel, form: WeightForm) -> Iterator[Pair]:
    """The same of ``sherpa.nemo_graphs``: batches of one for all but the encoder, and the blank last."""
    network, rng = PackedRnnt(rounded(model, form), arithmetic="float"), np.random.default_rng(0)
    session = Session(graphs["encoder"])
    inputs = session.zeros(B=_N)
    caches, chunk = list(inputs.values())[2:], inputs["audio_signal"].shape[2]
    theirs = network.encoder_start(_N)
    for features in _chunks(rng, model, network, chunk):
        expected, theirs = network.encoder_step(features, theirs)
        frames, _, *caches = session(np.ascontiguousarray(features.swapaxes(1, 2)), np.full(_N, chunk), *caches)
        yield "encoder", expected, frames.swapaxes(1, 2)
    session, last = Session(graphs["decoder"]), network.vocabulary - 1
    _, _, *state = session.zeros().values()
    theirs = network.predictor_start(1)
    for tokens in _histories(rng, network.vocabulary):
        predicted, theirs = network.predictor_step(tokens[:1], theirs)
        token = last if tokens[0] < 0 else tokens[0] - 1
        output, _, *state = session(np.array([[token]], np.int32), np.ones(1, np.int32), *state)
        yield "decoder", predicted, output
    (logits,) = Session(graphs["joiner"])(expected[:1, 0, :, None], predicted[..., None])
    yield "joiner", np.roll(network.joiner(expected[:1, 0], predicted), -1), log_softmax(logits)


def _pcen_start(network: PackedRnnt) -> dict[str, NDArray[Any]]:
    a = network.architecture
    return {"mean": np.full((_N, a.features), Pcen.START, np.float32)} if a.pcen else {}


def _chunks(rng: np.random.Generator, model: PackedModel, network: PackedRnnt, frames: int) -> Iterator[Floats]:
    """Chunks (N, T, F) distributed as the features of the network's training were; log-mel where it has PCEN."""
    a = network.architecture
    for _ in range(_CHUNKS):
        noise = rng.normal(size=(_N, frames, a.features)).astype(np.float32)
        if a.pcen:
            yield noise * 2 - 8
        else:
            yield noise / model.decode("encoder.istd") + model.decode("encoder.mean")


def _histories(rng: np.random.Generator, vocabulary: int) -> Sequence[NDArray[np.int64]]:
    """The start, then random tokens: (N,) each."""
    return [np.full(_N, -1, np.int64), *rng.integers(1, vocabulary, (6, _N))]
