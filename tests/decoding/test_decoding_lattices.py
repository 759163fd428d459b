import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_cases import all_paths, best_by_words, lattices, words_of

from sottovoce.decoding.lattices import (
    best_path,
    make_lattice,
    nbest_paths,
    oracle_path,
    path_of,
    path_scores,
    posteriors,
    prune,
)
from sottovoce.decoding.scores import ScoreWeights
from sottovoce.errors import ConfigError, DataError


@given(lattices(), st.integers(1, 40))
def test_nbest_is_what_every_path_gives(lattice, n: int) -> None:
    wanted = best_by_words(lattice)
    found = nbest_paths(lattice, n)
    assert len(found) == min(n, len(wanted))
    assert len({path.words for path in found}) == len(found)
    assert [path.score for path in found] == pytest.approx(sorted(wanted.values(), reverse=True)[: len(found)])
    for path in found:
        assert path.score == pytest.approx(wanted[path.words]) and words_of(lattice, path.links) == path.words
        assert lattice.starts[path.links[0]] == 0 and lattice.ends[path.links[-1]] == lattice.final
        assert all(lattice.ends[a] == lattice.starts[b] for a, b in zip(path.links, path.links[1:], strict=False))


@given(lattices(), st.floats(0.1, 2.0))
def test_forward_backward_sums_to_one(lattice, scale: float) -> None:
    found = posteriors(lattice, scale=scale)
    totals = scale * lattice.totals()
    paths = [(links, math.fsum(totals[links])) for links in all_paths(lattice)]
    whole = np.logaddexp.reduce([score for _, score in paths])
    assert found.total == pytest.approx(whole) and found.backward[0] == pytest.approx(whole)
    by_link = np.zeros(lattice.links)
    for links, score in paths:
        by_link[links] += math.exp(score - whole)
    assert np.exp(found.links) == pytest.approx(by_link)
    # Whatever cuts the lattice in two holds all of the probability.
    for node in range(1, lattice.nodes):
        cut = (lattice.starts < node) & (lattice.ends >= node)
        assert np.exp(found.links[cut]).sum() == pytest.approx(1.0)


@given(lattices(), st.floats(0, 6))
def test_pruning_keeps_what_is_likely_and_the_best_path(lattice, beam: float) -> None:
    small = prune(lattice, beam)
    assert best_path(small).score == pytest.approx(best_path(lattice).score)
    likely = {
        links: score
        for links, score in ((tuple(links), 0) for links in all_paths(lattice))
        if all(posteriors(lattice).links[link] >= -beam for link in links)
    }
    kept = best_by_words(small)
    assert {words_of(lattice, links) for links in likely} <= set(kept)
    assert set(kept) <= set(best_by_words(lattice))


def test_pruning_leaves_out() -> None:
    lattice = make_lattice("u", [0, 1, 2], [0, 0, 1], [1, 1, 2], ["a", "b", "c"], {"acoustic": [-1, -9, 0]})
    assert [prune(lattice, 5).word(i) for i in range(2)] == ["a", "c"] and prune(lattice, 5).links == 2
    assert prune(lattice, 8.1).links == 3  # the unlikely link's log-posterior is -8.0003
    with pytest.raises(ConfigError, match="beam"):
        prune(lattice, -1)


