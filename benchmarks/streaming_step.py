"""One step of a streaming RNN-T at every width, beside PyTorch and ONNX Runtime in int8, on this processor.

    python benchmarks/streaming_step.py [--quick] [--threads 1 2] [--kernel PATH] [--json FILE] [--results FILE]
    python benchmarks/streaming_step.py --table [--page FILE]

The network: five LSTM-1024 layers over four stacked frames of 80 features, a predictor of two LSTM-1024 layers, a
joiner of 640, a vocabulary of 2,500; random weights, in real packed files. A step is one encoder frame, one joiner and
a quarter of a predictor step (every fourth step runs it: percentiles are of either kind of step, weighted 3 to 1). Two
settings: interleaved, all systems taking turns step by step, so that nobody's weights stay in a cache for free; and
hot, each alone in its loop, loops repeated in rounds. Ratios are of medians, to the faster of the two int8 peers. With
--kernel (or SOTTOVOCE_KERNEL) that path is measured, and ratios are to its own 8 bits. Before anything is timed, every
width is compared with the NumPy definition bit for bit, and every peer with the float network.

Instructions a weight are counted by benchmarks/instructions.py. Finished cells are not run again;
``--table`` only prints those of all widths that were measured last, ``--page`` puts them into a page's region
``streaming_step``: ratios with their limits in brackets, percentiles in milliseconds, and ratios of paths that were
asked for.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cells import Cells, Row, print_machine, run_script
from instructions import count_instructions
from tables import Tables, add_page_option, print_table, shown

from sottovoce.evaluation.bandwidth import read_bandwidth
from sottovoce.evaluation.turns import CYCLE, Steps, hot, interleaved
from sottovoce.packed import PackedMatrix, PackedModel, RnntArchitecture, load_model, make_band
from sottovoce.peers import INT8_PEERS, PEERS, make_peer, signal_to_noise
from sottovoce.runtime import NativeRnnt, PackedRnnt, choose_kernel

WIDTHS = (8, 7, 6, 5, 4, 3, 2, 1)
QUICK_WIDTHS = (8, 5, 4, 2)
ARCHITECTURE = RnntArchitecture(
    features=80,
    vocabulary=2500,
    stack=4,
    stride=4,
    encoder_layers=5,
    encoder_units=1024,
    layer_norm=False,
    reduction_after=0,
    embedding=1024,
    predictor_layers=2,
    predictor_units=1024,
    joiner_units=640,
)
SETTINGS = ("interleaved", "hot")
LIMITS = {
    "interleaved": {8: 1.05, 5: 0.72, 4: 0.58, 3: 0.48, 2: 0.36},
    "hot": {5: 0.60, 4: 0.42, 3: 0.42, 2: 0.30},
}
OWN_LIMITS = {5: 0.65}  # of a path that was asked for, to its own 8 bits
NEXT_LIMIT = 1.02  # a width to the next wider one
NOISE_FLOOR = 20.0  # dB that an int8 peer must keep to be the same network
VERIFIED_STEPS = 2 * CYCLE
PAUSE = 0.002  # seconds that peers' idle threads need to fall asleep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four widths, one thread, a few cycles")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cycles", type=int, default=100, help="cycles of four steps, of each system and setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", default="", help="a path of the kernels; by default SOTTOVOCE_KERNEL or the best")
    parser.add_argument("--json", type=Path, help="write the ratios, and all figures, to this file")
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "streaming_step.jsonl")
    options = parser.parse_args()
    cells = Cells(options.results)
    if not options.table:
        run(options, cells)
    if options.table or options.page:
        with shown(__file__, "streaming_step", cells, options) as emit:
            overview(cells, emit)


def run(options: argparse.Namespace, cells: Cells) -> None:
    choice = choose_kernel()
    kernel, own = options.kernel or choice.name, bool(options.kernel) or choice.forced
    widths = QUICK_WIDTHS if options.quick else WIDTHS
    threads = [1] if options.quick else options.threads
    cycles = 12 if options.quick else options.cycles
    configs = [cell_config(kernel, own, widths, cycles, count) for count in threads]
    missing = [config for config in configs if cells.done(config, options.seed) is None]
    print(f"{len(missing)} of {len(configs)} cells to run, about {estimated_hours(missing):.3f} CPU hours")
    versions = peer_versions()
    print_machine(kernel=kernel, **versions)
    rows = []
    for config in configs:
        row = cells.done(config, options.seed)
        if row is None:
            start = time.perf_counter()
            figures = measure(config, options.seed)
            row = cells.record(config, options.seed, figures, time.perf_counter() - start)
        show(row)
        rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(summary(rows), indent=2) + "\n", encoding="utf-8")


def cell_config(kernel: str, own: bool, widths: Sequence[int], cycles: int, threads: int) -> dict[str, Any]:
    """own: the kernel was asked for, so that its own 8 bits are the base."""
    return {
        "kernel": kernel,
        "base": "own 8 bits" if own else "int8 peers",
        "widths": list(widths),
        "threads": threads,
        "cycles": cycles,
        "peers": list(PEERS),
        "versions": peer_versions(),
        "architecture": ARCHITECTURE.to_dict(),
    }


def peer_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "onnxruntime", "onnx")}


def estimated_hours(configs: Sequence[Mapping[str, Any]]) -> float:
    """CPU hours: about 3 s to make, compare and load each network, and 1.3 ms a step, both settings."""
    seconds = 0.0
    for config in configs:
        systems = len(config["widths"]) + len(config["peers"])
        steps = 2 * systems * CYCLE * config["cycles"]
        seconds += config["threads"] * (4.0 * systems + 1.6e-3 * steps)
    return seconds / 3600


def random_network(bits: int, seed: int) -> PackedModel:
    """The network in so many bits: random codes of equally spaced levels, a scale for each row."""
    rng = np.random.default_rng([seed, bits])
    count = 255 if bits == 8 else 2**bits
    levels = np.rint(np.linspace(-127, 127, count)).astype(np.int8)
    deviation = float(np.std(levels))

    def matrix(rows: int, columns: int) -> PackedMatrix:
        codes = rng.integers(0, count, (rows, columns), np.uint8)
        scale = (rng.uniform(0.8, 1.2, rows) / (deviation * np.sqrt(columns))).astype(np.float16)
        return PackedMatrix((rows, columns), (make_band(codes, levels, scale, bits, "linear", "row"),))

    a = ARCHITECTURE
    tensors: dict[str, Any] = {
        "encoder.mean": np.zeros(a.features, np.float32),
        "encoder.istd": np.ones(a.features, np.float32),
    }

    def lstm(prefix: str, layer: int, columns: int, units: int) -> None:
        tensors[f"{prefix}.weight_ih_l{layer}"] = matrix(4 * units, columns)
        tensors[f"{prefix}.weight_hh_l{layer}"] = matrix(4 * units, units)
        for what in ("ih", "hh"):
            tensors[f"{prefix}.bias_{what}_l{layer}"] = rng.normal(0, 0.3, 4 * units).astype(np.float16)

    def dense(prefix: str, rows: int, columns: int) -> None:
        tensors[f"{prefix}.weight"] = matrix(rows, columns)
        tensors[f"{prefix}.bias"] = rng.normal(0, 0.3, rows).astype(np.float16)

    for i, width in enumerate(a.layer_inputs()):
        lstm(f"encoder.layers.{i}", 0, width, a.encoder_units)
    dense("encoder.projection", a.joiner_units, a.encoder_width)
    tensors["predictor.embedding.weight"] = matrix(a.vocabulary, a.embedding)
    for i in range(a.predictor_layers):
        lstm("predictor.lstm", i, a.predictor_units if i else a.embedding, a.predictor_units)
    dense("predictor.projection", a.joiner_units, a.predictor_units)
    dense("joiner.output", a.vocabulary, a.joiner_units)
    return PackedModel(tensors, architecture=a.to_dict())


def verify_bits(network: NativeRnnt, model: PackedModel) -> None:
    """Raises SystemExit unless frames and log-probabilities are the definition's, bit for bit."""
    found, expected = Steps(network), Steps(PackedRnnt(model))
    for step in range(VERIFIED_STEPS):
        for ours, theirs in zip(found(), expected(), strict=True):
            if not np.array_equal(ours, theirs):
                raise SystemExit(f"step {step}: {network.kernel} is not bit-equal to the NumPy definition")


