"""A stream that does not end: memory over two hours of sound, real-time factor by quarter hour, parallel streams.

    python benchmarks/long_stream.py [--quick] [--hours 2] [--audio FILE] [--threads 1] [--results FILE]
        [--table] [--page FILE]

One recording is looped and given 0.1 s at a time, as fast as it is decoded (a simulated clock). After each piece the
result is asked for, and a segment that is at its end is reset, as a live program does. The model has random 5-bit
weights through the real packing and its blank's bias set so that a token comes now and then. Memory is that of the
whole process (VmRSS), at the end of the first minute and of each quarter. The last cell decodes fifty streams beside
each other, with pieces of random sizes, and counts those whose result is the one that they have alone. Linux only, for
its /proc. Finished cells are not run again; ``--table`` only prints what was measured last over so many ``--hours``,
``--page`` puts it into a page's region ``long_stream``.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cells, print_machine, run_script
from numpy.typing import NDArray
from tables import Tables, add_page_option, shown

from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.frontend import read_audio
from sottovoce.packed import PackedMatrix, PackedModel, RnntArchitecture, make_band
from sottovoce.runtime import Recognizer, choose_kernel

Samples = NDArray[np.float32]

WORDS = "zero one two three four five six seven eight nine turn the light on and off in my kitchen please again"
RATE = 44_100  # of the made-up sound, so that the resampler has its part
CHUNK = 0.1  # seconds
BITS = 5
TOKENS = (0.03, 0.2)  # of the frames, so many shall have a token
METHODS: dict[str, dict[str, Any]] = {"greedy": {}, "beam": {"method": "beam", "beam": 4}}


@dataclass(frozen=True)
class Quarter:
    """A quarter of an hour (or what --quick makes of it): memory at its end in bytes; seconds of sound, of wall clock
    and of processor; segments ended and tokens found."""

    rss: int
    sound: float
    wall: float
    cpu: float
    segments: int
    tokens: int


def rss() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def architecture(vocabulary: int, units: int) -> RnntArchitecture:
    return RnntArchitecture(
        features=80, vocabulary=vocabulary, encoder_layers=3, encoder_units=units, embedding=units // 4,
        predictor_units=units // 2, joiner_units=units // 2,
    )  # fmt: skip


def shapes(a: RnntArchitecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the network by name (docs/design.md, section 11)."""
    lstms = [(f"encoder.layers.{i}.", width, a.encoder_units) for i, width in enumerate(a.layer_inputs())]
    for prefix, width, units in [*lstms, ("predictor.lstm.", a.embedding, a.predictor_units)]:
        yield f"{prefix}weight_ih_l0", (4 * units, width)
        yield f"{prefix}weight_hh_l0", (4 * units, units)
        yield f"{prefix}bias_ih_l0", (4 * units,)
        yield f"{prefix}bias_hh_l0", (4 * units,)
    for i in range(a.encoder_layers):
        yield f"encoder.norms.{i}.weight", (a.encoder_units,)
        yield f"encoder.norms.{i}.bias", (a.encoder_units,)
    yield "predictor.embedding.weight", (a.vocabulary, a.embedding)
    for name, rows, columns in (
        ("encoder.projection", a.joiner_units, a.encoder_width),
        ("predictor.projection", a.joiner_units, a.predictor_units),
        ("joiner.output", a.vocabulary, a.joiner_units),
    ):
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)
    yield "encoder.mean", (a.features,)
    yield "encoder.istd", (a.features,)


def random_matrix(rng: np.random.Generator, rows: int, columns: int) -> PackedMatrix:
    """Uniform levels and codes; weights of about 1.5 / sqrt(columns)."""
    levels = np.arange(-15, 16).astype(np.int8)
    codes = rng.integers(0, len(levels), (rows, columns)).astype(np.uint8)
    scale = np.full(rows, 1.5 / (9 * np.sqrt(columns)), np.float16)
    return PackedMatrix((rows, columns), (make_band(codes, levels, scale, BITS, "uniform", "row"),))