def distance(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    @cache
    def between(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = between(i - 1, j - 1) + (left[i - 1] != right[j - 1])
        return min(same, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(left), len(right))


@given(lattices(), st.lists(st.sampled_from("abcx"), max_size=6))
def test_the_oracle_has_the_fewest_errors_of_all_paths(lattice, reference: list[str]) -> None:
    path, errors = oracle_path(lattice, reference)
    assert errors == min(distance(tuple(reference), words) for words in best_by_words(lattice))
    assert distance(tuple(reference), path.words) == errors


def test_thousands_of_alignments_of_the_same_words_do_not_matter() -> None:
    # 2 ** 60 paths, of which all but a few spell the same words.
    starts, ends, words, acoustic = [], [], [], []
    for i in range(60):
        starts += [i, i]
        ends += [i + 1, i + 1]
        words += ["", "" if i % 20 else "x"] if i % 2 else ["w", "w"]
        acoustic += [0.0, -0.5]
    found = nbest_paths(make_lattice("u", [0.0] * 61, starts, ends, words, {"acoustic": acoustic}), 5)
    assert [path.score for path in found] == [0.0]
    assert found[0].words == ("w",) * 30


def test_equal_words_take_their_best_path_and_scores_add_up() -> None:
    lattice = make_lattice(
        "u", [0, 1, 2], [0, 0, 1, 0], [1, 1, 2, 2], ["a", "a", "!NULL", "b"],
        {"acoustic": [-4, -1, -1, -3], "lm": [0, -0.5, 0, -1]}, weights=ScoreWeights({"acoustic": 1, "lm": 2}, -0.25),
    )  # fmt: skip
    first, second = nbest_paths(lattice, 9)
    assert (first.words, first.score) == (("a",), -1 - 1 - 2 * 0.5 - 0.25)
    assert path_scores(lattice, first) == {"acoustic": -2, "lm": -0.5}
    assert (second.words, second.score) == (("b",), -3 - 2 - 0.25)
    assert best_path(lattice, ScoreWeights({"acoustic": 1}, 10)).words == ("a",)
    assert path_of(lattice, second.links).score == second.score


def test_links_in_any_order_dead_ends_and_several_ends() -> None:
    # 3 -> 1 -> 0 and 3 -> 2, both ends; 4 -> 0 begins nowhere and 1 -> 5 ends nowhere once 0 and 2 are the ends.
    lattice = make_lattice(
        "u", [3, 1, 2, 0, 9, 8], [1, 3, 3, 4, 1], [0, 1, 2, 0, 5], list("abcde"), {"lm": [1, 2, 3, 4, 5]},
        initial=3, finals={0: {}, 2: {"lm": -0.5}},
    )  # fmt: skip
    assert best_by_words(lattice) == {("b", "a"): 3.0, ("c",): 2.5}
    assert np.all(lattice.starts < lattice.ends) and lattice.times.tolist() == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("starts", "ends", "options", "message"),
    [
        ([], [], {}, "u: expected a lattice with links, found none"),
        ([0, 1, 2, 1], [1, 2, 1, 3], {}, "u: expected no cycle, found one that the link from node"),
        ([0, 1], [0, 2], {"initial": 0}, "u: expected no cycle"),
        ([0, 1], [1, 0], {}, "u: expected no cycle, found one that the link from node 0 to node 1 closes"),
        ([0, 1], [2, 2], {}, "u: expected one node without predecessors, found 2: 0, 1"),
        ([0, 1], [2, 3], {"initial": 0, "finals": {3: {}}}, "u: expected a path from the first node to the last"),
        ([0, 1], [1, 2], {"finals": {2: {"lm": math.inf}}}, "u: expected finite final scores, found inf"),
    ],
)
def test_what_is_no_lattice(starts: list[int], ends: list[int], options, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_lattice("u", [0.0] * 4, starts, ends, ["w"] * len(starts), {"lm": [0.0] * len(starts)}, **options)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_infinite_scores_and_words_with_spaces_are_named(bad: float) -> None:
    with pytest.raises(DataError, match=f"line 1: expected a finite lm score, found {bad}"):
        make_lattice("u", [0] * 3, [0, 1], [1, 2], ["a", "b"], {"lm": [0, bad]}, where=lambda link: f"line {link}")
    with pytest.raises(DataError, match="line 0: expected a word without white space, found 'a b'"):
        make_lattice("u", [0] * 3, [0, 1], [1, 2], ["a b", "b"], {"lm": [0, 0]}, where=lambda link: f"line {link}")


def test_options_that_make_no_sense() -> None:
    lattice = make_lattice("u", [0, 1], [0], [1], ["a"], {"lm": [0.0]})
    with pytest.raises(ConfigError, match="n-best: expected at least 1"):
        nbest_paths(lattice, 0)
    with pytest.raises(ConfigError, match="scale"):
        posteriors(lattice, scale=0.0)
    with pytest.raises(DataError, match="score 'ngram': expected among lm"):
        lattice.totals(ScoreWeights({"ngram": 1.0}))
    with pytest.raises(ConfigError, match="finite number for lm"):
        ScoreWeights({"lm": math.nan})


@settings(deadline=None, max_examples=20)
@given(lattices())
def test_only_the_links_on_a_path_are_kept(lattice) -> None:
    for link in range(lattice.links):
        kept = np.ones(lattice.links, bool)
        kept[link] = False
        left = [links for links in all_paths(lattice) if link not in links]
        if not left:
            with pytest.raises(DataError, match="a path"):
                lattice.keeping(kept)
        else:
            small = lattice.keeping(kept)
            assert small.links == len({i for links in left for i in links})
