"""What the page says of runs, from small folders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import MakeRun, hypotheses, save_model, write_language_model

from sottovoce.errors import ConfigError, DataError, SottovoceError
from sottovoce.evaluation.hypotheses import write_hypotheses
from sottovoce.evaluation.results import System, result_rows
from sottovoce.packed import file_sizes
from sottovoce.report import report, write_report
from sottovoce.report.opening import open_runs
from sottovoce.report.systems import measured

ROW = r'<span class="named"><span class="key s\d"></span><span[^>]*>([\w-]+)<'
SECTIONS = ("systems", "size", "bits", "weights", "training", "sensitivity", "errors", "provenance")


class Balanced(HTMLParser):
    """Every tag is closed by its own, and nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith(("#", "data:"))]
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made(*folders: Path, **options: int) -> str:
    page = report(open_runs([str(folder) for folder in folders]), **options)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == [] and parser.fetched == []
    return page


def section(page: str, key: str) -> str:
    found = re.search(rf'<section id="{key}">.*?</section>', page, re.DOTALL)
    assert found, key
    return found[0]


def test_complete_runs_fill_every_section(make_run: MakeRun) -> None:
    page = made(make_run("fp32", 32), make_run("small", 4), make_run("smaller", 2, wrong=20))
    assert all("absent" not in section(page, key) for key in SECTIONS)
    headline = re.search(r'<h1 class="headline">(.*?)</h1>', page)
    assert headline and headline[1].startswith("small is ") and "non-inferior at a margin of 2\u00a0%" in headline[1]
    assert page.count("<audio") == 10 and 'class="substituted"' in section(page, "errors")
    assert section(page, "bits").count("<svg") == 2 and section(page, "weights").count("<svg") == 20
    assert section(page, "sensitivity").count("chosen") == 6 and "data hash" in section(page, "provenance")


def test_what_runs_lack_is_named_with_the_command_that_makes_it(make_run: MakeRun) -> None:
    page = made(make_run("fp32", 32, wrong=None, full=False))
    commands = {key: re.findall(r'class="absent".*?<code>(.*?)</code>', section(page, key)) for key in SECTIONS}
    starts = {key: found[0].split()[1] for key, found in commands.items() if found}
    assert starts == {
        "systems": "evaluate", "size": "evaluate", "errors": "evaluate", "weights": "compress", "training": "compress",
        "sensitivity": "search",
    }  # fmt: skip
    assert "not measured yet" in page


def test_what_was_measured_of_an_earlier_file_or_of_none_is_no_measure(make_run: MakeRun, tmp_path: Path) -> None:
    older, unfinished = make_run("q4", 4), make_run("q2", 2)
    language_model = write_language_model(tmp_path / "lm", 32, 0.0)
    at = (older / "test.jsonl").stat().st_mtime_ns + 1_000_000_000
    for folder in (older, language_model):
        os.utime(folder / "model.safetensors", ns=(at, at + 10**12))
    (unfinished / "model.safetensors").unlink()
    page = made(make_run("fp32", 32), older, unfinished, language_model)
    systems = section(page, "systems")
    assert re.findall(ROW, systems) == ["fp32"]
    assert all(f">{name}: " in systems for name in ("q4", "q2", "lm")) and systems.count("sottovoce evaluate") == 2
    os.utime(older / "test.jsonl", ns=(at, at + 10**12))
    assert "latency of q4" in section(made(older), "systems")  # bench.json is as old as it was


def test_a_split_is_reported_on_for_its_hypotheses_and_no_other_file(make_run: MakeRun) -> None:
    run = make_run("q4", 4, wrong=None)
    (run / "test-nbest.jsonl").write_text("{}\n")
    write_hypotheses(run / "dev.jsonl", hypotheses(2))
    assert "words of dev" in made(run)


def test_weights_that_training_moved_off_the_plot_are_no_error(make_run: MakeRun) -> None:
    run = make_run("q4", 4)
    kept = json.loads((run / "weights.json").read_text())
    for found in kept["trained"].values():
        found |= {"low": 50.0, "high": 60.0}
    (run / "weights.json").write_text(json.dumps(kept))
    assert section(made(run), "weights").count("<svg") == 10