def random_model(units: int, seed: int, blank_bias: float = 0.0) -> PackedModel:
    rng = np.random.default_rng(seed)
    tokenizer = train_tokenizer([WORDS] * 4, vocabulary=64)
    a = architecture(Tokenizer(tokenizer).vocabulary, units)
    tensors: dict[str, Any] = {}
    for name, shape in shapes(a):
        if len(shape) == 2:
            tensors[name] = random_matrix(rng, *shape)
        else:
            around = 1.0 if name.endswith("weight") else 0.0  # of a layer norm, else a bias
            tensors[name] = rng.normal(around, 0.3, shape).astype(np.float32)
    tensors["encoder.mean"] = np.full(a.features, -6, np.float32)
    tensors["encoder.istd"] = np.full(a.features, 0.3, np.float32)
    tensors["joiner.output.bias"][0] = blank_bias
    return PackedModel(tensors, a.to_dict(), {"kind": "waveform", "bins": a.features}, tokenizer)


def speaking_model(units: int, seed: int, samples: Samples, rate: int) -> PackedModel:
    """A random model with the blank's bias between those at which it says too much and too little."""
    low, high = -10.0, 20.0
    for _ in range(20):
        model = random_model(units, seed, (low + high) / 2)
        recognizer = Recognizer(model)
        found = len(recognizer.transcribe(samples, rate).tokens) * recognizer.frame_seconds * rate / len(samples)
        if TOKENS[0] <= found <= TOKENS[1]:
            return model
        low, high = ((low + high) / 2, high) if found > TOKENS[1] else (low, (low + high) / 2)
    return model


def made_up_sound(seconds: int, seed: int) -> Samples:
    """Gliding tones in noise, with pauses long enough to end an utterance."""
    rng, t = np.random.default_rng(seed), np.arange(seconds * RATE) / RATE
    glide = 2 * np.pi * (1 + 0.3 * np.sin(2 * np.pi * 0.7 * t)).cumsum() / RATE
    tones = np.sin(180 * glide) + np.sin(900 * glide) + np.sin(2_300 * glide)
    loudness = np.abs(np.sin(2 * np.pi * 2.5 * t)) * (t % 10 < 7.5)
    return (0.1 * loudness * tones + rng.normal(0, 1e-3, len(t))).astype(np.float32)


def pieces(samples: Samples, rate: int) -> Iterator[Samples]:
    """The recording again and again, 0.1 s at a time."""
    size = int(CHUNK * rate)
    while True:
        for start in range(0, len(samples) - size + 1, size):
            yield samples[start : start + size]


def long_stream(
    recognizer: Recognizer, samples: Samples, rate: int, seconds: float, quarters: int
) -> tuple[int, list[Quarter]]:
    """Memory after the first minute (or a twentieth of all, if that is less), then each quarter's figures."""
    source, stream, found = pieces(samples, rate), recognizer.create_stream(), []
    chunks = round(seconds / quarters / CHUNK)
    first = min(600, round(seconds / CHUNK / 20))
    at_first = 0
    for quarter in range(quarters):
        segments = tokens = 0
        wall, cpu = time.perf_counter(), time.process_time()
        for chunk in range(chunks):
            stream.accept_waveform(rate, next(source))
            recognizer.decode_stream(stream)
            result = recognizer.get_result(stream)
            if recognizer.is_endpoint(stream):
                segments, tokens = segments + 1, tokens + len(result.tokens)
                recognizer.reset(stream)
            if quarter == 0 and chunk == first - 1:
                at_first = rss()
        spent = time.perf_counter() - wall, time.process_time() - cpu
        found.append(Quarter(rss(), chunks * CHUNK, *spent, segments, tokens))
    return at_first, found


