"""What compression costs in training: the step with a scheme over the step without it, on one model in one run.

    python benchmarks/qat_step.py [--quick] [--seeds 3] [--threads 1] [--steps 30] [--results FILE]
        [--table] [--page FILE]

A recognizer of about 5 million parameters trains on random features by turns: a plain step, then a step with each
scheme in the phase in which it works hardest (the pull at full strength; snapped weights held; the published
penalty). The turns are shuffled, and the figure is the ratio of medians to the plain step. Finished cells are not run
again; ``--table`` only prints them, ``--page`` puts them into a page's region ``qat_step``.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cells import Cells, print_machine, run_script
from tables import Tables, add_page_option, shown

import sottovoce as sv
from sottovoce.losses import rnnt_loss_from_logits
from sottovoce.models import Rnnt
from sottovoce.packed import RnntArchitecture
from sottovoce.training.allocator import keep_freed_memory

ARCHITECTURE = RnntArchitecture(
    features=80,
    vocabulary=128,
    stack=4,
    stride=3,
    encoder_units=512,
    predictor_units=160,
    embedding=128,
    joiner_units=192,
)
TOTAL = 1_000_000  # steps of the imagined run: the schedules stay in the phase under test
SCHEMES: dict[str, Callable[[], Any]] = {
    "s8bqat pull": lambda: sv.S8BQAT(strength=2.0, start=0.0, full=0.0, finish=None),
    "s8bqat finishing": lambda: sv.S8BQAT(start=0.0, full=0.0, finish=0.0),
    "s8bqat published": lambda: sv.S8BQAT.published(),
    "straight-through": lambda: sv.StraightThrough(refit=None),
}

LABELS = {
    "s8bqat pull": "S8BQAT, pull on every step",
    "s8bqat finishing": "S8BQAT, finishing on snapped weights",
    "s8bqat published": "S8BQAT, published penalty in the loss",
}


def trainer(scheme: Callable[[], Any] | None, seed: int, utterances: int, frames: int) -> Callable[[], None]:
    """One optimizer step on fixed random data, with the scheme or without."""
    torch.manual_seed(seed)
    model = Rnnt(ARCHITECTURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    session = None
    if scheme is not None:
        plan = sv.BitPlan.uniform(model, bits=5)
        session = sv.compress(model, plan, scheme(), optimizer=optimizer, total_steps=TOTAL)
    features, tokens = torch.randn(utterances, frames, 80), torch.randint(1, 128, (utterances, 10))
    lengths, token_lengths = torch.full((utterances,), frames), torch.full((utterances,), 10)

    def step() -> None:
        optimizer.zero_grad()
        logits, _, frame_lengths = model(features, lengths, tokens)
        loss = rnnt_loss_from_logits(logits, tokens, frame_lengths, token_lengths, overwrite_logits=True)
        if session is not None:
            loss = loss + session.penalty()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step


def measure(seed: int, steps: int, utterances: int, frames: int) -> dict[str, float]:
    """Median seconds of each kind of step, by shuffled turns after two warm-up rounds."""
    runs = {"fp32": trainer(None, seed, utterances, frames)}
    runs |= {name: trainer(scheme, seed, utterances, frames) for name, scheme in SCHEMES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(seed)
    for turn in range(steps + 2):
        names = list(runs)
        order.shuffle(names)
        for name in names:
            begin = time.perf_counter()
            runs[name]()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, eight steps")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--frames", type=int, default=300, help="10 ms frames an utterance")
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "qat_step.jsonl")
    options = parser.parse_args()
    seeds, steps = (1, 8) if options.quick else (options.seeds, options.steps)
    parameters = sum(p.numel() for p in Rnnt(ARCHITECTURE).parameters())
    config = {
        "parameters": parameters, "bits": 5, "steps": steps, "threads": options.threads,
        "utterances": options.utterances, "frames": options.frames, "schemes": list(SCHEMES),
    }  # fmt: skip
    cells = Cells(options.results)
    if not options.table:
        run(config, range(seeds), cells)
    with shown(__file__, "qat_step", cells, options) as emit:
        show([row["figures"] for seed in range(seeds) if (row := cells.done(config, seed))], emit)


def run(config: Mapping[str, Any], seeds: Sequence[int], cells: Cells) -> None:
    """Measure what is not there."""
    torch.set_num_threads(config["threads"])
    keep_freed_memory()
    steps, utterances, frames = (config[name] for name in ("steps", "utterances", "frames"))
    hours = len(seeds) * (steps + 2) * (1 + len(SCHEMES)) * utterances * frames * 8e-5 / 3600
    print(f"estimated: {hours:.2f} CPU hours; {config['parameters'] / 1e6:.2f} M parameters")
    print_machine(torch=torch.__version__, torch_threads=config["threads"])
    for seed in seeds:
        if cells.done(config, seed) is None:
            begin = time.perf_counter()
            cells.record(config, seed, measure(seed, steps, utterances, frames), time.perf_counter() - begin)


def show(rows: Sequence[Mapping[str, float]], emit: Tables) -> None:
    """One line a kind of step; ``rows``: seconds of each, of every seed."""
    lines = [
        [
            LABELS.get(name, name),
            f"{1000 * statistics.median(r[name] for r in rows):.0f}",
            "" if name == "fp32" else " ".join(f"{r[name] / r['fp32']:.3f}" for r in rows),
            f"{statistics.median(r[name] / r['fp32'] for r in rows):.3f}",
        ]
        for name in ("fp32", *SCHEMES)
        if rows
    ]
    emit("", ["step", "median ms", "ratio to fp32: seeds", "median ratio"], lines)


if __name__ == "__main__":
    run_script(main)
