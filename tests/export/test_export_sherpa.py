# ruff: noqa: E402 - imports follow the check that the extra is there
"""Stock sherpa-onnx runs what is exported, with our tokens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

for package in ("onnx", "onnxruntime", "sherpa_onnx"):
    pytest.importorskip(package, reason=f"{package} is not installed: it comes with the [export] extra")

import onnx
from export_models import LMS, NEMO, RNNTS, lm_model, random_model, saved, speaking_model

from sottovoce.cli.main import app
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, ExportError
from sottovoce.export import FORMS, WeightForm, export_sherpa, paths_of
from sottovoce.export.checks import check_close, lstm_type_pairs, nemo_pairs
from sottovoce.export.sherpa import lstm_graphs, nemo_graphs
from sottovoce.export.token_list import token_names
from sottovoce.export.transcripts import greedy, padded, ready_frames, run_sherpa, synthetic
from sottovoce.packed import PackedModel, Pcen, RnntArchitecture
from sottovoce.runtime import ModelInput, PackedRnnt, Recognizer

sys.path.append(str(Path(__file__).parents[1] / "runtime"))
from tiny_rnnt import tokenizer, vocabulary

EXACT = ("codes", "float")


def model_of(input: dict[str, Any] | None = None, seed: int = 0, **sizes: Any) -> PackedModel:
    """A random recognizer that speaks, of other sizes than ``speaking_model``'s."""
    given = input or {"kind": "waveform", "bins": 20}
    a = RnntArchitecture(
        features=given["bins"],
        vocabulary=vocabulary(),
        encoder_units=16,
        embedding=8,
        predictor_units=8,
        joiner_units=12,
    )
    return random_model(replace(a, **sizes), seed, tokenizer=tokenizer(), input=given)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", RNNTS.values(), ids=RNNTS)
def test_graphs_are_the_packed_network(architecture: RnntArchitecture, form: WeightForm) -> None:
    model = random_model(architecture)
    for pairs, graphs in (
        (lstm_type_pairs(lstm_graphs(model, form, chunk=16, window=5), model, form, 5), "lstm"),
        (nemo_pairs(nemo_graphs(model, form, chunk=16), model, form), "nemo"),
    ):
        found = check_close(pairs, form)
        assert [one.graph for one in found] == ["encoder", "decoder", "joiner"], graphs
        assert all(one.signal_to_noise_db > (90 if form in EXACT else 12) for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("predictor", ["window", "stateful"])
def test_sherpa_onnx_says_what_our_runtime_says(predictor: Any, form: WeightForm, tmp_path: Path) -> None:
    model = speaking_model(input=NEMO if predictor == "stateful" else {"kind": "waveform", "bins": 20})
    exported = export_sherpa(model, tmp_path / "out", weights=form, predictor=predictor)
    assert set(exported.files) == {"encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt"}
    told = exported.transcripts
    assert told is not None and told.signals == 3 and told.tokens > 100
    if form in EXACT:
        assert told.differing == 0
    assert exported.arguments == ({} if predictor == "stateful" else {"feature_dim": 20})
    assert not exported.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("input", "sizes", "chunk"),
    [
        ({"kind": "waveform", "bins": 20}, {"pcen": Pcen()}, 32),
        ({"kind": "waveform", "bins": 20}, {"stack": 6, "stride": 3, "predictor_layers": 2}, None),
        ({"kind": "waveform", "bins": 20, "sample_rate": 8000, "high_hz": -200.0, "low_hz": 50.0}, {}, 8),
        ({**NEMO, "bins": 24}, {"pcen": Pcen(), "stack": 3, "stride": 3, "reduction_after": 0}, 9),
        ({"kind": "waveform", "bins": 20}, {"blank_penalty": 0.5}, 32),
        (NEMO, {"blank_penalty": 0.5}, 32),
    ],
    ids=[
        "PCEN",
        "subsampling 6, two layers",
        "8 kHz, short chunks",
        "NeMo with PCEN",
        "blank penalty",
        "NeMo and a blank penalty",
    ],
)
def test_every_network_and_front_end(
    input: dict[str, Any], sizes: dict[str, Any], chunk: int | None, tmp_path: Path
) -> None:
    predictor: Any = "stateful" if input.get("style") == "nemo" else "window"
    exported = export_sherpa(model_of(input, **sizes), tmp_path / "out", predictor=predictor, chunk=chunk)
    told = exported.transcripts
    assert told is not None and told.tokens > 30 and told.differing == 0
    six, penalty = sizes.get("stride") == 3 and predictor == "window", sizes.get("blank_penalty")
    left_out = penalty is not None and predictor == "stateful"
    assert bool(exported.notes) == (six or left_out)
    assert not six or "true times are 1.5 times" in exported.notes[0]
    assert not left_out or "that of 0.5 in the file is left out" in exported.notes[0]
    assert exported.arguments.get("blank_penalty") == (None if predictor == "stateful" else penalty)