def streams_as_alone(recognizer: Recognizer, samples: Samples, rate: int, count: int, seed: int) -> int:
    """Of ``count`` streams of different parts of the recording, decoded together from pieces of random sizes, how many
    have the result that they have alone."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(samples) - 10 * rate, count)
    parts = [samples[start : start + int(rng.uniform(1, 10) * rate)] for start in starts]
    alone = [recognizer.transcribe(part, rate) for part in parts]
    streams, at = [recognizer.create_stream() for _ in parts], [0] * count
    while any(place < len(part) for place, part in zip(at, parts, strict=True)):
        for i in rng.permutation(count)[: rng.integers(1, count + 1)]:
            size = int(rng.integers(0, rate // 2))
            streams[i].accept_waveform(rate, parts[i][at[i] : at[i] + size])
            at[i] += size
        recognizer.decode_streams(streams)
    for stream in streams:
        stream.input_finished()
    recognizer.decode_streams(streams)
    return sum(recognizer.get_result(stream) == result for stream, result in zip(streams, alone, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six minutes, a small model")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--units", type=int, default=512, help="of each of the three encoder layers")
    parser.add_argument("--audio", type=Path, help="a recording of 20 s or more to loop; by default a made-up sound")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "long_stream.jsonl")
    options = parser.parse_args()
    cells = Cells(options.results)
    if not options.table:
        run(options, cells)
    with shown(__file__, "long_stream", cells, options) as emit:
        show(cells, 0.1 if options.quick else options.hours, options.threads, emit)


def run(options: argparse.Namespace, cells: Cells) -> None:
    """Measure what is not there."""
    hours, units = (0.1, 96) if options.quick else (options.hours, options.units)
    quarters = 4 if options.quick else max(1, round(4 * hours))
    samples, rate = read_audio(options.audio) if options.audio else (made_up_sound(60, options.seed), RATE)
    model = speaking_model(units, options.seed, samples[: 20 * rate], rate)
    print(f"estimated: {2 * hours * 0.02 + 0.01:.2f} CPU hours; {model.parameters / 1e6:.2f} M parameters")
    print_machine(kernel=choose_kernel().name, kernel_threads=options.threads)
    base = {"parameters": model.parameters, "bits": BITS, "kernel_threads": options.threads, "rate": rate}
    base |= {"audio": options.audio.name if options.audio else "made up"}
    for name, method in METHODS.items():
        recognizer = Recognizer(model, num_threads=options.threads, **method)
        config = base | {"method": name, "hours": hours, "quarters": quarters}
        if cells.done(config, options.seed) is None:
            begin = time.perf_counter()
            at_first, found = long_stream(recognizer, samples, rate, 3600 * hours, quarters)
            figures = {"first": at_first, "quarters": [dataclasses.asdict(quarter) for quarter in found]}
            cells.record(config, options.seed, figures, time.perf_counter() - begin)
        config = base | {"method": name, "streams": 50}
        if cells.done(config, options.seed) is None:
            begin = time.perf_counter()
            equal = streams_as_alone(recognizer, samples, rate, 50, options.seed)
            cells.record(config, options.seed, {"equal": equal}, time.perf_counter() - begin)


def show(cells: Cells, hours: float, threads: int, emit: Tables) -> None:
    """A line a quarter, both searches side by side, and the parallel streams of the same model."""

    def alike(config: Mapping[str, Any]) -> tuple[str, int] | None:
        there = config.get("hours") == hours and config["kernel_threads"] == threads
        return (config["method"], config["parameters"]) if there else None

    streams = cells.latest(alike)
    columns, by_quarter = ["quarter hour"], list[list[str]]()
    for (method, _), rows in streams.items():
        columns += [f"{method}: MB", "growth", "factor, processor", "factor, wall", "segments", "tokens"]
        for i, line in enumerate(_quarters(rows[0]["figures"])):
            if i == len(by_quarter):
                by_quarter.append([str(i + 1)])
            by_quarter[i] += line
    emit("", columns, by_quarter)

    def beside(config: Mapping[str, Any]) -> tuple[str, int] | None:
        key = config["method"], config["parameters"]
        return key if "streams" in config and key in streams else None

    for (method, _), rows in cells.latest(beside).items():
        equal, count = rows[0]["figures"]["equal"], rows[0]["config"]["streams"]
        emit.text(f"{method}: {equal} of {count} parallel streams have the result that they have alone.")


def _quarters(figures: Mapping[str, Any]) -> list[list[str]]:
    """Memory at the end of each quarter, its growth since the first minute, real-time factors, segments, tokens."""
    return [
        [
            f"{q['rss'] / 1e6:.1f}", f"{(q['rss'] - figures['first']) / 1e6:+.1f}", f"{q['cpu'] / q['sound']:.4f}",
            f"{q['wall'] / q['sound']:.4f}", str(q["segments"]), str(q["tokens"]),
        ]
        for q in figures["quarters"]
    ]  # fmt: skip


if __name__ == "__main__":
    run_script(main)