def test_sensitivities_that_are_all_nothing_are_drawn(make_run: MakeRun) -> None:
    run = make_run("q4", 4)
    table = json.loads((run / "sensitivity.json").read_text())
    for cluster in table["clusters"]:
        cluster["omega"] = [0.0, 0.0, 0.0]
    (run / "sensitivity.json").write_text(json.dumps(table))
    assert section(made(run), "sensitivity").count("--heat:0%") == 9


def test_a_budget_that_two_models_share_is_drawn_for_each(make_run: MakeRun) -> None:
    run = make_run("q4", 4)
    table = json.loads((run / "sensitivity.json").read_text())
    clusters = [
        {
            **x,
            "name": f"{role}:{x['name']}",
            "parts": [[f"{role}:{w}", *rows] for w, *rows in x["parts"]],
        }
        for role in ("asr", "lm")
        for x in table["clusters"]
    ]
    joint = {**table, "metric": "word errors", "clusters": clusters}
    (run / "joint_sensitivity.json").write_text(json.dumps(joint))
    (run / "sensitivity.json").unlink()
    found = section(made(run), "sensitivity")
    assert "by word errors" in found and found.count("--heat") == 9 and found.count("chosen") == 3
    assert "asr:" not in found and "lm:" not in found


def test_a_damaged_joint_table_is_named(make_run: MakeRun) -> None:
    run = make_run("q4", 4)
    file = run / "joint_sensitivity.json"
    cluster = {"name": "asr:joiner", "weights": 1, "omega": [0.1], "parts": [["asr:joiner.output.weight", 0, 1]]}
    for damage, message in (
        ({"clusters": [{"name": 1}]}, "expected clusters with their parts"),
        ({"clusters": [{**cluster, "parts": [[]]}]}, "expected clusters with their parts"),
        ({"clusters": None}, "expected clusters with their parts"),
        ({"bits": [2]}, "expected clusters with their parts"),
        ({"bits": [2], "clusters": []}, "begin with asr:, found none"),
        ({"bits": [2], "clusters": [{**cluster, "name": "lm:output"}]}, "begin with asr:, found none"),
        ({"clusters": [cluster]}, "expected bits and clusters"),
        ({"bits": [2, 4], "clusters": [cluster]}, "expected bits and clusters"),
        ([cluster], "expected a JSON object"),
    ):
        file.write_text(json.dumps(damage))
        with pytest.raises(DataError, match=f"^{re.escape(str(file))}.*{message}"):
            made(run)
    file.write_text(json.dumps({"bits": [2], "clusters": [cluster]}))
    assert section(made(run), "sensitivity").count("--heat") == 10  # its own table, and this cluster


def test_figures_are_those_of_the_results_file(make_run: MakeRun) -> None:
    folders = [make_run("fp32", 32, wrong=4), make_run("q3", 3, wrong=9), make_run("q2", 2, wrong=15)]
    (group,), without = measured(open_runs([str(f) for f in folders]))
    wrong = (4, 9, 15)
    systems = [
        System(f.name, b, 7, hypotheses(w), file_sizes(f / "model.safetensors"))
        for f, b, w in zip(folders, (32, 3, 2), wrong, strict=True)
    ]
    assert without == []
    for row, system in zip(result_rows(systems, "test"), group.systems, strict=True):
        assert (row.errors, row.ci95) == (system.counts.errors if system.counts else None, system.ci95)
        if system.difference is not None:
            found = system.difference
            assert (row.mapsswe_p, row.mapsswe_p_holm) == (found.p, found.p_holm)
            assert (row.verdict, row.margin) == (found.verdict.kind, found.verdict.margin)


def test_changed_utterances_come_first_and_text_is_escaped(make_run: MakeRun) -> None:
    control, other = make_run("fp32", 32, wrong=24), make_run("q4", 4)
    write_hypotheses(other / "test.jsonl", hypotheses(24)[:-1] + hypotheses(24, script="<script>")[-1:])
    page = section(made(control, other), "errors")
    cards = re.findall(r"<article.*?</article>", page, re.DOTALL)
    assert "u23" in cards[0] and "&lt;script&gt;" in cards[0] and "<script" not in page
    assert "<code>u23</code>" not in "".join(cards[1:])


