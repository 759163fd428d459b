"""One budget for two models: expected errors by hand, the budget in bytes of both files, allocation by enumeration."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sottovoce as sv
from sottovoce.decoding.nbest_lists import NBestEntry, NBestList
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import ConfigError, DataError, PlanError
from sottovoce.evaluation.fused import FusedLists
from sottovoce.packed import file_sizes
from sottovoce.schemes import PTQ, compress
from sottovoce.search.joint import (
    DIVERGENCE,
    EXPECTED,
    ListScorer,
    bytes_of_plan,
    errors_of_plans,
    join_tables,
    joint_sensitivity,
    judged_by,
    split_plan,
)

WEIGHTS = ScoreWeights({"acoustic": 1.0, "lm": 0.7}, -0.4)
TEXTS = [["a b", "a", "b b a"], ["c", ""], ["a b c", "a c c", "b", "c c"]]
REFERENCES = {"0": "a b", "1": "c a", "2": "a b c"}
ENTRIES = sum(map(len, TEXTS))


class Toy(nn.Module):
    """Scores of entries from their numbers: an embedding and two maps."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.middle, self.output = nn.Embedding(ENTRIES, 6), nn.Linear(6, 5), nn.Linear(5, 1)

    def scores(self) -> np.ndarray:
        with torch.no_grad():
            return self.output(self.middle(self.embedding.weight).tanh())[:, 0].double().numpy() * 4


def setting(cache: Path | None = None) -> tuple[dict[str, ListScorer], FusedLists]:
    models = {"asr": ("acoustic", Toy(1)), "lm": ("lm", Toy(2))}
    scorers = {
        role: ListScorer(name, m, m.scores, cache=None if cache is None else cache / role)
        for role, (name, m) in models.items()
    }
    scores = {name: iter(m.scores().tolist()) for name, m in models.values()}
    lists = [
        NBestList(str(i), tuple(NBestEntry(tuple(t.split()), {n: next(s) for n, s in scores.items()}) for t in texts))
        for i, texts in enumerate(TEXTS)
    ]
    return scorers, FusedLists.of(lists, REFERENCES, WEIGHTS)


def by_hand(acoustic: np.ndarray, lm: np.ndarray) -> float:
    """The mean number of errors over every way to draw one entry of each list."""
    errors = [[0, 1, 2], [1, 2], [0, 1, 2, 2]]
    at, shares = 0, []
    for texts in TEXTS:
        rows = range(at, at + len(texts))
        weighted = [
            np.exp(acoustic[i] + 0.7 * lm[i] - 0.4 * len(text.split())) for i, text in zip(rows, texts, strict=True)
        ]
        shares.append([w / sum(weighted) for w in weighted])
        at += len(texts)
    total = 0.0
    for draw in itertools.product(*(range(len(texts)) for texts in TEXTS)):
        probability = np.prod([shares[i][k] for i, k in enumerate(draw)])
        total += float(probability) * sum(errors[i][k] for i, k in enumerate(draw))
    return total


def test_expected_errors_are_those_of_every_draw() -> None:
    scorers, lists = setting()
    acoustic, lm = (x.scores() for x in scorers.values())
    assert lists.words == 7
    assert lists.expected_errors() == pytest.approx(by_hand(acoustic, lm), abs=1e-12)
    other = np.random.default_rng(0).normal(0, 3, ENTRIES)
    assert lists.expected_errors({"lm": other}) == pytest.approx(by_hand(acoustic, other), abs=1e-12)
    large = 1e4 * lm
    assert lists.expected_errors({"lm": large}) == pytest.approx(lists.errors_of_best({"lm": large}), abs=1e-9)
    with pytest.raises(DataError, match="expected acoustic, lm of 9 entries"):
        lists.expected_errors({"ngram": other})


def test_the_divergence_is_that_of_the_numbers_of_errors() -> None:
    scorers, lists = setting()
    acoustic, lm = (x.scores() for x in scorers.values())
    other = np.random.default_rng(1).normal(0, 3, ENTRIES)

    def shares(column: np.ndarray) -> list[dict[int, float]]:
        errors = [[0, 1, 2], [1, 2], [0, 1, 2, 2]]
        found, at = [], 0
        for texts, counts in zip(TEXTS, errors, strict=True):
            rows = range(at, at + len(texts))
            w = [np.exp(acoustic[i] + 0.7 * column[i] - 0.4 * len(t.split())) for i, t in zip(rows, texts, strict=True)]
            found.append({n: sum(x for x, k in zip(w, counts, strict=True) if k == n) / sum(w) for n in set(counts)})
            at += len(texts)
        return found

    pairs = zip(shares(lm), shares(other), strict=True)
    expected = sum(p[n] * np.log(p[n] / q[n]) for p, q in pairs for n in p)
    assert lists.divergence({"lm": other}) == pytest.approx(expected, abs=1e-12)
    assert lists.divergence({}) == 0.0
    rest = acoustic[-2:] - 0.4 * np.array([1, 2])  # of the last two entries, which have as many errors each
    moved = np.concatenate([lm[:-2], (np.log(np.mean(np.exp(rest + 0.7 * lm[-2:]))) - rest) / 0.7])
    assert lists.divergence({"lm": moved}) == pytest.approx(0.0, abs=1e-12)
    assert lists.divergence({"lm": 1e4 * lm}) >= 0
    with pytest.raises(DataError, match="expected acoustic, lm of 9 entries"):
        lists.divergence({"ngram": other})


