"""Language models from a recipe to a packed file: reproducible, resumable, compressed by every scheme, and measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from sottovoce.cli.main import app
from sottovoce.data.text_batches import IGNORED
from sottovoce.decoding.vocabulary import WordList, read_vocabulary
from sottovoce.errors import ConfigError, DataError, SottovoceError
from sottovoce.evaluation import read_scores, summarize
from sottovoce.packed import PackedMatrix, file_sizes, load_model
from sottovoce.quant import BitPlan
from sottovoce.search import SensitivityTable, clusters, mean_loss
from sottovoce.search.measuring import MID_RISE, sized
from sottovoce.training import lm_module, phases
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import (
    CompressionConfig,
    DistillationConfig,
    LmRecipe,
    LmTrainingConfig,
    PhaseConfig,
    SampledSoftmax,
    load_recipe,
    parse_recipe,
)
from sottovoce.training.lm_module import LmModule
from sottovoce.training.lm_task import LmTask
from sottovoce.training.perplexity import score_split
from sottovoce.training.run import Run
from sottovoce.training.searching import search_inputs
from sottovoce.training.task import task_of
from sottovoce.training.train import train

MODELS = {
    "lstm": {"type": "lstm-lm", "embedding": 12, "units": 12, "tied": True},
    "transformer": {
        "type": "transformer-lm", "width": 16, "layers": 1, "heads": 2, "feed_forward": 24, "context": 24,
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SwDA's layout: 40 + 10 conversations in which each word is nearly always followed by the next of its ring."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("talk")
    for part, count in (("train", 40), ("val", 10)):
        (folder / part).mkdir()
        for i in range(count):
            lines = []
            for _ in range(12):
                at, words = int(rng.integers(26)), []
                for _ in range(int(rng.integers(2, 9))):
                    words.append(chr(97 + at) * 2)
                    at = (at + 1) % 26 if rng.random() < 0.9 else int(rng.integers(26))
                lines.append(f"A|{' '.join(words).capitalize()}.|sd\n")
            (folder / part / f"{part}{i}.txt").write_text("".join(lines))
    return folder


def recipe(network: str = "lstm", **changes: object) -> LmRecipe:
    values = {
        "name": "talk",
        "task": "lm",
        "corpus": {"name": "swda", "options": {"dev_conversations": 8}},
        "data": {"batch_tokens": 200, "segment": 24},
        "model": MODELS[network],
        "training": {"dropout": 0.1, "softmax": {"exact": 8, "drawn": 10}},
        "phase": {"epochs": 3, "learning_rate": 3e-2, "warmup_steps": 4, "weight_decay": 0.0},
        "compression": {"phase": {"epochs": 1, "learning_rate": 2e-3, "warmup_steps": 0, "weight_decay": 0.0}},
        **changes,
    }
    found = parse_recipe(values, "test")
    assert isinstance(found, LmRecipe)
    return found


class Killed(BaseException):
    """Stands for a signal: no handler of errors may see it."""


class KillAfter(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            raise Killed


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("context", ["sentence", "conversation"])
def test_a_kill_changes_nothing_and_the_model_learns(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, context: str
) -> None:
    settings = recipe(model, data={"batch_tokens": 200, "segment": 24, "context": context})
    whole = train(settings, talk, tmp_path / "whole", progress=False)
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    original = phases._callbacks
    for step in (2, steps[0] + 3):
        monkeypatch.setattr(phases, "_callbacks", lambda *args, at=step: [*original(*args), KillAfter(at)])
        with pytest.raises(Killed):
            train(settings, talk, tmp_path / "cut", progress=False)
        assert not (tmp_path / "cut" / "model.safetensors").exists()
    monkeypatch.setattr(phases, "_callbacks", original)
    cut = train(settings, talk, tmp_path / "cut", progress=False)
    assert whole.model.read_bytes() == cut.model.read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    found = [row["dev_perplexity"] for row in rows]
    assert found[2] < 0.9 * found[0] < 26  # of 28 tokens, were nothing learnt
    packed = load_model(whole.model)
    assert packed.input == {"kind": "tokens", "normalization": "spoken", "context": context}
    measured = summarize(score_split(whole.model, LmTask(settings).corpus(talk), "dev"))
    if context == "sentence" or model == "lstm":  # a Transformer's window at scoring slides, in training it does not
        assert measured.perplexity == pytest.approx(found[2], rel=2e-3 if context == "sentence" else 0.05)


@pytest.fixture(scope="module")
def base(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe(), talk, tmp_path_factory.mktemp("base") / "run", progress=False)


def job(talk: Path, base: Run, folder: Path, scheme: str | None, **section: object) -> Job:
    settings = recipe()
    values = {"bits": 4, "scheme": scheme, "phase": settings.compression.phase, **section}
    chosen = scheme and CompressionConfig.model_validate(values)
    return Job(settings, talk, base.folder, base.module, folder, chosen or None, seed=0)


@pytest.mark.parametrize("scheme", ["s8bqat", "admm", "gq", "linear_qat", "straight_through", "ptq"])
def test_every_scheme_runs_on_a_language_model(talk: Path, base: Run, tmp_path: Path, scheme: str) -> None:
    path = carry_out(job(talk, base, tmp_path / "arm", scheme))
    packed = load_model(path)
    assert packed.aliases == {"output.weight": "embedding.weight"}
    assert {n for n, t in packed.tensors.items() if isinstance(t, PackedMatrix)} == {
        "embedding.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0",
    }  # fmt: skip
    corpus = LmTask(recipe()).corpus(talk)
    control = summarize(score_split(base.model, corpus, "validation"))
    found = summarize(score_split(path, corpus, "validation"))
    assert found.perplexity < 1.3 * control.perplexity and found.words == control.words


def test_both_closures_of_a_look_ahead_begin_from_the_same_state(
    talk: Path, base: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(data={"batch_tokens": 200, "segment": 24, "context": "conversation"})
    options = {"form": "extragradient", "strength": [1e-3, 1e-3], "finish": None, "look_ahead": 2.0}
    values = {"bits": 4, "scheme": "admm", "options": options, "phase": settings.compression.phase}
    section = CompressionConfig.model_validate({**values, "distillation": {"weight": 1.0}})
    steps: dict[int, list[tuple[object, object]]] = {}
    original = LmModule.training_step

    def seen(module: LmModule, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        steps.setdefault(module.global_step, []).append((module._state, module._teacher_state))
        return original(module, batch, index)

    monkeypatch.setattr(LmModule, "training_step", seen)
    carry_out(Job(settings, talk, base.folder, base.module, tmp_path / "arm", section, seed=0))
    twice = [calls for calls in steps.values() if len(calls) == 2]
    assert len(twice) == len(steps) - 1 > 5  # without multipliers the first step is a plain one
    assert all(before is again for first, second in twice for before, again in zip(first, second, strict=True))
    assert all(state is not None for calls in twice for state in calls[0])
    assert len({id(calls[0][0]) for calls in twice}) == len(twice)  # and it moves on between steps


def test_a_plan_with_bands_of_rows_is_followed(talk: Path, base: Run, tmp_path: Path) -> None:
    from sottovoce.quant import BitPlan

    model = task_of(recipe()).module(LmTask(recipe()).describe(talk, base), compressing=True).model
    plan = BitPlan.uniform(model, 2).split_rows("embedding.weight", 9, (6, 2))
    path = carry_out(job(talk, base, tmp_path / "arm", "ptq", plan=json.loads(plan.to_json())))
    bands = load_model(path).tensors["embedding.weight"].bands
    assert [(b.start, b.stop, b.bits) for b in bands] == [(0, 9, 6), (9, 28, 2)]
    assert BitPlan.load(tmp_path / "arm" / "plan.json") == plan
    with pytest.raises(ConfigError, match=r"compression\.plan"):
        carry_out(job(talk, base, tmp_path / "arm", "ptq"))


def run_command(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_train_compress_and_evaluate(talk: Path, base: Run, tmp_path: Path) -> None:
    file = tmp_path / "talk.yaml"
    file.write_text(json.dumps(recipe().model_dump(mode="json")))
    run = tmp_path / "runs" / "lm"
    log = run_command("train", str(file), "--data", str(talk), "--out", str(run), "--threads", "1")
    assert "trained:" in log
    assert re.search(r"epoch 1 of 3: dev_loss [\d.]+, .*train_loss [\d.]+; \d+ s each, \d+ s left\n", log)
    assert re.search(r"epoch 3 of 3: .*; \d+ s each\n", log)
    assert (run / "model.safetensors").read_bytes() == base.model.read_bytes()
    shown = run_command("compress", str(run), "--bits", "3", "--scheme", "straight_through", "--threads", "1")
    small = tmp_path / "runs" / "lm-straight_through-3bit"
    assert "smaller than float32" in shown and "swda validation: perplexity" in shown
    found = json.loads(run_command("evaluate", str(small), "--json", "--scores", str(tmp_path / "s.jsonl")))
    assert found["split"] == "validation" and found["conversations"] == 10
    low, high = found["ci95"]
    assert low < found["perplexity"] < high and f"perplexity {found['perplexity']:.2f}" in shown
    assert summarize(read_scores(tmp_path / "s.jsonl")).perplexity == pytest.approx(found["perplexity"])
    on_dev = run_command("evaluate", str(small / "model.safetensors"), "--data", str(talk), "--split", "dev")
    assert "swda dev: perplexity" in on_dev


def test_a_mixture_with_an_ngram_takes_its_weight_from_dev(talk: Path, base: Run, tmp_path: Path) -> None:
    run_command(
        "data", "prepare", "swda", "--source", str(talk), "--out", str(tmp_path / "d"), "--set", "dev_conversations=8"
    )
    words = read_vocabulary(base.tokenizer.read_bytes())
    assert isinstance(words, WordList)
    (tmp_path / "w").write_text("\n".join(words.entries) + "\n")
    run_command(
        "ngram", "train", str(tmp_path / "d" / "train.txt.gz"), "--order", "3", "--vocabulary", str(tmp_path / "w"),
        "--out", str(tmp_path / "lm.arpa"),
    )  # fmt: skip
    found = json.loads(run_command("evaluate", str(base.folder), "--ngram", str(tmp_path / "lm.arpa"), "--json"))
    assert found["mixed"]["perplexity"] < 1.001 * min(found["perplexity"], found["ngram"]["perplexity"])
    assert 0 <= found["weight"] <= 1 and found["mixed"]["words"] == found["words"]
    assert found["weight_fitted_on"] == "dev" != found["split"]
    same, on_dev = "weight fitted on this same text", ["--ngram", str(tmp_path / "lm.arpa"), "--split", "dev"]
    assert same in run_command("evaluate", str(base.folder), *on_dev)
    given = run_command("evaluate", str(base.folder), *on_dev, "--weight", "0.5")
    assert same not in given and "at weights 0.50 and 0.50" in given
    shown = run_command("evaluate", str(base.folder), "--ngram", str(tmp_path / "lm.arpa"), "--weight", "1")
    assert f"at weights 1.00 and 0.00 {found['perplexity']:.2f}" in shown and same not in shown
    (tmp_path / "w").write_text("\n".join(words.entries[:-1]) + "\n")
    run_command(
        "ngram", "train", str(tmp_path / "d" / "train.txt.gz"), "--order", "2", "--vocabulary", str(tmp_path / "w"),
        "--out", str(tmp_path / "other.arpa"),
    )  # fmt: skip
    foreign = ["--ngram", str(tmp_path / "other.arpa"), "--scores", str(tmp_path / "scores.jsonl")]
    result = CliRunner().invoke(app, ["evaluate", str(base.folder), *foreign])
    assert isinstance(result.exception, DataError) and "only the other model has" in str(result.exception)
    assert not (tmp_path / "scores.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "nowhere"], "expected a split of train, dev, validation, found 'nowhere'"),
        (["--blank-penalty", "1"], "--blank-penalty is for recognizers"),
        (["--lm-weight", "0.3"], "--lm-weight is for recognizers"),
        (["--internal-lm-weight", "0.2"], "--internal-lm-weight is for recognizers"),
        (["--weight", "0.3"], "--weight is the share in a mixture: expected --ngram beside it"),
        (["--context", "page"], "context: expected sentence or conversation, found 'page'"),
    ],
)
def test_bad_options_of_evaluate_are_one_line(base: Run, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(base.folder), *arguments])
    assert isinstance(result.exception, SottovoceError) and message in str(result.exception)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"type": "lstm-lm", "unit": 3}}, "model: .*unexpected keyword argument 'unit'"),
        ({"model": {"type": "gru-lm"}}, "expected type 'lstm-lm' or 'transformer-lm', found 'gru-lm'"),
        ({"model": {"type": "lstm-lm", "units": 8, "embedding": 4, "tied": True}}, "tied embeddings want units equal"),
        ({"model": {"type": "lstm-lm", "vocabulary": 9}}, "vocabulary follows from the data"),
        ({"model": MODELS["transformer"], "data": {"segment": 25}}, r"data.segment \(25\) is more than model.context"),
        (
            {"model": MODELS["transformer"], "data": {"segment": 23}},
            r"trained up to data.segment \(23\).*context \(24\)",
        ),
        ({"task": "tts"}, "task: expected rnnt or lm, found 'tts'"),
        ({"training": {"ctc": 0.3}}, r"training\.ctc"),
    ],
)
def test_bad_recipes_name_the_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


def test_positions_that_need_no_training_may_go_beyond_a_segment() -> None:
    sinusoidal = {**MODELS["transformer"], "positions": "sinusoidal"}
    assert recipe(model=sinusoidal, data={"segment": 12}).model["context"] == 24
    plain = recipe(model={"type": "transformer-lm"}, data={})
    assert plain.model["context"] == plain.data.segment and plain.model["positions"] == "learned"


def test_words_of_other_text_are_refused(talk: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of the words of dev are not in the vocabulary of 9682"):
        train(recipe(tokens={"file": "swda.words"}), talk, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").touch()
    with pytest.raises(DataError, match="are not in the vocabulary"):
        train(recipe(tokens={"file": "swda.words"}), talk, tmp_path / "run", progress=False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes"]
    own = train(recipe(), talk, tmp_path / "run", progress=False)  # the corrected command
    assert own.model.exists()


def test_text_of_another_normalization_is_refused(talk: Path, base: Run, tmp_path: Path) -> None:
    task = LmTask(recipe())
    described = replace(
        task.describe(talk, base), input={"kind": "text", "normalization": "plain", "context": "sentence"}
    )
    with pytest.raises(DataError, match="expected text normalized as 'plain', found it as 'spoken'"):
        task.data(talk, described, 0)


@pytest.mark.parametrize("scheme", ["straight_through", "admm", "s8bqat", "gq", "linear_qat"])
def test_compression_that_diverges_stops_with_one_line(talk: Path, base: Run, tmp_path: Path, scheme: str) -> None:
    arguments = ["--set", "phase.learning_rate=1e38", "--out", str(tmp_path / "arm")]
    asked = ["compress", str(base.folder), "--scheme", scheme, "--bits", "2", "--threads", "1", *arguments]
    found = CliRunner().invoke(app, asked)
    assert isinstance(found.exception, ConfigError), found.output
    assert re.search(
        r"(loss is (nan|inf) at|no numbers any more after) step \d+; lower (the|phase\.)", str(found.exception)
    )
    assert not (tmp_path / "arm" / "model.safetensors").exists()


def test_a_loss_that_is_no_number_stops_with_one_line(talk: Path, tmp_path: Path) -> None:
    wild = recipe(phase={"epochs": 2, "learning_rate": 1e30, "warmup_steps": 0}, training={"clip": 1e30})
    with pytest.raises(ConfigError, match=r"loss is (nan|inf) .*phase\.learning_rate"):
        train(wild, talk, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_sentencepiece_units_are_measured_by_the_word(talk: Path, tmp_path: Path) -> None:
    pieces = recipe(tokens={"kind": "bpe", "size": 40})
    run = train(pieces, talk, tmp_path / "run", progress=False)
    scores = score_split(run.model, LmTask(pieces).corpus(talk), "validation")
    found = summarize(scores)
    assert found.tokens >= found.words and found.per_token <= found.perplexity
    assert found.words == sum(len(s.split()) + 1 for s in LmTask(pieces).corpus(talk).sentences("validation"))
    other = replace(LmTask(pieces).corpus(talk), normalization="plain")
    with pytest.raises(DataError, match="expected text normalized as 'spoken', found swda as 'plain'"):
        score_split(run.model, other, "validation")


def test_a_recipes_vocabulary_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "own.words").write_text("</s>\t1\n<unk>\t0\na\t1\n")
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps({**recipe().model_dump(mode="json"), "tokens": {"file": "own.words"}}))
    found = load_recipe(file)
    assert isinstance(found, LmRecipe) and found.tokens.file == str((tmp_path / "own.words").resolve())


@pytest.mark.parametrize("network", MODELS)
def test_what_a_search_asks_of_the_module(talk: Path, base: Run, network: str) -> None:
    task = LmTask(recipe(network))
    described = task.describe(talk, base)
    data = task.data(talk, described, 0)
    module = task.module(described, compressing=False).eval()
    batches = data.sample("train", 37, seed=1)
    sizes = [len(b["inputs"]) for b in batches]
    assert len(batches) > 1 and max(sizes) - min(sizes) <= 1
    lengths = [(b["targets"] != IGNORED).sum(1) for b in batches]
    assert min(int(x.max()) for x in lengths) > max(int(x.min()) for x in lengths)  # long and short in each
    everything = torch.cat([F.cross_entropy(module.logits(b), module.observed(b), reduction="none") for b in batches])
    loss = mean_loss(module, batches)
    torch.testing.assert_close(torch.stack([loss(b) for b in batches]).mean(), everything.mean())
    assert len(data.sample("train", 8, seed=1, batches=3)) == 3
    assert sum(len(b["inputs"]) for b in batches) == 37 and all(bool(b["fresh"].all()) for b in batches)
    for batch in batches:
        logits, observed = module.logits(batch), module.observed(batch)
        assert logits.shape == (len(observed), 28) and module.position_weights(batch) is None
        expected = -logits.log_softmax(-1)[torch.arange(len(observed)), observed].mean()
        torch.testing.assert_close(module.loss(batch), expected)
    assert module.row_borders() == {}  # too few words for bands
    big = task.recipe.architecture(9682)
    names = {"embedding.weight"} if big.tied else {"embedding.weight", "output.weight"}
    with torch.device("meta"):
        borders = LmModule(big, LmTrainingConfig(), PhaseConfig()).row_borders()
    assert borders == dict.fromkeys(names, (300, 1000, 3000))


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("metric", ["kl", "hessian", "nas"])
def test_a_search_finds_the_bits_of_a_language_model(talk: Path, tmp_path: Path, network: str, metric: str) -> None:
    run = train(recipe(network), talk, tmp_path / "base", threads=1, progress=False)
    arguments = ["--rows", "embedding.weight=8", "--threads", "1", "--utterances", "8"]
    effort = {"kl": [], "hessian": ["--probes", "2"], "nas": ["--steps", "6"]}[metric]
    search = ["search", str(run.folder), "--metric", metric, "--average-bits", "2.5", *arguments, *effort]
    found = CliRunner().invoke(app, search, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert "embedding.weight[0:8]" in found.output and "x smaller" in found.output
    out = tmp_path / "arm"
    compress = ["compress", str(run.folder), "--plan", str(run.plan), "--scheme", "admm", "--out", str(out)]
    made = CliRunner().invoke(
        app, [*compress, "--set", "distillation.weight=0.5", "--threads", "1"], catch_exceptions=False
    )
    assert made.exit_code == 0 and "perplexity" in made.output.lower(), made.output
    packed = load_model(out / "model.safetensors")
    planned = json.loads(run.plan.read_text())["weights"]
    for name, bands in planned.items():
        tensor = packed.tensors[name]
        assert isinstance(tensor, PackedMatrix) and [b.bits for b in tensor.bands] == [b["bits"] for b in bands]


@pytest.mark.parametrize("scheme", ["straight_through", "ptq"])
def test_a_language_models_bytes_are_those_of_its_file(talk: Path, base: Run, tmp_path: Path, scheme: str) -> None:
    inputs = search_inputs(base.folder, utterances=2)
    assert inputs.tokenizer_bytes == len(load_model(base.model).tokenizer or b"") > 0
    arguments = {"levels": MID_RISE, "fields": inputs.fields, "tokenizer_bytes": inputs.tokenizer_bytes}
    table = sized(inputs.module.model, clusters(inputs.module.model), (2, 4, 8), **arguments)
    for i, options in enumerate(([0] * len(table.clusters), [2] + [1] * (len(table.clusters) - 1))):
        choice = table.price(options)
        plan = json.loads(choice.plan.to_json())
        section = CompressionConfig.model_validate({"plan": plan, "scheme": scheme, "phase": {"epochs": 1}})
        made = carry_out(Job(recipe(), talk, base.folder, base.module, tmp_path / str(i), section, seed=0))
        size = file_sizes(made).model_bytes
        assert size <= choice.model_bytes <= size + 64


def test_a_language_models_byte_budget_is_kept(talk: Path, tmp_path: Path) -> None:
    run = train(recipe(), talk, tmp_path / "base", threads=1, progress=False)
    inputs = search_inputs(run.folder, utterances=2)
    arguments = {"levels": MID_RISE, "fields": inputs.fields, "tokenizer_bytes": inputs.tokenizer_bytes}
    table = sized(inputs.module.model, clusters(inputs.module.model), (4,), **arguments)
    most = table.price([0] * len(table.clusters)).model_bytes  # every byte of it is wanted
    search = ["search", str(run.folder), "--max-bytes", str(most), "--bits", "4", "--by", "tensor", "--threads", "1"]
    found = CliRunner().invoke(app, [*search, "--utterances", "2"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    out = tmp_path / "arm"
    compress = ["compress", str(run.folder), "--plan", str(run.plan), "--scheme", "straight_through", "--out", str(out)]
    made = CliRunner().invoke(app, [*compress, "--threads", "1"], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    assert most - 64 <= file_sizes(out / "model.safetensors").model_bytes <= most


def test_a_search_can_do_without_bands_and_with_the_published_tables(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_module, "_FREQUENT", (4, 10))
    run = train(recipe(), talk, tmp_path / "base", threads=1, progress=False)
    search = ["search", str(run.folder), "--average-bits", "2", "--bits", "2", "--by", "model", "--utterances", "4"]
    found = {}
    for name, options in {"bands": [], "whole": ["--no-bands", "--zero"]}.items():
        made = CliRunner().invoke(app, [*search, *options, "--threads", "1"], catch_exceptions=False)
        assert made.exit_code == 0, made.output
        found[name] = SensitivityTable.load(run.folder / "sensitivity.json")
    assert len(found["whole"].clusters) == 1 and len(found["bands"].clusters) == 1 + 3
    planned = [spec for specs in BitPlan.load(run.plan).weights.values() for spec in specs]
    assert planned and all(spec.zero and spec.bits == 2 for spec in planned)  # ternary


def test_a_teacher_changes_what_is_learnt(talk: Path, base: Run, tmp_path: Path) -> None:
    files = []
    for name, settings in {"alone": None, "taught": {"weight": 3.0, "temperature": 2.0}}.items():
        values = {
            "bits": 2,
            "scheme": "straight_through",
            "phase": recipe().compression.phase,
            "distillation": settings,
        }
        section = CompressionConfig.model_validate(values)
        job = Job(recipe(), talk, base.folder, base.module, tmp_path / name, section, seed=0)
        files.append(load_model(carry_out(job)).decode("lstm.bias_ih_l0"))
    assert not np.array_equal(*files)


def test_a_teacher_is_followed_on_the_words_that_training_sums_over(talk: Path, base: Run) -> None:
    """The recipe's sample of words serves task and teacher alike: no gradient reaches a word outside of it."""
    module = task_of(recipe()).module(LmTask(recipe()).describe(talk, base), compressing=True)
    assert isinstance(module, LmModule)
    module.learn_from(module.model, DistillationConfig())
    module.softmax = SampledSoftmax(exact=8, drawn=3)
    batch = {"inputs": torch.tensor([[0, 3, 4]]), "targets": torch.tensor([[3, 4, 0]]), "fresh": torch.tensor([True])}
    hidden, targets, _ = module._hidden(batch)
    module._taught(batch, hidden, targets).sum().backward()
    gradient = module.model.output.bias.grad
    assert gradient is not None
    assert int((gradient != 0).sum()) == 8 + 3 < module.model.architecture.vocabulary