def test_a_folder_of_runs_leaves_out_the_one_that_others_began_from(make_run: MakeRun, tmp_path: Path) -> None:
    base = make_run("all/base", 32, wrong=None)
    name = save_model(base / "model.safetensors", 32)
    make_run("all/arms/fp32", 32, base=name)
    make_run("all/arms/q4", 4, base=name)
    make_run("all/arms/q10", 4, base=name)
    page = made(tmp_path / "all")
    assert re.findall(ROW, page) == ["fp32", "q4", "q10"]
    assert "<summary>base</summary>" in section(page, "provenance")


def test_a_run_that_was_asked_for_is_shown_with_what_it_lacks(make_run: MakeRun) -> None:
    base = make_run("base", 32, wrong=None)
    arm = make_run("q4", 4, base=save_model(base / "model.safetensors", 32))
    page = made(base, arm)
    assert re.findall(ROW, page) == ["q4"]
    assert f"sottovoce evaluate {base} --hypotheses" in section(page, "systems")


def test_language_models_are_compared_by_perplexity(tmp_path: Path) -> None:
    control = write_language_model(tmp_path / "lm", 32, 0.0)
    page = made(
        control, write_language_model(tmp_path / "lm4", 4, 0.001), write_language_model(tmp_path / "lm2", 2, 0.2)
    )
    assert "keeps its perplexity" in page and "inferior" in section(page, "systems")
    assert '<th scope="col">p</th>' not in page  # MAPSSWE is for words


def test_runs_of_both_kinds_and_of_other_texts_stand_in_tables_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    other = make_run("other", 4)
    write_hypotheses(other / "test.jsonl", hypotheses(3, utterances=12))
    page = made(make_run("fp32", 32), other, write_language_model(tmp_path / "lm", 32, 0.0))
    assert section(page, "systems").count("<table") == 3 and page.count('class="headline"') == 3
    assert page.count("<h1") == 1
    assert "other was measured on another text than fp32" in page and "12 utterances, 12 of them among" in page


def test_the_same_runs_give_the_same_page(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [str(make_run("fp32", 32)), "tiny=" + str(make_run("q2", 2, wrong=3))]
    for name in ("a.html", "b.html"):
        assert [run.name for run in write_report(folders, tmp_path / name)] == ["fp32", "tiny"]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "headline"), [(9, "and does not keep its"), (3, "and keeps its"), (0, "and keeps its")]
)
def test_the_headline_claims_what_the_verdict_allows(make_run: MakeRun, wrong: int, headline: str) -> None:
    page = made(make_run("fp32", 32, wrong=3), make_run("q4", 4, wrong=wrong))
    found = re.search(r'<h1 class="headline">(.*?)</h1>', page)
    assert found and headline in found[1] and found[1].startswith("q4 is ")


def test_a_system_that_nothing_is_resolved_of_is_named_with_its_interval(make_run: MakeRun) -> None:
    runs = make_run("fp32", 32, wrong=6), make_run("q4", 4), make_run("q3", 3, wrong=20)
    write_hypotheses(runs[1] / "test.jsonl", [*hypotheses(0)[:3], *hypotheses(9)[3:]])
    page = made(*runs)
    found = re.search(r'<h1 class="headline">(.*?)</h1>', page)
    assert found and found[1].startswith("q4 is ") and "whether it keeps the word error rate of" in found[1]
    assert "margin 2\u00a0%" in found[1] and "None that is smaller is shown to keep it" in page


def test_a_float_run_alone_takes_its_bytes_in_float32(make_run: MakeRun) -> None:
    page = made(make_run("base", 32, wrong=None))
    assert "MB in float32; its errors are not measured yet" in page and "times less" not in page
    assert "1 system against" in made(make_run("fp32", 32), make_run("q4", 4))


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun) -> None:
    folders = [str(make_run(name, 4)) for name in ("a/q4", "b/q4", "b/q3")]
    assert [run.name for run in open_runs(folders)] == ["a/q4", "b/q4", "q3"]
    assert [run.name for run in open_runs([f"q3={folders[0]}", folders[2]])] == ["q3", "b/q3"]
    with pytest.raises(ConfigError, match="a: given twice"):
        open_runs([f"a={folders[0]}", f"a={folders[1]}"])