def test_a_cluster_costs_what_its_rounding_alone_adds(tmp_path: Path) -> None:
    scorers, lists = setting(tmp_path)
    before = {role: {k: v.clone() for k, v in x.model.state_dict().items()} for role, x in scorers.items()}
    table = joint_sensitivity(scorers, lists, (1, 2, 8), by="tensor")
    assert [c.name for c in table.clusters][:4] == [
        "asr:embedding.weight", "asr:middle.weight", "asr:output.weight", "lm:embedding.weight",
    ]  # fmt: skip
    changes = [change for role in ("asr", "lm") for change in table.details["change"][role]]
    divergence = np.concatenate([table.details["divergence"][role] for role in ("asr", "lm")])
    assert np.array_equal(table.omega, divergence) and table.metric == DIVERGENCE and (divergence > 0).all()
    by_errors = judged_by(table, EXPECTED)
    assert np.array_equal(by_errors.omega, np.maximum(changes, 0.0) + 1e-3 * divergence)
    assert (np.array(changes) < 0).any() and (by_errors.omega > 0).all()  # what seems to gain is not free either
    assert np.array_equal(judged_by(by_errors, DIVERGENCE).omega, divergence) and by_errors.metric == EXPECTED
    for i, cluster in enumerate(table.clusters):
        role, _, name = cluster.name.partition(":")
        for j, bits in enumerate(table.bits):
            plan = sv.BitPlan({name: (replace(table.levels, bits=bits),)})
            model = Toy({"asr": 1, "lm": 2}[role])
            compress(model, plan, PTQ()).finish(float_dtype="float32")
            columns = {r: x.scores() for r, x in scorers.items()} | {role: model.scores()}
            expected = by_hand(columns["asr"], columns["lm"]) - lists.expected_errors()
            assert changes[i][j] == pytest.approx(expected, abs=1e-6)
            away = lists.divergence({scorers[role].name: columns[role]})
            assert table.omega[i, j] == pytest.approx(away, abs=1e-6)
    for role, scorer in scorers.items():
        assert all(torch.equal(v, before[role][k]) for k, v in scorer.model.state_dict().items())

    def never() -> np.ndarray:
        raise AssertionError("found before")

    again = {role: replace(x, scores=never) for role, x in scorers.items()}
    found = joint_sensitivity(again, lists, (1, 2, 8), by="tensor", metric=EXPECTED)
    assert np.array_equal(found.omega, by_errors.omega)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_the_budget_is_kept_by_both_files_and_the_split_is_the_best_there_is(share: float, tmp_path: Path) -> None:
    scorers, lists = setting()
    table = joint_sensitivity(scorers, lists, (1, 4, 8), by="tensor")
    options = list(itertools.product(range(3), repeat=len(table.clusters)))
    least, most = (table.price([b] * 6).model_bytes for b in (0, 2))
    budget = int(least + share * (most - least))
    choice = table.choose(max_bytes=budget)
    fitting = [p for p in map(table.price, options) if p.model_bytes <= budget]
    assert choice.omega == pytest.approx(min(p.omega for p in fitting), abs=1e-12)
    plans = split_plan(choice.plan, list(scorers))
    written = 0
    for role, scorer in scorers.items():
        assert set(plans[role].weights) == {"embedding.weight", "middle.weight", "output.weight"}
        model = Toy({"asr": 1, "lm": 2}[role])
        compress(model, plans[role], PTQ()).finish().save(tmp_path / role)
        size = file_sizes(tmp_path / role).model_bytes
        assert size == bytes_of_plan(scorer, plans[role])
        written += size
    assert written <= choice.model_bytes <= budget


def test_a_pair_of_plans_is_judged_by_what_its_files_score(tmp_path: Path) -> None:
    scorers, lists = setting()
    plans = {
        role: sv.BitPlan.uniform(x.model, bits, kind="uniform") for bits, (role, x) in enumerate(scorers.items(), 1)
    }
    columns = {}
    for role, scorer in scorers.items():
        rounded, loaded = Toy({"asr": 1, "lm": 2}[role]), Toy(9)
        compress(rounded, plans[role], PTQ()).finish().save(tmp_path / role)
        sv.load(tmp_path / role, into=loaded)
        columns[scorer.name] = loaded.scores()
    found = errors_of_plans(scorers, lists, plans)
    assert found.expected == pytest.approx(by_hand(columns["acoustic"], columns["lm"]), abs=1e-9)
    assert found.best == lists.errors_of_best(columns)
    assert errors_of_plans(scorers, lists, {}).expected == lists.expected_errors()
    alone = errors_of_plans(scorers, lists, {"lm": plans["lm"]})
    assert alone.expected == pytest.approx(lists.expected_errors({"lm": columns["lm"]}), abs=1e-9)


def test_what_cannot_be_one_budget_is_refused() -> None:
    scorers, lists = setting()
    table = joint_sensitivity(scorers, lists, (1, 4), by="model")
    with pytest.raises(PlanError, match="the same bits"):
        join_tables({"asr": table, "lm": replace(table, bits=(2, 4))})
    broken = {"lm": replace(scorers["lm"], scores=lambda: np.full(ENTRIES, np.nan))}
    with pytest.raises(ConfigError, match="expected finite scores"):
        joint_sensitivity(broken, lists, (1,), by="model")
    with pytest.raises(PlanError, match="metric: expected divergence of word errors or word errors, found"):
        joint_sensitivity(scorers, lists, (1,), metric="kl")
    with pytest.raises(PlanError, match="max_bytes: at least"):
        table.choose(max_bytes=100)
