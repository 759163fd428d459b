"""Weights from elsewhere: every way of naming and stacking them, and one line for each mistake."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from sottovoce.cli.main import app
from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, FormatError, SottovoceError
from sottovoce.importing import TensorMap, import_model, make_run, read_mapping, read_tensors
from sottovoce.importing.tokenizers import recognizer_tokenizer
from sottovoce.models import network_of
from sottovoce.packed import LstmLmArchitecture, PackedMatrix, PackedModel, RnntArchitecture, load_model
from sottovoce.runtime import PackedRnnt, Recognizer
from sottovoce.training.config import load_recipe

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import SMALL, random_model, tokenizer, vocabulary

Tensors = dict[str, NDArray[np.float32]]
ONE_LAYER = replace(SMALL, predictor_layers=1, layer_norm=False)
STRAIGHT = {"*": "*"}  # our own names


def values_of(model: PackedModel) -> Tensors:
    return {name: model.decode(name) for name in model.tensors}


def mapped(architecture: Any, tensors: Mapping[str, Any], **more: Any) -> TensorMap:
    return TensorMap.model_validate({"architecture": architecture.to_dict(), "tensors": dict(tensors), **more})


def same(found: PackedModel, expected: PackedModel) -> bool:
    return found.tensors.keys() == expected.tensors.keys() and all(
        np.array_equal(found.decode(name), expected.decode(name)) for name in expected.tensors
    )


def test_our_own_names_come_back(tmp_path: Path) -> None:
    model = random_model(SMALL, packed=False)
    found = import_model(values_of(model), mapped(SMALL, STRAIGHT), tmp_path)
    assert same(found, model) and not any(isinstance(tensor, PackedMatrix) for tensor in found.tensors.values())
    assert found.architecture == SMALL.to_dict() and found.input == {"kind": "waveform", "bins": 5}


def test_every_rule_of_a_mapping(tmp_path: Path) -> None:
    """A state_dict as other toolkits lay it out: other names, gates as ONNX stacks them, matrices transposed, biases
    joined, the blank last, no normalization."""
    a, model = ONE_LAYER, random_model(ONE_LAYER, packed=False)
    ours = values_of(model) | {"encoder.mean": np.zeros(5, np.float32), "encoder.istd": np.ones(5, np.float32)}
    theirs: Tensors = {}
    for i in range(a.encoder_layers):
        for what in ("ih", "hh"):
            prefix = f"encoder.layers.{i}"
            gates = np.split(ours[f"{prefix}.weight_{what}_l0"], 4)
            theirs[f"enc.rnn{i}.{what}"] = np.concatenate([gates[k] for k in (0, 3, 1, 2)])[None]
            theirs[f"enc.rnn{i}.bias"] = np.concatenate([ours[f"{prefix}.bias_{w}_l0"] for w in ("ih", "hh")])
    theirs["enc.out"] = ours["encoder.projection.weight"].T
    theirs["enc.out_bias_a"] = ours["encoder.projection.bias"] - 1
    theirs["enc.out_bias_b"] = np.ones(a.joiner_units, np.float32)
    theirs |= {f"dec.{k.removeprefix('predictor.')}": v for k, v in ours.items() if k.startswith("predictor")}
    theirs |= {f"join.{w}": np.roll(ours[f"joiner.output.{w}"], -1, axis=0) for w in ("weight", "bias")}
    units = 4 * a.encoder_units
    rules = {
        "encoder.mean": {"fill": 0.0},
        "encoder.istd": {"fill": 1.0},
        "encoder.layers.*.weight_*_l0": {"from": "enc.rnn*.*", "gates": "iofc"},
        "encoder.layers.*.bias_ih_l0": {"from": "enc.rnn*.bias", "rows": [0, units]},
        "encoder.layers.*.bias_hh_l0": {"from": "enc.rnn*.bias", "rows": [units, 2 * units]},
        "encoder.projection.weight": {"from": "enc.out", "transpose": True},
        "encoder.projection.bias": {"sum": ["enc.out_bias_a", "enc.out_bias_b"]},
        "predictor.*": "dec.*",
        "joiner.output.*": {"from": "join.*", "blank": "last"},
    }
    found = import_model(theirs, mapped(a, rules), tmp_path)
    for name, value in ours.items():
        np.testing.assert_allclose(found.decode(name), value, atol=1e-6, err_msg=name)


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    a = LstmLmArchitecture(7, embedding=6, units=6, tied=True)
    tensors = {name: value.numpy() for name, value in network_of(a.to_dict()).state_dict().items()}
    (tmp_path / "words.txt").write_text("</s>\n<unk>\na\nb\nc\nd\ne\n")
    found = import_model(tensors, mapped(a, STRAIGHT, tokenizer="words.txt"), tmp_path)
    assert found.aliases == {"output.weight": "embedding.weight"} and "output.weight" not in found.tensors
    assert found.input == {"kind": "tokens", "normalization": "plain", "context": "sentence"} and found.tokenizer


def test_each_problem_has_a_line_of_its_own(tmp_path: Path) -> None:
    tensors = values_of(random_model(SMALL, packed=False))
    tensors["encoder.projection.weight"] = tensors["encoder.projection.weight"].T
    tensors["encoder.istd"][2] = np.nan
    del tensors["joiner.output.bias"]
    rules = {"encoder.*": "encoder.*", "predictor.lstm.*": "predictor.lstm.*", "joiner.output.*": "joiner.output.*",
             "predictor.projection.*": "predictor.projection.*", "predictor.embeding.weight": "x"}  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        import_model(tensors, mapped(SMALL, rules), tmp_path)
    a = SMALL
    assert str(caught.value).splitlines() == [
        "predictor.embeding.weight: expected a tensor of the network, found none of that name; did you mean "
        "'predictor.embedding.weight'?",
        "encoder.istd: expected finite numbers, found others in 'encoder.istd'",
        f"encoder.projection.weight: expected shape {(a.joiner_units, a.encoder_width)}, found "
        f"{(a.encoder_width, a.joiner_units)} in 'encoder.projection.weight'",
        f"predictor.embedding.weight: expected a source of shape {(a.vocabulary, a.embedding)}, found none in the "
        "mapping",
        f"joiner.output.bias: expected shape {(a.vocabulary,)} from 'joiner.output.bias', found no such tensor; did "
        "you mean 'joiner.output.weight'?",
    ]


def test_files_of_every_kind_hold_the_same(tmp_path: Path) -> None:
    tensors = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(3)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch_tensors = {
        k: torch.from_numpy(v).to(torch.bfloat16) if v.ndim else torch.tensor(3) for k, v in tensors.items()
    }
    torch.save(torch_tensors, tmp_path / "plain.pt")
    torch.save({"epoch": 3, "state_dict": torch_tensors}, tmp_path / "checkpoint.ckpt")
    for name in ("a.safetensors", "plain.pt", "checkpoint.ckpt"):
        found = read_tensors(tmp_path / name)
        assert list(found) == ["a.weight"] and np.array_equal(found["a.weight"], tensors["a.weight"]), name


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    torch.save({"x": _Harm()}, tmp_path / "harm.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"x": torch.tensor(1)}, tmp_path / "empty.pt")
    (tmp_path / "folder").mkdir()
    for name in ("broken.safetensors", "broken.pt", "harm.pt", "list.pt", "empty.pt", "folder", "missing.pt"):
        with pytest.raises(FormatError) as caught:
            read_tensors(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    assert "executed" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[1]", "expected a mapping of keys and values, found list"),
        ("tensors: {}", "architecture: Field required"),
        ("{architecture: {}, tensors: {a: {from: b, fill: 1}}}", "tensors.a: expected one of from, sum and fill"),
        ("{architecture: {}, tensors: {a: {from: b, gates: ifgx}}}", "tensors.a.gates: expected the letters i, f, g"),
        ("{architecture: {}, tensors: {a: {form: b}}}", "tensors.a"),
        ("a: [", "cannot read the mapping"),
    ],
)
def test_bad_mappings_are_one_line(text: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(f"{path}: ") and found in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_fit_the_network_is_refused(tmp_path: Path) -> None:
    tensors = values_of(random_model(SMALL, packed=False))
    with pytest.raises(FormatError, match="input: expected 5 features a frame, found 80"):
        import_model(tensors, mapped(SMALL, STRAIGHT, input={"kind": "waveform", "bins": 80}), tmp_path)
    with pytest.raises(FormatError, match=r"gone\.model: cannot read"):
        import_model(tensors, mapped(SMALL, STRAIGHT, tokenizer="gone.model"), tmp_path)
    (tmp_path / "other.model").write_bytes(train_tokenizer(["one two three"] * 3, kind="bpe", vocabulary=14))
    with pytest.raises(
        FormatError, match=rf"other\.model: expected {SMALL.vocabulary} tokens as in the network, found"
    ):
        import_model(tensors, mapped(SMALL, STRAIGHT, tokenizer="other.model"), tmp_path)
    with pytest.raises(FormatError, match="expected type 'rnnt', found 'ctc'"):
        import_model(tensors, TensorMap(architecture={"type": "ctc"}, tensors={}), tmp_path)


def test_tokenizers_from_elsewhere(tmp_path: Path) -> None:
    own = Tokenizer(tokenizer())
    path = tmp_path / "tokens.txt"
    path.write_text("".join(f"{piece} {i}\n" for i, piece in enumerate(own.pieces)), encoding="utf-8")
    made = Tokenizer(recognizer_tokenizer(path))
    assert made.pieces == own.pieces and made.unknown == own.unknown
    ids = own.encode("one two three")
    assert made.decode(ids) == "one two three" and made.decode(made.encode("nine zero")) == "nine zero"
    (tmp_path / "own.model").write_bytes(own.model)
    assert Tokenizer(recognizer_tokenizer(tmp_path / "own.model")).pieces == own.pieces
    (tmp_path / "user.model").write_bytes(_blank_as_a_piece(own.model))
    assert Tokenizer(recognizer_tokenizer(tmp_path / "user.model")).decode([0, *ids]) == "one two three"
    for content, found in (
        ("a 0\nb 2\n", "expected the numbers 0 to 1"),
        ("<blk> x\n", "line 1"),
        ("<blk> 0\na 1\n", "<unk>"),
    ):
        path.write_text(content)
        with pytest.raises(FormatError, match=r"tokens\.txt: ") as caught:
            recognizer_tokenizer(path)
        assert found in str(caught.value)


def _blank_as_a_piece(model: bytes) -> bytes:
    """As icefall trains it: the blank is a user-defined symbol."""
    from sentencepiece import sentencepiece_model_pb2 as proto

    parsed = proto.ModelProto()  # type: ignore[attr-defined]
    parsed.ParseFromString(model)
    parsed.pieces[0].type = 4
    return bytes(parsed.SerializeToString())


def recognizer_files(folder: Path) -> tuple[PackedModel, Path, Path]:
    """A trained recognizer of somebody else: weights, and the mapping beside its tokenizer."""
    a = RnntArchitecture(features=80, vocabulary=vocabulary(), encoder_units=16, embedding=8, predictor_units=8,
                         joiner_units=12)  # fmt: skip
    model = random_model(a, packed=False, tokenizer=tokenizer(), input={"kind": "waveform", "bins": 80})
    save_file({f"their.{name}": array for name, array in values_of(model).items()}, folder / "their.safetensors")
    (folder / "bpe.model").write_bytes(tokenizer())
    values = {"architecture": a.to_dict(), "tokenizer": "bpe.model", "tensors": {"*": "their.*"}}
    (folder / "map.yaml").write_text(yaml.safe_dump(values))
    return model, folder / "their.safetensors", folder / "map.yaml"


def test_from_their_file_to_five_bits(tmp_path: Path) -> None:
    model, weights, mapping = recognizer_files(tmp_path)
    out = tmp_path / "model.safetensors"
    done = CliRunner().invoke(app, ["import", str(weights), "--mapping", str(mapping), "--out", str(out)])
    assert done.exit_code == 0, done.output
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    expected = Recognizer(model, arithmetic="float").transcribe(sound, 16_000)
    assert Recognizer(out, arithmetic="float").transcribe(sound, 16_000) == expected and len(expected.ids) > 3
    done = CliRunner().invoke(app, ["compress", str(out), "--scheme", "ptq", "--bits", "5"])
    assert done.exit_code == 0, done.output
    packed = load_model(tmp_path / "model-ptq-5bit" / "model.safetensors")
    assert isinstance(packed.tensors["encoder.layers.0.weight_ih_l0"], PackedMatrix)
    frames = np.random.default_rng(1).normal(size=(1, 40, 80)).astype(np.float32)
    both = [PackedRnnt(one, arithmetic="float") for one in (model, packed)]
    ours, theirs = (one.encoder_step(frames, one.encoder_start(1))[0] for one in both)
    assert np.mean(np.square(ours - theirs)) < 0.2 * np.var(ours)
    done = CliRunner().invoke(app, ["compress", str(out), "--scheme", "s8bqat"])
    assert isinstance(done.exception, ConfigError) and "can only be rounded (--scheme ptq)" in str(done.exception)
    done = CliRunner().invoke(app, ["compress", str(out), "--bits", "5", "--set", "kind=bogus"])
    assert isinstance(done.exception, ConfigError) and str(done.exception).startswith("compression.kind")


@pytest.mark.slow
def test_an_imported_model_is_trained_further(tones: Path, tmp_path: Path) -> None:
    """The run that import makes is one that S8BQAT starts from; its first weights are theirs."""
    model, weights, mapping = recognizer_files(tmp_path)
    out = tmp_path / "run"
    command = ["import", str(weights), "--mapping", str(mapping), "--out", str(out), "--data", str(tones)]
    done = CliRunner().invoke(app, [*command, "--recipe", "fsdd-small", "--set", "compression.phase.epochs=1"])
    assert done.exit_code == 0, done.output
    assert same(load_model(out / "model.safetensors"), replace(model, tensors=values_of(model)))
    done = CliRunner().invoke(
        app, ["compress", str(out), "--bits", "4", "--out", str(tmp_path / "four"), "--threads", "1"]
    )
    assert done.exit_code == 0, done.output
    found = load_model(tmp_path / "four" / "model.safetensors")
    assert isinstance(found.tensors["joiner.output.weight"], PackedMatrix) and found.tokenizer == model.tokenizer


def test_a_run_wants_a_recipe_of_its_task_and_a_tokenizer(tones: Path, tmp_path: Path) -> None:
    model, weights, mapping = recognizer_files(tmp_path)
    with pytest.raises(ConfigError, match="swda-lstm: expected a recipe for 'rnnt', found task 'lm'"):
        make_run(model, load_recipe("swda-lstm"), tones, tmp_path / "run")
    tuned = load_recipe("fsdd-small", ["decoding.blank_penalty=1.5"])  # on another network
    for own in (0.0, 0.75):
        heard = replace(model, architecture=model.architecture | ({"blank_penalty": own} if own else {}))
        run = make_run(heard, tuned, tones, tmp_path / f"run {own}")
        assert run.open(run.folder)[1].decoding.blank_penalty == own
    with pytest.raises(ConfigError, match="tokenizer: expected one in the mapping"):
        make_run(replace(model, tokenizer=None), load_recipe("fsdd-small"), tones, tmp_path / "run")
    command = ["import", str(weights), "--mapping", str(mapping), "--out", str(tmp_path / "run"), "--recipe", "fsdd"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, SottovoceError) and "go together" in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_tokenizers_of_training_are_taken_as_they_are(tmp_path: Path) -> None:
    model = train_tokenizer(["one two three four five"] * 3, kind="bpe", vocabulary=20)
    (tmp_path / "a.model").write_bytes(model)
    assert Tokenizer(recognizer_tokenizer(tmp_path / "a.model")).encode("two") == Tokenizer(model).encode("two")


def test_tensors_that_the_mapping_does_not_read_are_named(tmp_path: Path) -> None:
    _, weights, mapping = recognizer_files(tmp_path)
    more = {**load_file(weights), "their.encoder.layers.9.weight_ih_l0": np.ones((2, 2), np.float32)}
    save_file(more, weights)
    out = tmp_path / "model.safetensors"
    done = CliRunner().invoke(app, ["import", str(weights), "--mapping", str(mapping), "--out", str(out)])
    left = [line.strip() for line in done.output.splitlines() if "not in the" in line]
    assert left == ["not in the mapping: their.encoder.layers.9.weight_ih_l0"]


@pytest.mark.parametrize("said", [False, True])
def test_an_input_that_the_mapping_leaves_out_is_told(tmp_path: Path, said: bool) -> None:
    _, weights, mapping = recognizer_files(tmp_path)
    if said:
        given = {"kind": "features", "dim": 80, "rate": 100.0}
        mapping.write_text(yaml.safe_dump({**yaml.safe_load(mapping.read_text()), "input": given}))
    command = ["import", str(weights), "--mapping", str(mapping), "--out", str(tmp_path / "model.safetensors")]
    told = [line for line in CliRunner().invoke(app, command).output.splitlines() if "left out" in line]
    assert len(told) == (not said) and all("sample_rate 16000, bins 80, low_hz 20.0" in line for line in told)


def test_rounding_a_file_overwrites_no_other_model(tones: Path, tmp_path: Path) -> None:
    _, weights, mapping = recognizer_files(tmp_path)
    folder, run = tmp_path / "a", tmp_path / "run"
    command = ["import", str(weights), "--mapping", str(mapping)]
    done = CliRunner().invoke(app, [*command, "--out", str(folder / "model.safetensors")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, [*command, "--recipe", "fsdd-small", "--data", str(tones), "--out", str(run)])
    assert done.exit_code == 0, done.output
    for taken, told in ((weights, "this one is read"), (run / "x.safetensors", "a path outside of a run")):
        done = CliRunner().invoke(app, [*command, "--out", str(taken)])
        assert isinstance(done.exception, ConfigError) and told in str(done.exception)
    model, packed = folder / "model.safetensors", tmp_path / "packed"
    before = model.read_bytes()
    for bits, out, refused in (
        (2, folder, True),
        (2, run, True),
        (4, packed, False),
        (4, packed, False),
        (3, packed, True),
    ):
        done = CliRunner().invoke(app, ["compress", str(model), "--bits", str(bits), "--out", str(out)])
        found = isinstance(done.exception, ConfigError) and "without another model" in str(done.exception)
        assert found == refused and (refused or done.exit_code == 0), done.output
    assert model.read_bytes() == before and load_model(run / "model.safetensors").average_bits == 32
    for option in ("--seed", "--data"):
        done = CliRunner().invoke(
            app, ["compress", str(model), "--bits", "4", option, "3", "--out", str(tmp_path / "x")]
        )
        assert isinstance(done.exception, ConfigError) and f"{option} is for runs" in str(done.exception)
    done = CliRunner().invoke(app, [*command, "--set", "a.b=3", "--out", str(tmp_path / "x.safetensors")])
    assert isinstance(done.exception, ConfigError) and "--set is for the recipe of a run" in str(done.exception)


@pytest.mark.parametrize("content", [b"a: 1\n", b"", b"fLaC\0\0\0\x22", b"PK\x03\x04 no zip", b"\x80\x02]q\x00."])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.pt: expected a (file of|state_dict)"):
        read_tensors(tmp_path / "x.pt")