def test_the_line_that_a_killed_run_did_not_finish_is_left_out(make_run: MakeRun) -> None:
    run = make_run("q4", 4)
    levels = run / "levels.jsonl"
    levels.write_text(levels.read_text() + '{"step": 11, "sha')
    assert "share of weights on a level" in section(made(run), "training")
    levels.write_text('{"step": 0, "share": 0.5}\n{"step"\n{"step": 2, "share": 0.5}\n')
    with pytest.raises(DataError, match=r"levels.jsonl:2: expected JSON"):
        made(run)


def test_who_heard_a_text_is_named_with_its_errors(make_run: MakeRun) -> None:
    runs = [make_run(name, 4, wrong=k == 4) for k, name in enumerate(("fp32", "a", "b", "c", "d"))]
    heads = re.findall(r'<th scope="row">([^<]*)<small>([^<]*)', section(made(*runs), "errors"))
    assert heads == [("all but d ", "right"), ("d ", "1 error")]


def test_a_float_language_model_is_drawn_beside_a_compressed_recognizer(make_run: MakeRun, tmp_path: Path) -> None:
    page = made(make_run("fp32", 32), make_run("q4", 4), write_language_model(tmp_path / "lm", 32, 0.0))
    assert re.findall(r"bits of each layer of (\w+)", section(page, "bits")) == ["q4", "lm"]


def test_a_difference_beyond_the_drawing_has_an_arrow_and_p90_stands_below_the_median(make_run: MakeRun) -> None:
    page = section(
        made(make_run("fp32", 32, wrong=3), make_run("q4", 4, wrong=3), make_run("q2", 2, wrong=24)), "systems"
    )
    rows = page.split("<tr")[-2:]
    assert [row.count("l5,4l-5,4z") for row in rows] == [0, 1] and page.count("P90 1.000") == 3


def test_without_a_float_run_no_command_compresses_a_compressed_one(make_run: MakeRun) -> None:
    page = made(make_run("q4", 4, full=False))
    assert page.count("sottovoce compress RUN ") == 2 and "sottovoce search RUN " in page


def test_folders_and_files_that_cannot_be_used_are_one_line(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("q4", 4)
    (tmp_path / "empty").mkdir()
    cases: list[tuple[list[str], type[SottovoceError], str]] = [
        ([str(tmp_path / "empty")], ConfigError, "found none"),
        ([str(run / "model.safetensors")], ConfigError, "found a file"),
        ([str(run), str(run)], ConfigError, "given twice"),
    ]
    for given, kind, text in cases:
        with pytest.raises(kind, match=text):
            write_report(given, tmp_path / "out.html")
    for name, content in (
        ("weights.json", "{"), ("weights.json", json.dumps({"before": {"joiner.output.weight": {}}})),
        ("levels.jsonl", '{"step": 1}\n'), ("sensitivity.json", "{}"),
        ("sensitivity.json", '{"bits": [2], "clusters": [{"name": "", "weights": 1, "omega": [], "parts": []}]}'),
        ("plan.json", json.dumps({"weights": {"encoder.layers.0.weight_ih_l0": [4]}})),
        ("bench.json", '{"latency_ms": {}}'), ("bench.json", '{"latency_ms": {"p50": NaN}}'),
        ("bench.json", '{"latency_ms": [1]}'), ("levels.jsonl", '{"step": 1, "share": NaN}\n'),
        ("test.jsonl", ""), ("test.jsonl", '{"id": "u", "text": "", "reference": ""}'),
    ):  # fmt: skip
        kept = (run / name).read_text()
        (run / name).write_text(content)
        with pytest.raises(DataError, match=name):
            write_report([str(run)], tmp_path / "out.html")
        (run / name).write_text(kept)
    for config in ("data: 7", "data: [a]", "recipe: {decoding: {blank_penalty: x}}"):
        (run / "config.yaml").write_text(config)
        with pytest.raises(ConfigError, match=r"config.yaml: (data|recipe.decoding.blank_penalty): expected"):
            write_report([str(run)], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_the_report_needs_no_pytorch(make_run: MakeRun, tmp_path: Path) -> None:
    code = (
        "import sys; from sottovoce.cli.report import report; from pathlib import Path\n"
        f"report([{str(make_run('q4', 4))!r}], Path({str(tmp_path / 'r.html')!r}), 30, 10)\n"
        "assert not {'torch', 'lhotse', 'scipy', 'lightning'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
