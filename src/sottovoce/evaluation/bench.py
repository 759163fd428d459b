"""How fast a packed model runs on this machine: latency a frame, and how near it comes to what memory can deliver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.decoding.search import make_search
from sottovoce.errors import ConfigError, FormatError
from sottovoce.evaluation.bandwidth import read_bandwidth
from sottovoce.evaluation.cold import ColdStart, cold_start
from sottovoce.packed import PackedModel, load_model
from sottovoce.runtime import KernelChoice, ModelInput, NativeRnnt, PackedRnnt, choose_kernel, make_network
from sottovoce.runtime.kernels import NUMPY, check_threads
from sottovoce.runtime.native import NotPackedError
from sottovoce.runtime.network import Network

_WARM_UP = 10  # frames
_ROUND = 20  # frames of one path before the next has its turn
_TURN_UP = 3  # frames before those


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one encoder frame: its share of the encoder, one joiner, a predictor step for each token."""

    p50: float
    p90: float
    p99: float
    mean: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        p50, p90, p99 = np.percentile(np.asarray(seconds) * 1e3, [50, 90, 99])
        return cls(float(p50), float(p90), float(p99), float(np.mean(seconds) * 1e3))


@dataclass(frozen=True)
class Bench:
    """Figures of one model on this machine. frame_seconds: sound that an encoder frame stands for; real_time_factor:
    mean time a frame over that; streamed_bytes: of weights, a frame, tokens included as they came; bandwidth: bytes a
    second that as many threads read from memory; share: streamed_bytes over P50, of that bandwidth (above 1 where
    weights stay in a cache). The last three are None on NumPy, which has no tiles."""

    model: str
    kernel: str
    why: str
    num_threads: int
    parameters: int
    file_bytes: int
    frames: int
    tokens: int
    frame_seconds: float
    latency_ms: Latency
    real_time_factor: float
    cold: ColdStart
    streamed_bytes: int | None
    bandwidth: float | None
    share: float | None


@dataclass(frozen=True)
class PathSpeed:
    """One kernel path on a model; latency is None where this machine cannot run it."""

    name: str
    used: bool
    latency_ms: Latency | None


@dataclass(frozen=True)
class _Timed:
    seconds: list[float]
    tokens: int


def bench(path: Path, *, num_threads: int = 1, frames: int = 500) -> Bench:
    """Streams noise through a model, one encoder frame at a time, greedily, and measures its cold start.

    A frame's work depends on its values only through the tokens that it emits. Raises FormatError for a file that
    cannot run, ConfigError for options that cannot be used.
    """
    return bench_in_turns([path], num_threads=num_threads, frames=frames)[0]


def bench_in_turns(
    paths: Sequence[Path],
    *,
    num_threads: int = 1,
    frames: int = 500,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Bench]:
    """``bench`` of several models that take turns of a few frames, so that a slow minute of the machine falls on all.

    ``progress`` is told of rounds and how many there are. Raises as ``bench`` does.
    """
    _check_frames(frames)
    check_threads(num_threads)
    models = [load_model(path) for path in paths]
    networks = [_network(path, model, num_threads) for path, model in zip(paths, models, strict=True)]
    timed = _in_turns([_stepper(network) for network in networks], frames, progress)
    found = zip(paths, models, networks, timed, strict=True)
    return [_figures(path, model, network, times, num_threads) for path, model, network, times in found]


