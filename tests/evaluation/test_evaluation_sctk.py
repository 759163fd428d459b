"""Our tests of significance against NIST's scoring toolkit, where it is installed."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sottovoce.evaluation import align
from sottovoce.evaluation.mapsswe import mapsswe
from sottovoce.evaluation.mcnemar import mcnemar_test

Texts = dict[str, str]


@pytest.fixture(scope="module")
def sctk() -> Path:
    """The folder of NIST's programs; Debian keeps them off the path."""
    for folder in (shutil.which("sc_stats"), "/usr/lib/sctk/bin/sc_stats"):
        if folder and Path(folder).exists():
            return Path(folder).parent
    pytest.skip("needs NIST's scoring toolkit (sc_stats): apt-get install sctk")


def isolated(rng: random.Random, words: Sequence[str], rate: float) -> list[str]:
    """Errors that a correct word separates, with words of their own: there is only one best alignment."""
    heard: list[str] = []
    clean = 0
    for word in words:
        clean += 1
        if clean < 2 or rng.random() > rate:
            heard.append(word)
            continue
        clean = 0
        heard += rng.choice([[f"x{rng.randrange(99)}"], [], [word, f"y{rng.randrange(99)}"]])
    return heard


def anything(rng: random.Random, words: Sequence[str], rate: float) -> list[str]:
    """Errors anywhere, side by side too, at the ends too, of the same few words."""
    heard: list[str] = []
    for word in words:
        if rng.random() > rate:
            heard.append(word)
        else:
            heard += rng.choice([[rng.choice("abcde")], [], [word, rng.choice("abcde")], [rng.choice("abc"), word]])
    return heard


def case(seed: int, spoil: Callable[[random.Random, Sequence[str], float], list[str]], rate: float, better: float):
    """References and two systems; the second shares most errors of the first, at ``better`` times its rate."""
    rng = random.Random(seed)
    references, first, second = {}, {}, {}
    for i in range(150):
        if spoil is isolated:
            words = [f"w{k}" for k in rng.sample(range(500), rng.randint(1, 14))]
        else:
            words = rng.choices("abcde", k=rng.randint(1, 14))
        id = f"s{i % 5}-u{i:03d}"
        shared = rng.getstate() if rng.random() < 0.5 else None
        left = spoil(rng, words, rate)
        if shared is not None:
            rng.setstate(shared)
        right = spoil(rng, words, rate * better)
        references[id], first[id], second[id] = " ".join(words), " ".join(left), " ".join(right)
    return references, first, second


def sgml(references: Texts, hypotheses: Texts, title: str) -> str:
    """Our alignments in the form that NIST's programs hand to one another."""
    lines = [
        f'<SYSTEM title="{title}" ref_fname="ref" hyp_fname="{title}" creation_date="Thu Jan  1 00:00:00 1970" '
        'format="2.4" frag_corr="FALSE" opt_del="FALSE" weight_ali="FALSE" weight_filename="">'
    ]
    for speaker in sorted({id.split("-")[0] for id in references}):
        lines.append(f'<SPEAKER id="{speaker}">')
        for place, id in enumerate(id for id in references if id.startswith(f"{speaker}-")):
            pairs = align(references[id].split(), hypotheses[id].split())
            lines.append(f'<PATH id="({id})" word_cnt="{len(pairs)}" sequence="{place}">')
            lines += [":".join(_step(word, heard) for word, heard in pairs), "</PATH>"]
        lines.append("</SPEAKER>")
    return "\n".join([*lines, "</SYSTEM>", ""])


def _step(word: str | None, heard: str | None) -> str:
    if word is None:
        return f'I,,"{heard}"'
    if heard is None:
        return f'D,"{word}",'
    return f'{"C" if word == heard else "S"},"{word}","{heard}"'


