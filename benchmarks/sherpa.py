"""A model trained on FSDD in stock sherpa-onnx, beside our runtime: the same tokens, and what they cost.

    python benchmarks/sherpa.py --corpus DIR --work DIR [--predictor window|stateful] [--quick] [--json FILE]
        [--results FILE]
    python benchmarks/sherpa.py --table [--page FILE]

DIR is FSDD as it comes, and a folder to keep data, run and exports in. The recipe fsdd-sherpa is trained (a few CPU
minutes; the 32-bit model) and compressed to 4 bits by S8BQAT; each file is exported in every form of weights, as the
``lstm`` type with a window of 64 tokens or, trained with its features, as the NeMo type with a stateful predictor and
up to 10 tokens a frame. All test strings, each followed by the same silence (T frames and 10 more), go
through each system in a process of its own, one thread, streaming in pieces of 0.32 s. Tokens are compared with those
of our runtime in float activations, which weights as codes or floats must equal on every string: else the benchmark
ends with an error. One case is beyond 64 tokens, all strings as one recording: there a window is not a stateful
predictor, and tokens may differ from the place named on.

Time is the processor's, over the sound's (features and search included, loading not); memory is the peak over that of
the process before it loaded the model. Finished cells are not run again; ``--table`` only prints what was measured
last, ``--page`` puts it into a page's region ``sherpa``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from cells import Cells, print_machine, run_script
from tables import Tables, add_page_option, shown

from sottovoce.data.prepare import prepare
from sottovoce.data.prepared import load_cuts
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.evaluation.cold_child import peak_bytes
from sottovoce.evaluation.wer import count_errors
from sottovoce.export import FORMS, PREDICTORS, export_sherpa, paths_of
from sottovoce.export.sherpa_files import NEMO_SYMBOLS, PredictorForm
from sottovoce.export.token_list import token_names
from sottovoce.export.transcripts import padded, run_sherpa
from sottovoce.packed import file_sizes, load_model
from sottovoce.runtime import Recognizer
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import load_recipe
from sottovoce.training.train import train

CHUNK, WINDOW = 32, 64
EXACT = ("codes", "float")
BITS = (32, 4)
OURS = ("float", "int8")
NEMO = ("features.style=nemo", "features.low_hz=0", "features.high_hz=0")
REFERENCE = "ours, float"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="FSDD as it comes")
    parser.add_argument("--work", type=Path, help="a folder for data, runs and exports; kept")
    parser.add_argument("--predictor", choices=PREDICTORS, default="window")
    parser.add_argument("--quick", action="store_true", help="half of the training, a few strings")
    parser.add_argument("--json", type=Path, help="write the cell to this file")
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "sherpa.jsonl")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)  # how it calls itself
    options = parser.parse_args()
    if options.ours is not None:
        print(json.dumps(transcribe_ours(json.loads(options.ours.read_text(encoding="utf-8")))))
        return
    cells = Cells(options.results)
    if options.table:
        with shown(__file__, "sherpa", cells, options) as emit:
            overview(cells, False, emit)
        return
    if options.corpus is None or options.work is None:
        parser.error("--corpus and --work are needed")
    run(options, cells)


def run(options: argparse.Namespace, cells: Cells) -> None:
    from importlib.metadata import version

    overrides = [*(NEMO if options.predictor == "stateful" else ()), *(["phase.epochs=5"] if options.quick else [])]
    recipe = load_recipe("fsdd-sherpa", overrides)
    config = {
        "recipe": recipe.digest(), "strings": 12 if options.quick else None, "chunk": CHUNK, "window": WINDOW,
        "bits": list(BITS), "forms": list(FORMS), "sherpa-onnx": version("sherpa-onnx"),
    }  # fmt: skip
    if options.predictor == "stateful":
        config = {**config, "predictor": options.predictor, "window": None}
    row = cells.done(config, recipe.seed)
    print(f"{int(row is None)} of 1 cells to run, about {0.05 if options.quick else 0.12} CPU hours")
    print_machine(**{"sherpa-onnx": version("sherpa-onnx")})
    if row is None:
        start = time.perf_counter()
        figures = measure(options, recipe, config["strings"])
        row = cells.record(config, recipe.seed, figures, time.perf_counter() - start)
    with shown(__file__, "sherpa", cells, options) as emit:
        overview(cells, bool(options.quick), emit)
    if options.json:
        options.json.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace, recipe: Any, strings: int | None) -> dict[str, Any]:
    """Train, compress, export, run all systems on all strings."""
    options.work.mkdir(parents=True, exist_ok=True)
    name = f"{'quick' if options.quick else 'run'}{'-stateful' * (options.predictor == 'stateful')}"
    data, base = options.work / "data", options.work / name
    if not (data / "prepared.json").exists():
        prepare("fsdd", options.corpus, data, dict(recipe.corpus["options"]), seed=recipe.seed)
    trained = train(recipe, data, base, threads=1, progress=False)
    settings = recipe.compression.model_copy(update={"bits": 4})
    packed = carry_out(Job(recipe, data, base, trained.module, options.work / f"{name}-4bit", settings, recipe.seed))
    cuts = list(load_cuts(data, "test"))[:strings]
    sounds = [soundfile.read(cut.recording.sources[0].source, dtype="float32") for cut in cuts]
    rate = sounds[0][1]
    signals = [padded(samples, rate, CHUNK) for samples, _ in sounds]
    together = padded(np.concatenate([samples for samples, _ in sounds]), rate, CHUNK)
    references = [cut.supervisions[0].text.split() for cut in cuts]
    rows: list[dict[str, Any]] = []
    for bits, model in ((32, trained.model), (4, packed)):
        rows += compare(model, bits, options.work, [*signals, together], rate, references, options.predictor)
    return {
        "strings": len(cuts),
        "words": sum(map(len, references)),
        "sound_s": sum(map(len, signals)) / rate,
        "parameters": load_model(trained.model).parameters,
        "systems": rows,
    }


def compare(
    model: Path,
    bits: int,
    work: Path,
    signals: Sequence[np.ndarray],
    rate: int,
    references: Sequence[list[str]],
    predictor: PredictorForm = "window",
) -> list[dict[str, Any]]:
    """A row for each system of one file. The last signal is all strings as one. Raises SystemExit where an exact form
    has other tokens than our runtime in float activations."""
    names = [name.replace("▁", " ") for name in token_names(Tokenizer(bytes(load_model(model).tokenizer or b"")))]
    symbols = NEMO_SYMBOLS if predictor == "stateful" else 1
    ours = OURS[: 1 + (bits < 32)]
    found = {f"ours, {one}": ours_in_a_process(model, one, signals, rate, symbols) for one in ours}
    sizes = dict.fromkeys(found, file_sizes(model).file_bytes)
    for form in FORMS:
        folder = work / f"sherpa-{model.parent.name}-{form}"
        settings: dict[str, Any] = {"weights": form, "predictor": predictor, "chunk": CHUNK, "window": WINDOW}
        exported = export_sherpa(load_model(model), folder, **settings)
        arguments = {**paths_of(folder), **exported.arguments, "num_threads": 1, "blank_penalty": 0.0}
        ran = run_sherpa([arguments], signals, rate, piece(rate))
        system = f"sherpa-onnx, {form}"
        found[system] = {**ran["passes"][0], "added_bytes": ran["added_bytes"]}
        sizes[system] = sum(exported.files.values())
    for one in ours:
        for result in found[f"ours, {one}"]["results"]:
            result["tokens"] = [names[i] for i in result["ids"]]
    expected = [result["tokens"] for result in found["ours, float"]["results"]]
    return [
        row_of(system, bits, sizes[system], one, expected, signals, rate, references) for system, one in found.items()
    ]


def row_of(
    system: str,
    bits: int,
    size: int,
    found: dict[str, Any],
    expected: Sequence[Sequence[str]],
    signals: Sequence[np.ndarray],
    rate: int,
    references: Sequence[list[str]],
) -> dict[str, Any]:
    tokens = [result["tokens"] for result in found["results"]]
    equal = [ours == theirs for ours, theirs in zip(expected[:-1], tokens[:-1], strict=True)]
    if system.removeprefix("sherpa-onnx, ") in EXACT and not all(equal):
        raise SystemExit(f"{bits} bits, {system}: other tokens than our runtime in {equal.count(False)} strings")
    errors = sum(
        count_errors(reference, result["text"].split()).errors
        for reference, result in zip(references, found["results"], strict=False)
    )
    sound = sum(map(len, signals)) / rate
    return {
        "system": system,
        "bits": bits,
        "file_bytes": size,
        "equal": equal.count(True),
        "tokens": sum(map(len, tokens[:-1])),
        "long_tokens": len(expected[-1]),
        "long_differs_at": first_difference(expected[-1], tokens[-1]),
        "wer": 100 * errors / sum(map(len, references)),
        "real_time_factor": found["cpu_s"] / sound,
        "load_ms": 1e3 * found["load_s"],
        "added_bytes": found["added_bytes"],
    }


def first_difference(expected: Sequence[str], found: Sequence[str]) -> int | None:
    """Where two lists of tokens part, None where they do not."""
    parts = (i for i, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1])
    return next(parts, None if len(expected) == len(found) else min(len(expected), len(found)))


def piece(rate: int) -> int:
    """Samples of one chunk of the encoder."""
    return rate * CHUNK // 100


def ours_in_a_process(
    model: Path, arithmetic: str, signals: Sequence[np.ndarray], rate: int, symbols: int
) -> dict[str, Any]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "signals.npz"
        np.savez(path, **{str(i): signal for i, signal in enumerate(signals)})
        request = {
            "signals": str(path),
            "model": str(model),
            "arithmetic": arithmetic,
            "rate": rate,
            "symbols": symbols,
        }
        request["symbols"] = symbols
        (Path(folder) / "request.json").write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, __file__, "--ours", str(Path(folder) / "request.json")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def transcribe_ours(request: dict[str, Any]) -> dict[str, Any]:
    """What ``sherpa_child`` does, with our runtime."""
    with np.load(request["signals"]) as file:
        signals = [file[str(i)] for i in range(len(file.files))]
    rate, before, start = request["rate"], peak_bytes(), time.perf_counter()
    # Without a blank penalty, as sherpa-onnx is run here, whatever the file says.
    options = {"arithmetic": request["arithmetic"], "max_symbols": request["symbols"], "blank_penalty": 0.0}
    recognizer = Recognizer(request["model"], **options)
    loaded, cpu, results = time.perf_counter(), time.process_time(), []
    for signal in signals:
        stream = recognizer.create_stream()
        for at in range(0, len(signal), piece(rate)):
            stream.accept_waveform(rate, signal[at : at + piece(rate)])
            recognizer.decode_stream(stream)
        stream.input_finished()
        recognizer.decode_stream(stream)
        found = recognizer.get_result(stream)
        results.append({"text": found.text, "ids": list(found.ids)})
    cost = {"load_s": loaded - start, "cpu_s": time.process_time() - cpu, "added_bytes": peak_bytes() - before}
    return {"results": results, **cost}


def overview(cells: Cells, quick: bool, emit: Tables) -> None:
    """What was measured last with each kind of predictor."""
    found = cells.latest(lambda c: c.get("predictor", "window") if (c["strings"] is not None) == quick else None)
    for predictor, rows in found.items():
        show(rows[0]["figures"], predictor, emit)


def show(figures: dict[str, Any], predictor: str, emit: Tables) -> None:
    size, sound = f"{figures['parameters'] / 1e6:.2f} million parameters", f"{figures['sound_s']:.0f} s with silence"
    columns = ("system", "bits", "file kB", "equal strings", "WER %", "as one", "factor", "load ms", "added MB")
    lines = []
    for row in figures["systems"]:
        parted = row["long_differs_at"]
        as_one = "equal" if parted is None else f"parts at {parted}"
        if row["system"] == REFERENCE:
            as_one = f"{row['long_tokens']} tokens"
        lines.append([
            row["system"],
            row["bits"],
            f"{row['file_bytes'] / 1e3:.0f}",
            row["equal"],
            f"{row['wer']:.1f}",
            as_one,
            f"{row['real_time_factor']:.4f}",
            f"{row['load_ms']:.0f}",
            f"{row['added_bytes'] / 1e6:.0f}",
        ])  # fmt: skip
    title = f"{predictor} predictor: {size}, {figures['strings']} strings, {figures['words']} words, {sound}"
    emit(title, columns, lines)


if __name__ == "__main__":
    run_script(main)
