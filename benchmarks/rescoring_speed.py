"""Rescoring n-best lists with a 2-bit LSTM language model, beside the same network in fp32 PyTorch, on this processor.

    python benchmarks/rescoring_speed.py --data DIR [--quick] [--threads 1 2] [--results FILE]
    python benchmarks/rescoring_speed.py --table [--page FILE]

The model: one LSTM layer of 256 over an embedding of 256, 9,682 words (recipes/swda.words), random weights, rounded to
2 bits and packed as training does it. The lists: utterances of SwDA's validation conversations, in DIR, each with 19
more entries in which one to three words are replaced by words drawn as often as the corpus has them. Systems take turns
in shuffled rounds; ratios are of medians, words a second count words without ends of sentences.

PyTorch is at its best here: inference mode, sentences of similar length together, only real positions reach the output
layer, the fastest of several batch sizes, padded and packed. Once each sentence is read alone by all, and once all read
a beginning that entries share but once. Before anything is timed, the packed scorer is compared with the NumPy
definition bit for bit, with and without shared beginnings, and PyTorch's ways with one another and with the scorer's
float arithmetic. Finished cells are not run again; ``--table`` only prints those of
``--lists`` lists that were measured last, ``--page`` puts them into a page's region ``rescoring_speed``.
"""

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import Cells, print_machine, run_script
from numpy.typing import NDArray
from tables import Tables, add_page_option, print_table, shown
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from torch.nn.utils.rnn import pack_padded_sequence

from sottovoce.data.corpora.swda import read_swda
from sottovoce.decoding.prefixes import prefix_levels
from sottovoce.decoding.sentence_scores import word_scores
from sottovoce.decoding.vocabulary import WordList
from sottovoce.errors import DataError
from sottovoce.models.lstm_lm import LstmLm
from sottovoce.ngram import read_word_list
from sottovoce.packed import LstmLmArchitecture, PackedModel
from sottovoce.quant import BitPlan
from sottovoce.runtime import LanguageModelScorer, TextInput, choose_kernel
from sottovoce.runtime.kernels import NUMPY, VARIABLE
from sottovoce.runtime.language_models import token_model
from sottovoce.schemes import PTQ, compress

Row = NDArray[np.int64]
Scores = list[NDArray[np.float32]]
System = Callable[[], Any]

BITS, ENTRIES = 2, 20
WORDS = Path(__file__).parents[1] / "recipes" / "swda.words"
BATCHES, TRIAL = (64, 256, 1024), 100  # sentences that PyTorch is tried with, and lists of the trial
LIMIT = 2.0
TOLERANCE = 1e-4  # nats a token, between PyTorch's ways and the scorer's float arithmetic
ALONE, SHARED = "each sentence alone", "shared beginnings once"
HOW = (ALONE, SHARED)
OURS, FROM_WORDS = "packed", "packed, from words as rescore does"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="SwDA, as 'sottovoce train' takes it; needed unless --table is given")
    parser.add_argument("--quick", action="store_true", help="100 lists, one thread, three rounds")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lists", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what is there")
    add_page_option(parser)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "rescoring_speed.jsonl")
    options = parser.parse_args()
    if options.data is None and not options.table:
        parser.error("--data is needed")
    cells = Cells(options.results)
    if not options.table:
        run(options, cells)
    if options.table or options.page:
        with shown(__file__, "rescoring_speed", cells, options) as emit:
            summary(cells, options.lists, emit)


def run(options: argparse.Namespace, cells: Cells) -> None:
    threads = [1] if options.quick else options.threads
    count, rounds = (100, 3) if options.quick else (options.lists, options.rounds)
    words = WordList(read_word_list(WORDS))
    lists = make_lists(utterances(options.data), words, count, options.seed)
    configs = [cell_config(lists, rounds, n) for n in threads]
    missing = [config for config in configs if cells.done(config, options.seed) is None]
    print(f"{len(missing)} of {len(configs)} cells to run, about {estimated_hours(missing):.3f} CPU hours")
    print_machine(torch=version("torch"))
    for config in configs:
        row = cells.done(config, options.seed)
        if row is None:
            start = time.perf_counter()
            figures = measure(config, words, lists, options.seed)
            row = cells.record(config, options.seed, figures, time.perf_counter() - start)
        show(row)


def utterances(data: Path) -> list[list[str]]:
    """Of the validation conversations, without empty ones."""
    conversations = read_swda(data).split("validation")
    return [sentence.split() for c in conversations for sentence in c.sentences if sentence]