def test_a_teacher_is_where_the_module_is_and_in_no_checkpoint(talk: Path, base: Run) -> None:
    module = task_of(recipe()).module(LmTask(recipe()).describe(talk, base), compressing=True)
    module.learn_from(module.model, DistillationConfig())
    module.to("meta").on_fit_start()
    assert module.teacher is not None
    assert {parameter.device.type for parameter in module.teacher.model.parameters()} == {"meta"}
    assert not any("teacher" in name for name in module.state_dict())


def test_one_scale_for_the_whole_model_can_be_asked_for(talk: Path, base: Run, tmp_path: Path) -> None:
    """The published "global" scale: written in every tensor, the same in each."""
    packed = load_model(carry_out(job(talk, base, tmp_path / "arm", "admm", grouping="model", bits=2)))
    scales = {float(band.scale[0]) for t in packed.tensors.values() if isinstance(t, PackedMatrix) for band in t.bands}
    assert len(scales) == 1


def test_compression_may_have_a_dropout_of_its_own(talk: Path, base: Run) -> None:
    settings = recipe()
    section = settings.compression.model_copy(update={"dropout": 0.0})
    described = LmTask(settings).describe(talk, base)
    task = task_of(settings.model_copy(update={"compression": section}))
    rates = [task.module(described, compressing=c).model.dropout.p for c in (False, True)]
    assert rates == [0.1, 0.0]
    assert task_of(settings).module(described, compressing=True).model.dropout.p == 0.1
