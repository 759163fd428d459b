"""The RNN-T loss beside a plain loop over cells and, where it loads, torchaudio's: time, peak memory, gradient error.

    python benchmarks/rnnt_loss.py [--quick] [--seeds 3] [--threads 1] [--results FILE] [--table] [--page FILE]

One cell is one shape and one seed: all losses in one process by turns, forward and backward, so that the ratios compare
like with like. Peak memory is measured apart, in a fresh process for each loss: how far one forward and backward pass
raises the process's peak above what it held with the logits in place. The gradient error is the largest difference
from the plain loop in float64. Finished cells are not run again; ``--table`` only prints those that were measured last
of each shape, medians of seeds, and ``--page`` puts them into a page's region ``rnnt_loss``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cells import Cells, print_machine, run_script
from tables import Tables, add_page_option, print_table, shown
from torch import Tensor

from sottovoce.losses import rnnt_loss_from_logits

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # logits (N, T, U+1, V), targets (N, U), logit and target lengths (N,)
Loss = Callable[..., Tensor]

SHAPES = (  # N, T, U, V, type
    (16, 90, 20, 29, "float32"),
    (16, 90, 34, 29, "float32"),
    (32, 45, 14, 96, "float32"),
    (8, 150, 30, 500, "float32"),
    (16, 90, 20, 29, "bfloat16"),
)
LABELS = {"ours": "ours", "ours, overwriting": "ours in place", "plain loop": "plain loop", "torchaudio": "torchaudio"}
QUICK_SHAPES = ((4, 40, 8, 96, "float32"), (4, 40, 8, 96, "bfloat16"))
PLAIN_SECONDS_PER_CELL = 1.2e-4  # forward and backward of one (t, u) of the plain loop, batched over utterances
PROCESS_SECONDS = 5.0  # start a process and import PyTorch


def ours(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    return rnnt_loss_from_logits(logits, targets, frames, labels)


def ours_overwriting(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    return rnnt_loss_from_logits(logits, targets, frames, labels, overwrite_logits=True)


def plain_loop(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """One log-sum for each (t, u), batched over utterances, differentiated by autograd."""
    log_probs = (logits.float() if logits.dtype == torch.bfloat16 else logits).log_softmax(-1)
    n, t_max, u_max = logits.shape[0], logits.shape[1], logits.shape[2] - 1
    by_label = log_probs[:, :, :u_max].gather(3, targets[:, None, :, None].expand(n, t_max, u_max, 1)).squeeze(3)
    by_blank = log_probs[..., 0]
    alpha = {(0, 0): log_probs.new_zeros(n)}
    for t in range(t_max):
        for u in range(u_max + 1):
            reached = [alpha[t - 1, u] + by_blank[:, t - 1, u]] if t else []
            reached += [alpha[t, u - 1] + by_label[:, t, u - 1]] if u else []
            if reached:
                alpha[t, u] = torch.logaddexp(*reached) if len(reached) == 2 else reached[0]
    ends = list(zip(frames.tolist(), labels.tolist(), strict=True))
    return -torch.stack([alpha[t - 1, u][i] + by_blank[i, t - 1, u] for i, (t, u) in enumerate(ends)]).mean()


def torchaudio_loss() -> Loss | None:
    """torchaudio's loss if it loads and runs here; its extension is missing from many installations."""
    try:
        from torchaudio.functional import rnnt_loss

        one = torch.ones(1, dtype=torch.int32)
        rnnt_loss(torch.zeros(1, 1, 2, 2), one[:, None], one, one, blank=0)
    except Exception as error:
        print(f"torchaudio is left out: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return None

    def theirs(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        return rnnt_loss(logits, targets.int(), frames.int(), labels.int(), blank=0)

    return theirs


def losses(with_torchaudio: bool) -> dict[str, Loss]:
    found: dict[str, Loss] = {"ours": ours, "ours, overwriting": ours_overwriting, "plain loop": plain_loop}
    theirs = torchaudio_loss() if with_torchaudio else None
    return found | ({"torchaudio": theirs} if theirs else {})


def batch(shape: Sequence[Any], seed: int) -> Batch:
    """Random logits and targets; lengths between half and all, the first utterance the longest."""
    n, t, u, v, dtype = shape
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, t, u + 1, v, generator=generator).to(getattr(torch, dtype))
    targets = torch.randint(1, v, (n, u), generator=generator)
    frames = torch.randint((t + 1) // 2, t + 1, (n,), generator=generator)
    labels = torch.randint((u + 1) // 2, u + 1, (n,), generator=generator)
    frames[0], labels[0] = t, u
    return logits, targets, frames, labels


def gradient(loss: Loss, given: Batch) -> Tensor:
    """One forward and backward pass; the logits are no leaf, so that they may be overwritten."""
    logits = given[0].detach().requires_grad_()
    logits = logits.view_as(logits)
    (found,) = torch.autograd.grad(loss(logits, *given[1:]), logits)
    return found.detach()


def seconds_by_turns(candidates: Mapping[str, Loss], given: Batch, repeats: int) -> dict[str, float]:
    """Median seconds of each loss; they take turns, so that a slow moment of the machine falls on all of them."""
    own = {name: (given[0].clone(), *given[1:]) for name in candidates}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, loss in candidates.items():
            start = time.perf_counter()
            gradient(loss, own[name])
            if repeat:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def largest_errors(candidates: Mapping[str, Loss], given: Batch) -> dict[str, float]:
    exact = gradient(plain_loop, (given[0].double(), *given[1:]))
    return {
        name: float((gradient(loss, (given[0].clone(), *given[1:])).double() - exact).abs().max())
        for name, loss in candidates.items()
    }


def peak_of(name: str, shape: Sequence[Any], seed: int) -> int:
    """Bytes by which one pass raises this process's peak; to be called once, in a fresh process."""
    loss = losses(name == "torchaudio")[name]
    gradient(loss, batch((2, 4, 3, shape[3], shape[4]), seed))  # code and small buffers are there before
    given = batch(shape, seed)
    ballast = _fill_to_peak()
    before = _peak_bytes()
    gradient(loss, given)
    risen = _peak_bytes() - before
    del ballast
    return risen


def _fill_to_peak() -> list[Tensor]:
    """Hold memory until the process is at its peak, for imports needed more at times than the process holds now."""
    ballast: list[Tensor] = []
    start = _peak_bytes()
    while _peak_bytes() < start + (1 << 21):
        ballast.append(torch.ones(1 << 16))  # 256 KiB
    return ballast


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_in_a_fresh_process(name: str, config: Mapping[str, Any], seed: int) -> int:
    request = json.dumps({"name": name, "shape": config["shape"], "seed": seed, "threads": config["threads"]})
    command = [sys.executable, str(Path(__file__)), "--peak-of", request]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(config: Mapping[str, Any], seed: int, candidates: Mapping[str, Loss]) -> dict[str, Any]:
    given = batch(config["shape"], seed)
    seconds = seconds_by_turns(candidates, given, config["repeats"])
    errors = largest_errors(candidates, given)
    return {
        name: {
            "milliseconds": round(1e3 * seconds[name], 3),
            "ratio_to_ours": round(seconds[name] / seconds["ours"], 2),
            "peak_bytes": peak_in_a_fresh_process(name, config, seed),
            "largest_gradient_error": errors[name],
        }
        for name in candidates
    }


def configurations(quick: bool, threads: int, candidates: Mapping[str, Loss]) -> list[dict[str, Any]]:
    shared = {"threads": threads, "repeats": 3 if quick else 15, "losses": list(candidates), "torch": torch.__version__}
    return [{"shape": list(shape), **shared} for shape in (QUICK_SHAPES if quick else SHAPES)]


def estimated_hours(cells: Sequence[Mapping[str, Any]]) -> float:
    """CPU hours of the cells still to run: the plain loop and the processes for peak memory dominate."""
    seconds = 0.0
    for config in cells:
        _, t, u, _, _ = config["shape"]
        seconds += t * (u + 1) * PLAIN_SECONDS_PER_CELL * (config["repeats"] + 4)
        seconds += PROCESS_SECONDS * len(config["losses"])
    return seconds / 3600


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    lines = []
    for row in rows:
        n, t, u, v, dtype = row["config"]["shape"]
        joint = n * t * (u + 1) * v * getattr(torch, dtype).itemsize
        for name, found in row["figures"].items():
            lines.append(
                (
                    f"{n},{t},{u},{v} {dtype} seed {row['seed']}",
                    name,
                    f"{found['milliseconds']:.2f}",
                    f"{found['ratio_to_ours']:.2f}",
                    f"{found['peak_bytes'] / 2**20:.1f}",
                    f"{found['peak_bytes'] / joint:.2f}",
                    f"{found['largest_gradient_error']:.1e}",
                )
            )
    columns = ("N,T,U,V", "loss", "ms", "time / ours", "peak MiB", "peak / logits", "gradient error")
    print_table("RNN-T loss, forward and backward", columns, lines)


def summary(cells: Cells, threads: int, emit: Tables) -> None:
    """A line a shape: medians of its seeds, times of other losses beside ours, peaks beside the logits' bytes."""
    found = cells.latest(lambda config: tuple(config["shape"]) if config["threads"] == threads else None)
    shapes = {shape: [row["figures"] for row in found[shape]] for shape in SHAPES if shape in found}
    present = {name for rows in shapes.values() for row in rows for name in row}
    names = [name for name in LABELS if name in present]
    others = [name for name in names if not name.startswith("ours")]
    labels = [LABELS[name] for name in names]
    columns = ["N, T, U, V", *(f"{label}, ms" for label in labels), *(f"{LABELS[name]} / ours" for name in others)]
    columns += [f"peak / logits: {', '.join(labels)}", f"gradient error: {', '.join(labels)}"]
    emit("", columns, [_medians(shape, rows, names, others) for shape, rows in shapes.items()])


def _medians(
    shape: Sequence[Any], rows: Sequence[Mapping[str, Any]], names: Sequence[str], others: Sequence[str]
) -> list[str]:
    n, t, u, v, dtype = shape
    logits = n * t * (u + 1) * v * getattr(torch, dtype).itemsize

    def median(name: str, key: str) -> float | None:
        values = [row[name][key] for row in rows if name in row]
        return statistics.median(values) if values else None

    def all_of(key: str, form: Callable[[float], str]) -> list[str]:
        return ["" if (found := median(name, key)) is None else form(found) for name in names]

    ratios = [_two_digits(found) if (found := median(name, "ratio_to_ours")) else "" for name in others]
    peaks = ", ".join(all_of("peak_bytes", lambda x: _two_digits(x / logits)))
    errors = ", ".join(all_of("largest_gradient_error", lambda x: f"{x:.0e}".replace("e-0", "e-")))
    label = f"{n}, {t}, {u}, {v}" + ("" if dtype == "float32" else f", {dtype}")
    return [label, *all_of("milliseconds", _two_digits), *ratios, peaks, errors]


def _two_digits(x: float) -> str:
    """At least two: 0.79, 5.0, 21, 448."""
    return f"{x:.2f}" if x < 1 else f"{x:.1f}" if x < 10 else f"{x:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="two small shapes, three repeats, one seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "rnnt_loss.jsonl")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        request = json.loads(options.peak_of)
        torch.set_num_threads(request["threads"])
        print(peak_of(request["name"], request["shape"], request["seed"]))
        return
    cells = Cells(options.results)
    if not options.table:
        torch.set_num_threads(options.threads)
        run(options, cells)
    with shown(__file__, "rnnt_loss", cells, options) as emit:
        summary(cells, options.threads, emit)


def run(options: argparse.Namespace, cells: Cells) -> None:
    candidates = losses(with_torchaudio=True)
    seeds = range(1 if options.quick else options.seeds)
    wanted = [(config, seed) for config in configurations(options.quick, options.threads, candidates) for seed in seeds]
    missing = [config for config, seed in wanted if cells.done(config, seed) is None]
    print(f"{len(missing)} of {len(wanted)} cells to run, about {estimated_hours(missing):.3f} CPU hours")
    print_machine(torch=torch.__version__, torch_threads=options.threads)
    rows = [row for config, seed in wanted if (row := cells.done(config, seed))]
    if rows and missing:
        show(rows)
    for config, seed in wanted:
        if cells.done(config, seed) is None:
            start = time.perf_counter()
            figures = measure(config, seed, candidates)
            row = cells.record(config, seed, figures, time.perf_counter() - start)
            rows.append(row)
            show([row])
    show(rows)


if __name__ == "__main__":
    run_script(main)