def make_lists(sentences: Sequence[Sequence[str]], words: WordList, count: int, seed: int) -> list[list[Row]]:
    """``count`` utterances at equal distances, each with what might have been heard instead: ``ENTRIES`` different
    rows of token ids, the utterance first. Raises DataError where there are too few utterances."""
    if len(sentences) < count:
        raise DataError(f"lists: expected {count} utterances, found {len(sentences)}")
    rng = np.random.default_rng(seed)
    spoken = [np.array(words.encode(" ".join(sentence)), np.int64) for sentence in sentences]
    drawn = np.concatenate(spoken)
    chosen = [spoken[i] for i in np.linspace(0, len(spoken) - 1, count).astype(int)]
    return [_entries(reference, drawn, rng) for reference in chosen]


def _entries(reference: Row, drawn: Row, rng: np.random.Generator) -> list[Row]:
    found = {reference.tobytes(): reference}
    while len(found) < ENTRIES:
        entry = reference.copy()
        places = rng.choice(len(entry), min(len(entry), int(rng.integers(1, 4))), replace=False)
        entry[places] = rng.choice(drawn, len(places))
        found.setdefault(entry.tobytes(), entry)
    return list(found.values())


def cell_config(lists: Sequence[Sequence[Row]], rounds: int, threads: int) -> dict[str, Any]:
    rows = [row for entries in lists for row in entries]
    return {
        "kernel": choose_kernel().name,
        "bits": BITS,
        "lists": len(lists),
        "words": sum(map(len, rows)),
        "content": hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest()[:12],
        "rounds": rounds,
        "threads": threads,
        "torch": version("torch"),
    }


def estimated_hours(configs: Sequence[Mapping[str, Any]]) -> float:
    """CPU hours: 20 s to make and compare networks, 0.12 ms a word and pass of PyTorch alone, 0.3 ms of all systems."""
    words = sum(
        c["words"] * c["rounds"] * 3e-4 + min(c["lists"], TRIAL) / c["lists"] * c["words"] * 2e-3 for c in configs
    )
    return (words + 20 * sum(c["threads"] for c in configs)) / 3600


def network(words: WordList, seed: int) -> LstmLm:
    """Random weights, such that probabilities are not all alike."""
    torch.manual_seed(seed)
    model = LstmLm(LstmLmArchitecture(words.size, embedding=256, units=256, layers=1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if parameter.dim() > 1 else 0.3))
    return model


def packed_model(model: LstmLm, words: WordList) -> PackedModel:
    """As training ends; the module then holds what the file decodes to."""
    packed = compress(model, BitPlan.uniform(model, BITS), PTQ()).finish()
    shipped = {"architecture": model.architecture.to_dict(), "input": TextInput("spoken").to_dict()}
    return replace(packed, **shipped, tokenizer=words.model)