def measure(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Both settings in one run, with the networks verified and the read bandwidth measured in it."""
    kernel, threads = config["kernel"], config["threads"]
    counts, why = count_instructions(kernel)
    systems: dict[str, Steps] = {}
    streamed, parameters, peers = {}, 0, {}
    with TemporaryDirectory() as folder:
        for bits in config["widths"]:
            path = Path(folder) / f"{bits}.safetensors"
            random_network(bits, seed).save(path)
            model = load_model(path)
            network = NativeRnnt(model, num_threads=threads, kernel=kernel)
            verify_bits(network, model)
            read = network.streamed_bytes
            streamed[str(bits)] = read.encoder + read.joiner + read.predictor / CYCLE
            systems[str(bits)] = Steps(network, seed=seed)
            if bits == 8:
                parameters = model.parameters
                for name in config["peers"]:
                    peer = make_peer(name, model, num_threads=threads)
                    noise = signal_to_noise(peer, model)
                    if not noise > NOISE_FLOOR:
                        raise SystemExit(f"{name}: {noise:.1f} dB over its error: not the same network")
                    peers[name] = {"signal_to_noise_db": noise, "description": peer.description}
                    systems[name] = Steps(peer, seed=seed)
            print(f"{bits} bits: equal to the definition, bit for bit", flush=True)
    bandwidth = [read_bandwidth(threads, kernel)]
    rounds = max(1, config["cycles"] // 10)
    pause = PAUSE if threads > 1 else 0.0
    seconds = {
        "interleaved": interleaved(systems, cycles=config["cycles"], seed=seed, pause=pause),
        "hot": hot(systems, rounds=rounds, cycles=config["cycles"] // rounds),
    }
    bandwidth.append(read_bandwidth(threads, kernel))

    def milliseconds(percent: float) -> dict[str, dict[str, float]]:
        return {s: {n: 1e3 * t.percentile(percent) for n, t in of.items()} for s, of in seconds.items()}

    return {
        "parameters": parameters,
        "peers": peers,
        "bandwidth": max(bandwidth),
        "streamed_bytes": streamed,
        "instructions_a_weight": _of_these_levels(counts),
        "not_counted": why,
        "p50_ms": milliseconds(50),
        "p90_ms": milliseconds(90),
        "p99_ms": milliseconds(99),
    }


def _of_these_levels(counts: Mapping[str, float]) -> dict[str, float]:
    """Equally spaced levels are mirrored: where a path has a loop for that, it runs."""
    return {bits: counts.get(f"{bits}, signs apart", count) for bits, count in counts.items() if "," not in bits}


def base_of(row: Mapping[str, Any], setting: str) -> str:
    """What ratios are to: the faster int8 peer, or the path's own 8 bits."""
    if row["config"]["base"] == "own 8 bits":
        return "8"
    return min(INT8_PEERS, key=lambda name: row["figures"]["p50_ms"][setting][name])


def ratios(row: Mapping[str, Any], setting: str) -> dict[str, float]:
    medians = row["figures"]["p50_ms"][setting]
    return {name: found / medians[base_of(row, setting)] for name, found in medians.items()}


def limits_of(row: Mapping[str, Any], setting: str) -> dict[int, float]:
    return OWN_LIMITS if row["config"]["base"] == "own 8 bits" else LIMITS[setting]


def verdicts(row: Mapping[str, Any], setting: str) -> dict[str, str]:
    """For each width: its limit, and its ratio to the next wider one, and whether they hold."""
    found, limits = ratios(row, setting), limits_of(row, setting)
    widths = row["config"]["widths"]
    told = {}
    for at, bits in enumerate(widths):
        parts = []
        if bits in limits:
            parts.append(f"{limits[bits]:.2f} " + ("pass" if found[str(bits)] <= limits[bits] else "FAIL"))
        if at:
            to_next = found[str(bits)] / found[str(widths[at - 1])]
            parts.append(f"{to_next:.2f} of {widths[at - 1]} " + ("pass" if to_next <= NEXT_LIMIT else "FAIL"))
        told[str(bits)] = ", ".join(parts)
    return told


def show(row: Mapping[str, Any]) -> None:
    figures, config = row["figures"], row["config"]
    for name, peer in figures["peers"].items():
        print(f"{name}: {peer['description']}; {peer['signal_to_noise_db']:.0f} dB over its error")
    bandwidth = figures["bandwidth"]
    print(f"{figures['parameters'] / 1e6:.1f} million parameters; read bandwidth {bandwidth / 1e9:.1f} GB/s")
    if figures["not_counted"]:
        print(f"instructions a weight: {figures['not_counted']}")
    for setting in SETTINGS:
        base, found, told = base_of(row, setting), ratios(row, setting), verdicts(row, setting)
        medians, lines = figures["p50_ms"][setting], []
        for name in (*map(str, config["widths"]), *config["peers"]):
            median = medians[name]
            streamed = figures["streamed_bytes"].get(name)
            share = "" if streamed is None else f"{streamed / (median / 1e3) / bandwidth:.2f}"
            counts = figures["instructions_a_weight"]
            count = _count(counts, name) if streamed else None
            lines.append([
                f"{name} bits" if streamed else name,
                f"{median:.3f}",
                f"{figures['p90_ms'][setting][name]:.3f}",
                f"{found[name]:.2f}",
                "" if streamed is None else f"{streamed / 1e6:.1f}",
                share,
                "" if count is None else f"{count:.3f}",
                told.get(name, ""),
            ])  # fmt: skip
        threads = f"{config['threads']} thread{'s' if config['threads'] > 1 else ''}"
        base = "its own 8 bits" if base == "8" else base
        columns = ("system", "P50 ms", "P90 ms", "ratio", "MB a step", "bandwidth", "instructions", "limits")
        print_table(f"{setting}, {config['kernel']}, {threads}; ratios to {base}", columns, lines)


def _count(counts: Mapping[str, float], bits: str) -> float | None:
    """Of 7 bits, whose codes are stored as those of 8."""
    return counts.get(bits, counts.get("8"))


def overview(cells: Cells, emit: Tables) -> None:
    """Ratios to the faster int8 peer, what they are made of on one thread, and ratios of paths to their own 8 bits."""

    def whole(config: Mapping[str, Any]) -> tuple[str, str, int] | None:
        return (config["base"], config["kernel"], config["threads"]) if config["widths"] == list(WIDTHS) else None

    rows = [found[0] for found in cells.latest(whole).values()]
    best = [row for row in rows if row["config"]["base"] == "int8 peers"]
    systems = [f"{bits} bit{'s' * (bits > 1)}" for bits in WIDTHS]
    columns = [*systems, *(dict.fromkeys(name for row in rows for name in row["config"]["peers"]))]
    emit("Ratios to the faster int8 peer, limits in brackets", ["path, threads, setting", *columns], _ratios(best))
    for row in best:
        if row["config"]["threads"] == 1:
            title = f"{row['config']['kernel']}, one thread: times, share of the read bandwidth, instructions a weight"
            emit(title, ["setting", *columns], _milliseconds(row))
    others = [row for row in rows if row not in best]
    lines = [line for row in others for line in (*_ratios([row]), _instructions(row))]
    emit("Paths asked for by --kernel: ratios to their own 8 bits", ["path, threads, setting", *columns], lines)


def _ratios(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for row in rows:
        config = row["config"]
        for setting in SETTINGS:
            found, limits = ratios(row, setting), limits_of(row, setting)
            told = {str(bits): f" ({limit:.2f})" for bits, limit in limits.items()}
            names = (*map(str, config["widths"]), *config["peers"])
            label = f"{config['kernel']}, {config['threads']}, {setting}"
            lines.append([label, *(f"{found[name]:.2f}{told.get(name, '')}" for name in names)])
    return lines


def _milliseconds(row: Row) -> list[list[str]]:
    figures, config, lines = row["figures"], row["config"], []
    widths, bandwidth = [str(bits) for bits in config["widths"]], figures["bandwidth"]
    blank = [""] * len(config["peers"])
    for setting in SETTINGS:
        medians = figures["p50_ms"][setting]
        for percent in (50, 90, 99):
            times = figures.get(f"p{percent}_ms", {}).get(setting)
            if times is not None:
                told = (f"{times[name]:.2f}" for name in (*widths, *config["peers"]))
                lines.append([f"{setting}, P{percent} ms", *told])
        shares = [figures["streamed_bytes"][name] / (medians[name] / 1e3) / bandwidth for name in widths]
        label = f"{setting}, share of {bandwidth / 1e9:.1f} GB/s"
        lines.append([label, *(f"{share:.2f}" for share in shares), *blank])
    return [*lines, ["instructions a weight", *_instructions(row)[1:]]]


def _instructions(row: Row) -> list[str]:
    config = row["config"]
    counts = [_count(row["figures"]["instructions_a_weight"], str(bits)) for bits in config["widths"]]
    told = ["" if count is None else f"{count:.3f}" for count in counts]
    return [f"{config['kernel']}, instructions a weight", *told, *[""] * len(config["peers"])]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ratios by setting and width; those of more threads under keys of their own; then all figures."""
    written: dict[str, Any] = {}
    for row in rows:
        threads = row["config"]["threads"]
        for setting in SETTINGS:
            key = setting if threads == 1 else f"{setting}, {threads} threads"
            found = ratios(row, setting)
            written[key] = {str(bits): round(found[str(bits)], 4) for bits in row["config"]["widths"]}
    return written | {"cells": [dict(row) for row in rows]}


if __name__ == "__main__":
    run_script(main)