def transcripts(folder: Path, signals: list[np.ndarray], rate: int = 16_000, **arguments: Any) -> list[list[str]]:
    (one,) = run_sherpa([{**paths_of(folder), "num_threads": 1, "feature_dim": 20, **arguments}], signals, rate)[
        "passes"
    ]
    return [result["tokens"] for result in one["results"]]


def shown(ids: Sequence[int]) -> list[str]:
    """Tokens as sherpa-onnx shows them."""
    names = token_names(Tokenizer(tokenizer()))
    return [names[i].replace("▁", " ") for i in ids]


def remembering() -> PackedModel:
    """A recognizer whose predictor forgets slowly: its forget gate is nearly open."""
    model = speaking_model()
    tensors = dict(model.tensors)
    bias = np.array(tensors["predictor.lstm.bias_ih_l0"])
    units = len(bias) // 4
    bias[units : 2 * units] += 3
    return replace(model, tensors=tensors | {"predictor.lstm.bias_ih_l0": bias})


@pytest.mark.slow
def test_beyond_64_tokens_the_window_is_not_the_stateful_predictor(tmp_path: Path) -> None:
    model = remembering()
    export_sherpa(model, tmp_path / "out")
    settings = ModelInput.from_dict(model.input).settings
    assert settings is not None
    signal = padded(np.concatenate(synthetic(16_000)), 16_000, 32)
    network = PackedRnnt(model, arithmetic="float")
    frames, _ = network.encoder_step(ready_frames(signal, settings, 32)[None], network.encoder_start(1))
    windowed = greedy(network, frames[0], 0.0, window=64).tokens
    stateful = greedy(network, frames[0], 0.0).tokens
    assert len(stateful) > 100 and windowed[:64] == stateful[:64] and windowed != stateful
    assert transcripts(tmp_path / "out", [signal]) == [shown(windowed)]
    recognizer = Recognizer(model, arithmetic="float")
    assert recognizer.transcribe(signal, 16_000).ids[: len(stateful)] == stateful


@pytest.mark.slow
def test_sound_at_another_rate_is_resampled_alike(tmp_path: Path) -> None:
    model = speaking_model(1)
    export_sherpa(model, tmp_path / "out")
    signals = [padded(sound, 8_000, 48) for sound in synthetic(8_000)]
    found = transcripts(tmp_path / "out", signals, 8_000)
    recognizer = Recognizer(model, arithmetic="float")
    for tokens, signal in zip(found, signals, strict=True):
        ours = shown(recognizer.transcribe(signal, 8_000).ids)
        assert len(tokens) > 10 and tokens == ours[: len(tokens)] and len(ours) - len(tokens) <= 32 // 4