class PyTorch:
    """Log-probabilities of each row's tokens and its end, float32 (tokens + 1,), by the module in fp32."""

    def __init__(self, model: LstmLm, rows: Sequence[Row]) -> None:
        self.model, self.rows = model, [np.concatenate([[0], row]) for row in rows]

    def padded(self, batch: int) -> Scores:
        return self._alone(batch, packed=False)

    def packed(self, batch: int) -> Scores:
        return self._alone(batch, packed=True)

    @torch.inference_mode()
    def _alone(self, batch: int, packed: bool) -> Scores:
        order = sorted(range(len(self.rows)), key=lambda i: -len(self.rows[i]))
        found: Scores = [np.empty(0, np.float32)] * len(order)
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            rows = [self.rows[i] for i in some]
            lengths = torch.tensor([len(row) for row in rows])
            tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
            real = torch.arange(tokens.shape[1]) < lengths[:, None]
            tokens[real] = torch.from_numpy(np.concatenate(rows))
            targets = torch.cat([tokens[:, 1:], torch.zeros(len(rows), 1, dtype=torch.long)], dim=1)
            scores = torch.zeros(tokens.shape)
            scores[real] = self._targets(self._hidden(tokens, real, lengths, packed), targets[real])
            for i, row, length in zip(some, scores.numpy(), lengths.tolist(), strict=True):
                found[i] = row[:length]
        return found

    def _hidden(self, tokens: Tensor, real: Tensor, lengths: Tensor, packed: bool) -> Tensor:
        """What the output layer reads at the real positions, row after row."""
        embedded = self.model.embedding(tokens)
        if not packed:
            hidden: Tensor = self.model.lstm(embedded)[0][real]
            return hidden
        data = self.model.lstm(pack_padded_sequence(embedded, lengths, batch_first=True))[0].data
        by_time = torch.zeros(real.shape[1], real.shape[0], data.shape[1])
        by_time[real.T] = data
        return by_time.transpose(0, 1)[real]

    def _targets(self, hidden: Tensor, targets: Tensor, rows: int = 256) -> Tensor:
        """Blocks of logits that stay in a cache: one large product is slower."""
        parts = zip(hidden.split(rows), targets.split(rows), strict=True)
        return torch.cat([-cross_entropy(self.model.output(h), t, reduction="none") for h, t in parts])

    @torch.inference_mode()
    def shared(self, batch: int) -> Scores:
        """Along a prefix tree: each beginning is read once, and its logits are made once."""
        found: Scores = []
        for start in range(0, len(self.rows), batch):
            found += self._tree(self.rows[start : start + batch])
        return found

    def _tree(self, rows: Sequence[Row]) -> Scores:
        lstm = self.model.lstm
        weights = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0)
        h = c = torch.zeros(1, lstm.hidden_size)
        lengths = np.array([len(row) for row in rows])
        begins = np.cumsum(lengths) - lengths
        nodes, hidden, before = np.empty(lengths.sum(), np.int64), list[Tensor](), 0
        for place, level in enumerate(prefix_levels(rows, np.zeros(len(rows), np.int64))):
            parents = torch.from_numpy(level.parents)
            h, c = _cell(self.model.embedding(torch.from_numpy(level.tokens)), h[parents], c[parents], *weights)
            nodes[begins[level.rows] + place] = before + level.nodes
            before += len(level.tokens)
            hidden.append(h)
        targets = np.concatenate([np.append(row[1:], 0) for row in rows])
        scores = self._at(torch.cat(hidden), nodes, targets)
        return np.split(scores, begins[1:])

    def _at(self, hidden: Tensor, nodes: Row, targets: Row, rows: int = 256) -> NDArray[np.float32]:
        order = np.argsort(nodes, kind="stable")
        edges = np.searchsorted(nodes[order], np.arange(0, len(hidden) + rows, rows))
        found = np.empty(len(targets), np.float32)
        for k, block in enumerate(hidden.split(rows)):
            now = order[edges[k] : edges[k + 1]]
            logits = self.model.output(block)
            at = torch.from_numpy(nodes[now] - k * rows), torch.from_numpy(targets[now])
            found[now] = (logits[at] - logits.logsumexp(dim=1)[at[0]]).numpy()
        return found