def sclite(sctk: Path, folder: Path, references: Texts, hypotheses: Texts, title: str) -> str:
    """NIST's own alignments."""
    for name, texts in (("ref", references), (title, hypotheses)):
        (folder / f"{name}.trn").write_text("".join(f"{text} ({id})\n" for id, text in texts.items()))
    arguments = f"-r ref.trn trn -h {title}.trn trn {title} -i spu_id -s -o sgml stdout".split()
    return subprocess.run([sctk / "sclite", *arguments], cwd=folder, capture_output=True, check=True, text=True).stdout


def statistics(sctk: Path, folder: Path, alignments: str, test: str) -> str:
    arguments = f"-p -t {test} -v -n out".split()
    subprocess.run([sctk / "sc_stats", *arguments], cwd=folder, input=alignments, check=True, text=True, stdout=-3)
    (found,) = folder.glob(f"out*.{test}")
    return found.read_text(errors="replace")


_MAPSSWE = re.compile(r"# segs: *(\d+).*?mean: *(\S+)\).*?Z Stat: *(\S+)\).*?Stat Diff: (\w+)", re.DOTALL)


def nist_mapsswe(sctk: Path, folder: Path, alignments: str) -> tuple[str, ...]:
    match = _MAPSSWE.search(statistics(sctk, folder, alignments, "mapsswe"))
    assert match is not None
    return match.groups()


def ours(references: Texts, first: Texts, second: Texts) -> tuple[str, ...]:
    found = mapsswe(references, first, second)
    return str(found.segments), f"{found.mean_difference:.3f}", f"{found.z:.3f}", "Yes" if found.p < 0.05 else "No"


CASES = [(seed, rate, better) for seed, rate in enumerate((0.1, 0.2, 0.3, 0.4)) for better in (1.0, 0.85, 0.6)]


@pytest.mark.parametrize(("seed", "rate", "better"), CASES)
def test_segments_z_and_verdict_from_texts_as_nist_has_them(
    sctk: Path, tmp_path: Path, seed: int, rate: float, better: float
) -> None:
    references, first, second = case(seed, isolated, rate, better)
    alignments = sclite(sctk, tmp_path, references, first, "a") + sclite(sctk, tmp_path, references, second, "b")
    assert nist_mapsswe(sctk, tmp_path, alignments) == ours(references, first, second)


@pytest.mark.parametrize(("seed", "rate", "better"), CASES)
def test_segments_z_and_verdict_on_our_alignments(
    sctk: Path, tmp_path: Path, seed: int, rate: float, better: float
) -> None:
    # Where several alignments are equally good, sclite and kaldialign choose differently: both get the same one here.
    references, first, second = case(seed, anything, rate, better)
    alignments = sgml(references, first, "a") + sgml(references, second, "b")
    assert nist_mapsswe(sctk, tmp_path, alignments) == ours(references, first, second)


def test_the_cases_have_both_verdicts() -> None:
    for spoil in (isolated, anything):
        verdicts = {ours(*case(seed, spoil, rate, better))[-1] for seed, rate, better in CASES}
        assert verdicts == {"Yes", "No"}


@pytest.mark.parametrize(("seed", "rate", "better"), CASES[::2])
def test_mcnemar_on_sentences(sctk: Path, tmp_path: Path, seed: int, rate: float, better: float) -> None:
    # Few sentences: from 21 coins on NIST's binomial overflows, and is 0.
    references, first, second = (
        {id: texts[id] for id in list(texts)[:50]} for texts in case(seed, isolated, rate / 4, better)
    )
    report = statistics(sctk, tmp_path, sgml(references, first, "a") + sgml(references, second, "b"), "mcn")
    found = mcnemar_test(references, first, second)
    rows = re.search(r"corr +(\d+) +(\d+)\n\s*incorr +(\d+) +(\d+)", report)
    assert rows is not None and found.first_only + found.second_only <= 20
    assert (int(rows[2]), int(rows[3])) == (found.second_only, found.first_only)
    p = re.search(r"it occ\w+ is +(\S+),", report)
    assert found.p == (1.0 if p is None else pytest.approx(min(1.0, float(p[1])), abs=6e-4))