@pytest.mark.slow
def test_other_tokens_are_noticed_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = lstm_graphs(speaking_model(1), "codes")
    monkeypatch.setattr("sottovoce.export.sherpa_files.lstm_graphs", lambda *_, **__: other)
    with pytest.raises(ExportError, match="encoder: expected outputs at least 60 dB over their error"):
        export_sherpa(speaking_model(), tmp_path / "out")
    monkeypatch.setattr("sottovoce.export.sherpa_files.check_close", lambda *_: [])
    with pytest.raises(ExportError, match=r"expected the tokens of our runtime, found others in 3 of 3 signals"):
        export_sherpa(speaking_model(), tmp_path / "out")
    broken = {name: onnx.ModelProto.FromString(graph.SerializeToString()) for name, graph in other.items()}
    del broken["encoder"].metadata_props[:]
    monkeypatch.setattr("sottovoce.export.sherpa_files.lstm_graphs", lambda *_, **__: broken)
    with pytest.raises(ExportError, match="sherpa-onnx: ended with code"):
        export_sherpa(speaking_model(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_unknown_token_has_a_name_that_sherpa_onnx_does_not_skip() -> None:
    pieces = Tokenizer(tokenizer())
    names = token_names(pieces)
    assert names[0] == "<blk>" and names[pieces.unknown] == "▁⁇" and "<unk>" not in names
    assert token_names(pieces, blank_last=True) == [*names[1:], "<blk>"]


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"kind": "features", "dim": 20, "rate": 100}
    cases: list[tuple[PackedModel, dict[str, Any], type[Exception], str]] = [
        (speaking_model(), {"chunk": 30}, ConfigError, "the model's subsampling of 4, as 28 or 32, found 30"),
        (speaking_model(), {"window": 1}, ConfigError, "window: expected 2 to 4096 tokens, found 1"),
        (speaking_model(), {"predictor": "lstm"}, ConfigError, "predictor: expected window or stateful, found 'lstm'"),
        (speaking_model(), {"predictor": "stateful"}, ExportError, "train with features.style=nemo"),
        (speaking_model(input=NEMO), {}, ExportError, "with features.style=kaldi, or export with --predictor stateful"),
        (lm_model(LMS["lstm"]), {}, ExportError, "architecture: sherpa-onnx runs an RNN-T, found 'lstm-lm'"),
        (replace(speaking_model(), input=given), {}, ExportError, "this model takes features as they are"),
        (model_of({"kind": "waveform", "bins": 20, "shift_ms": 12.5}), {}, ExportError, "found 25 ms every 12.5 ms"),
        (replace(speaking_model(), tokenizer=None), {}, ExportError, "tokenizer: expected one"),
        (speaking_model(input={**NEMO, "sample_rate": 8000}), {"predictor": "stateful"}, ExportError, "found 8000"),
    ]  # fmt: skip
    for model, options, error, text in cases:
        with pytest.raises(error) as caught:
            export_sherpa(model, tmp_path / "out", **options)
        assert text in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr("sottovoce.export.transcripts.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'sottovoce\[export\]', or --no-check"):
        export_sherpa(speaking_model(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "sound.wav", synthetic(8_000)[0], 8_000)
    path = saved(speaking_model(), tmp_path / "model.safetensors")
    command = ["export", str(path), "--format", "sherpa-onnx", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--audio", str(tmp_path / "sound.wav")])
    assert done.exit_code == 0, done.output
    assert "4 of 4 signals" in done.output and "feature_dim=20" in done.output
    done = CliRunner().invoke(app, [*command, "--no-check", "--weights", "int8"])
    assert done.exit_code == 0 and "sherpa-onnx was not run" in done.output


@pytest.mark.slow
def test_a_check_that_compared_no_token_says_so(tmp_path: Path) -> None:
    model = speaking_model(input=NEMO)
    bias = np.array(model.tensors["joiner.output.bias"])
    bias[0] += 1000
    path = saved(replace(model, tensors={**model.tensors, "joiner.output.bias": bias}), tmp_path / "model.safetensors")
    command = [
        "export",
        str(path),
        "--format",
        "sherpa-onnx",
        "--predictor",
        "stateful",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "(0 tokens)" in done.output and "give --audio with speech" in done.output