def _network(path: Path, model: PackedModel, num_threads: int) -> Network:
    try:
        return make_network(model, num_threads=num_threads)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def _in_turns(
    runs: Sequence[Callable[[int], _Timed]],
    frames: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[_Timed]:
    """So many frames of each: one in a stretch, several in rounds. What a turn begins with is not counted: the caches
    are another model's then."""
    for run in runs:
        run(_WARM_UP)
    if len(runs) == 1:
        return [runs[0](frames)]
    counts = [min(_ROUND, frames - start) for start in range(0, frames, _ROUND)]
    rounds = []
    for k, count in enumerate(counts):
        rounds.append([_after_some(run, count) for run in runs])
        progress(k + 1, len(counts))
    return [_Timed([s for t in of for s in t.seconds], sum(t.tokens for t in of)) for of in zip(*rounds, strict=True)]


def _after_some(run: Callable[[int], _Timed], count: int) -> _Timed:
    run(_TURN_UP)
    return run(count)


def _figures(path: Path, model: PackedModel, network: Network, timed: _Timed, num_threads: int) -> Bench:
    cold = cold_start(path, num_threads=num_threads)
    frames = len(timed.seconds)
    latency = Latency.of(timed.seconds)
    kernel, why = _kernel(network)
    streamed = _streamed_bytes(network, timed.tokens / frames)
    bandwidth = read_bandwidth(num_threads, kernel) if isinstance(network, NativeRnnt) else None
    frame_seconds = network.architecture.subsampling / ModelInput.from_dict(model.input).rate
    return Bench(
        model=str(path),
        kernel=kernel,
        why=why,
        num_threads=num_threads,
        parameters=model.parameters,
        file_bytes=path.stat().st_size,
        frames=frames,
        tokens=timed.tokens,
        frame_seconds=frame_seconds,
        latency_ms=latency,
        real_time_factor=latency.mean / (1e3 * frame_seconds),
        cold=cold,
        streamed_bytes=streamed,
        bandwidth=bandwidth,
        share=streamed / (latency.p50 / 1e3) / bandwidth if streamed and bandwidth else None,
    )


def bench_paths(path: Path, *, num_threads: int = 1, frames: int = 200) -> list[PathSpeed]:
    """Every kernel path and NumPy on one model, the fastest path first; those that can run take turns.

    Raises as ``bench`` does.
    """
    _check_frames(frames)
    model, choice = load_model(path), choose_kernel()
    used = _kernel(make_network(model, num_threads=num_threads))[0]
    runs = {name: _stepper(network) for name, network in _networks(model, choice, num_threads).items()}
    seconds = {name: timed.seconds for name, timed in zip(runs, _in_turns(list(runs.values()), frames), strict=True)}
    known_names = [known.name for known in choice.paths] + [NUMPY]
    return [PathSpeed(n, n == used, Latency.of(seconds[n]) if n in seconds else None) for n in known_names]


def _check_frames(frames: int) -> None:
    if frames < 1:
        raise ConfigError(f"frames: expected 1 or more, found {frames}")


def _networks(model: PackedModel, choice: KernelChoice, num_threads: int) -> dict[str, Network]:
    """The model on every path that can run it, NumPy last."""
    paths = [path.name for path in choice.paths if path.available]
    compiled: dict[str, Network] = {}
    with suppress(NotPackedError):
        compiled = {name: NativeRnnt(model, num_threads=num_threads, kernel=name) for name in paths}
    return {**compiled, NUMPY: PackedRnnt(model)}


def _kernel(network: Network) -> tuple[str, str]:
    choice = choose_kernel()
    if isinstance(network, NativeRnnt):
        return network.kernel, choice.reason
    return NUMPY, choice.reason if choice.name == NUMPY else "the model's weights are stored as floats"


def _stepper(network: Network) -> Callable[[int], _Timed]:
    """A function that goes on with one stream of noise for so many encoder frames, and times each."""
    a, rng, search = network.architecture, np.random.default_rng(0), make_search("greedy")
    one = np.array([1], np.int64)
    encoder: Any = network.encoder_start(1)

    def run(count: int) -> _Timed:
        nonlocal encoder
        rows: Any = search.start(network, 1)  # anew, so that what was found does not grow
        noise: NDArray[np.float32] = rng.normal(size=(count, 1, a.subsampling, a.features)).astype(np.float32)
        seconds = []
        for features in noise:
            start = time.perf_counter()
            frames, encoder = network.encoder_step(features, encoder)
            rows = search.advance(network, frames, one, rows)
            seconds.append(time.perf_counter() - start)
        return _Timed(seconds, len(search.results(rows)[0].best.tokens))

    return run


def _streamed_bytes(network: Network, tokens_a_frame: float) -> int | None:
    if not isinstance(network, NativeRnnt):
        return None
    weights = network.streamed_bytes
    return round(weights.encoder + weights.joiner + tokens_a_frame * weights.predictor)