def _cell(x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (linear(x, w_ih, bias) + linear(h, w_hh)).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def measure(config: Mapping[str, Any], words: WordList, lists: Sequence[Sequence[Row]], seed: int) -> dict[str, Any]:
    torch.set_num_threads(config["threads"])
    model = network(words, seed)
    packed = packed_model(model, words)
    rows = [row for entries in lists for row in entries]
    theirs = PyTorch(model, rows)
    scorers = {
        share: LanguageModelScorer(packed, num_threads=config["threads"], share_beginnings=share)
        for share in (True, False)
    }
    checks = verify(packed, scorers, theirs, rows)
    trial = PyTorch(model, rows[: TRIAL * ENTRIES])
    ways = {name: quickest(getattr(trial, name)) for name in ("padded", "packed", "shared")}
    print("PyTorch's batches: " + ", ".join(f"{name} {batch}" for name, (batch, _) in ways.items()), flush=True)
    alone = min(("padded", "packed"), key=lambda name: ways[name][1])
    as_words = [[words.entries[i] for i in row] for row in rows]
    systems: dict[str, System] = {
        f"{OURS}, {ALONE}": lambda: scorers[False].score(rows),
        f"{OURS}, {SHARED}": lambda: scorers[True].score(rows),
        f"{FROM_WORDS}, {SHARED}": lambda: word_scores(token_model(scorers[True]), as_words),
        f"PyTorch {alone}, {ALONE}": lambda: getattr(theirs, alone)(ways[alone][0]),
        f"PyTorch, {SHARED}": lambda: theirs.shared(ways["shared"][0]),
    }
    return {
        "parameters": packed.parameters,
        "seconds": turns(systems, config["rounds"], seed),
        "batches": {name: batch for name, (batch, _) in ways.items()},
        **checks,
    }


def verify(
    packed: PackedModel, scorers: Mapping[bool, LanguageModelScorer], theirs: PyTorch, rows: Sequence[Row]
) -> dict[str, float]:
    """Raises SystemExit unless all score the same; the scorer's integers cost something, which is told."""
    few = rows[: 10 * ENTRIES]
    some = PyTorch(theirs.model, few)
    plain = np.concatenate(some.padded(64))
    ways = {"packed": some.packed(64), "shared beginnings": some.shared(64)}
    floats = np.concatenate(LanguageModelScorer(packed, arithmetic="float").score(few))
    for name, found in {**ways, "float arithmetic": [floats]}.items():
        difference = float(np.abs(np.concatenate(found) - plain).max())
        if not difference < TOLERANCE:
            raise SystemExit(f"{name}: {difference:.1e} nats a token from PyTorch padded: not the same network")
    with kernel(NUMPY):
        definition = np.concatenate(LanguageModelScorer(packed).score(few[: 2 * ENTRIES]))
    ours = [np.concatenate(scorer.score(few)) for scorer in scorers.values()]
    if not np.array_equal(ours[0], ours[1]) or not np.array_equal(ours[0][: len(definition)], definition):
        raise SystemExit("the packed scorer is not bit-equal to the NumPy definition, or depends on shared beginnings")
    levels = prefix_levels([np.concatenate([[0], row]) for row in rows], np.arange(len(rows)) // ENTRIES)
    tokens = sum(len(row) + 1 for row in rows)
    return {
        "int8_difference": float(np.abs(ours[0] - plain).mean()),
        "distinct": sum(len(level.tokens) for level in levels) / tokens,
    }


@contextmanager
def kernel(name: str) -> Iterator[None]:
    """For a while, the kernel of that name."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def quickest(way: Callable[[int], Scores]) -> tuple[int, float]:
    """The batch size with the shortest time, and that time: the shorter of two."""
    seconds = {batch: min(_timed(lambda batch=batch: way(batch)) for _ in range(2)) for batch in BATCHES}
    batch = min(seconds, key=seconds.__getitem__)
    return batch, seconds[batch]


def turns(systems: Mapping[str, System], rounds: int, seed: int) -> dict[str, list[float]]:
    """Seconds of each system in every round; their order is drawn anew each time."""
    rng = np.random.default_rng(seed)
    names = list(systems)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in rng.permutation(names):
            found[name].append(_timed(systems[name]))
    return found


def _timed(system: System) -> float:
    start = time.perf_counter()
    system()
    return time.perf_counter() - start


def medians(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in row["figures"]["seconds"].items()}


def ratios(row: Mapping[str, Any]) -> dict[str, float]:
    """How many times as fast as PyTorch each of ours is: alone beside alone, shared beside shared."""
    found = medians(row)
    theirs = {how: next(s for name, s in found.items() if name.startswith("PyTorch") and how in name) for how in HOW}
    return {
        name: theirs[how] / seconds
        for name, seconds in found.items()
        for how in HOW
        if how in name and not name.startswith("PyTorch")
    }


def summary(cells: Cells, lists: int, emit: Tables) -> None:
    """A line for each number of threads and way of reading beginnings: words a second, and beside PyTorch."""
    lines = []
    found = cells.latest(lambda c: (c["kernel"], c["threads"]) if c["lists"] == lists else None)
    for (kernel, threads), rows in sorted(found.items()):
        for how in HOW:
            lines.append([kernel, str(threads), how, *_speeds(rows[0], how)])
    ours = ["packed, words a second", "from words", "PyTorch", "packed / PyTorch", "from words / PyTorch"]
    emit("", ["kernels", "threads", "beginnings", *ours], lines)


def _speeds(row: Mapping[str, Any], how: str) -> list[str]:
    seconds, faster = medians(row), ratios(row)
    theirs = next(name for name in seconds if name.startswith("PyTorch") and how in name)
    ours = [f"{OURS}, {how}", f"{FROM_WORDS}, {how}"]
    speeds = [f"{row['config']['words'] / seconds[name]:,.0f}" if name in seconds else "" for name in [*ours, theirs]]
    return [*speeds, *(f"{faster[name]:.2f}" if name in faster else "" for name in ours)]


def show(row: Mapping[str, Any]) -> None:
    config, figures = row["config"], row["figures"]
    print(
        f"{figures['parameters'] / 1e6:.2f} million parameters at {config['bits']} bits, {config['kernel']}; "
        f"{100 * figures['distinct']:.0f} % of a list's tokens end different beginnings; integer activations change "
        f"{figures['int8_difference']:.4f} nats a token"
    )
    found, lines = ratios(row), []
    for name, seconds in medians(row).items():
        ratio = found.get(name)
        told = "" if ratio is None else f"{ratio:.2f} " + ("pass" if ratio >= LIMIT else "FAIL")
        lines.append([name, f"{seconds:.2f}", f"{config['words'] / seconds:,.0f}", told])
    threads = f"{config['threads']} thread{'s' if config['threads'] > 1 else ''}"
    title = f"{config['lists']:,} lists of {ENTRIES}, {config['words']:,} words, {threads}; at least {LIMIT:g} times"
    print_table(title, ("system", "seconds", "words a second", "times PyTorch"), lines)


if __name__ == "__main__":
    run_script(main)
