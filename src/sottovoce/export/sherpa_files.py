"""``--format sherpa-onnx``: what stock sherpa-onnx runs unchanged, checked by running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, ExportError
from sottovoce.export.checks import Closeness, check_close, lstm_type_pairs, nemo_pairs
from sottovoce.export.product import new_files, save_graphs
from sottovoce.export.rounded import rounded, weight_noise_db
from sottovoce.export.sherpa import CHUNK, WINDOW, lstm_graphs, nemo_graphs
from sottovoce.export.token_list import token_lines, token_names
from sottovoce.export.transcripts import (
    check_installed,
    differing,
    greedy,
    padded,
    ready_frames,
    run_sherpa,
    synthetic,
    telling_penalty,
)
from sottovoce.export.weights import WeightForm, check_form
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.packed import PackedModel, RnntArchitecture
from sottovoce.runtime import ModelInput, PackedRnnt
from sottovoce.runtime.arithmetic import Floats

PredictorForm = Literal["window", "stateful"]
"""window: the ``lstm`` type, whose predictor reads the last tokens anew; stateful: the streaming NeMo type."""
PREDICTORS: tuple[str, ...] = get_args(PredictorForm)
NEMO_SYMBOLS = 10
"""Tokens at most in one frame of the NeMo type's greedy search."""
_NEMO_RATE = 16_000  # sherpa-onnx fixes the highest frequency at 8 kHz, whatever the rate
_ASSUMED_SUBSAMPLING = 4  # in the lstm type's times and endpoints
_EXACT = ("codes", "float")


@dataclass(frozen=True)
class Transcripts:
    """What stock sherpa-onnx made of a few signals: signals, tokens of ours in all of them, and how many signals have
    other tokens; blank_penalty: that of the second pass, which makes sound without words give tokens."""

    version: str
    signals: int
    tokens: int
    differing: int
    blank_penalty: float


@dataclass(frozen=True)
class SherpaExported:
    """files: names and bytes. arguments: what ``OnlineRecognizer.from_transducer`` needs beside the files, where its
    defaults are others. closeness, weight_noise_db: as of ``onnx_files.Exported``. transcripts: None where sherpa-onnx
    was not run. notes: what a user should know. peer: whose tokens the files were compared with."""

    folder: Path
    files: Mapping[str, int]
    arguments: Mapping[str, Any]
    closeness: tuple[Closeness, ...]
    weight_noise_db: float
    transcripts: Transcripts | None
    notes: tuple[str, ...] = field(default=())
    peer: str = "our runtime's"


def export_sherpa(
    model: PackedModel,
    folder: str | Path,
    *,
    weights: WeightForm = "codes",
    predictor: PredictorForm = "window",
    chunk: int | None = None,
    window: int = WINDOW,
    sounds: Sequence[Floats] = (),
    check: bool = True,
) -> SherpaExported:
    """Write encoder.onnx, decoder.onnx, joiner.onnx and tokens.txt for ``OnlineRecognizer.from_transducer``.

    chunk: feature frames of one encoder call, a multiple of the model's subsampling, by default the largest up to 32.
    window: tokens that a windowed predictor sees, the start among them: up to so many it is the predictor of our
    runtime. sounds: float32 (S,) each, at the model's rate, to try beside synthetic ones. Graphs run in ONNX Runtime,
    and the whole in stock sherpa-onnx in a process of its own, unless ``check`` is off, before anything is in the
    folder: the tokens are those of our runtime in float activations, with the same silence behind the sound.

    Raises ExportError for a model that sherpa-onnx cannot run, or tokens that differ where weights and activations do
    not; ConfigError for an option that cannot be used, or where sherpa-onnx is not installed.
    """
    check_form(weights)
    a, settings, tokenizer = _checked_model(model, predictor)
    chunk = max(a.subsampling, CHUNK // a.subsampling * a.subsampling) if chunk is None else chunk
    _check_options(a, predictor, chunk, window)
    if check:
        check_installed()
    stateful = predictor == "stateful"
    if stateful:
        graphs = nemo_graphs(model, weights, chunk=chunk)
        closeness = check_close(nemo_pairs(graphs, model, weights), weights)
    else:
        graphs = lstm_graphs(model, weights, chunk=chunk, window=window)
        closeness = check_close(lstm_type_pairs(graphs, model, weights, window), weights)
    arguments = _arguments(a, settings, stateful)
    transcripts = None
    with new_files(Path(folder)) as scratch:
        save_graphs(graphs, scratch)
        (scratch / "tokens.txt").write_text(token_lines(tokenizer, blank_last=stateful), encoding="utf-8")
        if check:
            search = {"max_symbols": NEMO_SYMBOLS} if stateful else {"window": window}
            network = PackedRnnt(rounded(model, weights), arithmetic="float")
            transcripts = _compare(network, settings, tokenizer, scratch, arguments, chunk, sounds, search)
            _judge(transcripts, weights)
        sizes = {file.name: file.stat().st_size for file in sorted(scratch.iterdir())}
    noise = weight_noise_db(model, weights)
    return SherpaExported(Path(folder), sizes, arguments, tuple(closeness), noise, transcripts, _notes(a, predictor))


def paths_of(folder: str | Path) -> dict[str, str]:
    """The files of an export, as ``OnlineRecognizer.from_transducer`` names them."""
    folder = Path(folder)
    found = {name: str(folder / f"{name}.onnx") for name in ("encoder", "decoder", "joiner")}
    return {"tokens": str(folder / "tokens.txt"), **found}


def _checked_model(model: PackedModel, predictor: str) -> tuple[RnntArchitecture, FeatureSettings, Tokenizer]:
    if predictor not in PREDICTORS:
        raise ConfigError(f"predictor: expected {' or '.join(PREDICTORS)}, found {predictor!r}")
    if model.architecture.get("type") != "rnnt":
        raise ExportError(f"architecture: sherpa-onnx runs an RNN-T, found {model.architecture.get('type')!r}")
    a, settings = RnntArchitecture.from_dict(model.architecture), ModelInput.from_dict(model.input).settings
    if settings is None:
        raise ExportError("input: sherpa-onnx computes features from waveforms; this model takes features as they are")
    if (settings.frame_ms, settings.shift_ms) != (25.0, 10.0):
        raise ExportError(
            f"input: sherpa-onnx has frames of 25 ms every 10 ms, found {settings.frame_ms:g} ms every "
            f"{settings.shift_ms:g} ms"
        )
    style, wanted = ("nemo", "nemo, low_hz 0 and high_hz 0") if predictor == "stateful" else ("kaldi", "kaldi")
    if settings.style != style:
        raise ExportError(
            f"input: sherpa-onnx computes features of style {style!r} for a {predictor} predictor, found "
            f"{settings.style!r}; train with features.style={wanted}, or export with --predictor "
            f"{'window' if predictor == 'stateful' else 'stateful'}"
        )
    if predictor == "stateful" and settings.sample_rate != _NEMO_RATE:
        raise ExportError(
            f"input: sherpa-onnx's NeMo type has filters up to {_NEMO_RATE // 2} Hz, so a sample rate of {_NEMO_RATE} "
            f"Hz, found {settings.sample_rate}; --predictor window takes others, with features.style=kaldi"
        )
    if model.tokenizer is None:
        raise ExportError("tokenizer: expected one in the model, found none")
    tokenizer = Tokenizer(bytes(model.tokenizer))
    if tokenizer.vocabulary != a.vocabulary:
        raise ExportError(f"tokenizer: expected {a.vocabulary} tokens as in the network, found {tokenizer.vocabulary}")
    return a, settings, tokenizer


def _check_options(a: RnntArchitecture, predictor: str, chunk: int, window: int) -> None:
    if chunk < a.subsampling or chunk % a.subsampling:
        near = max(1, chunk // a.subsampling) * a.subsampling
        raise ConfigError(
            f"chunk: expected a multiple of the model's subsampling of {a.subsampling}, as {near} or "
            f"{near + a.subsampling}, found {chunk}"
        )
    if predictor == "window" and not 2 <= window <= 4096:
        raise ConfigError(f"window: expected 2 to 4096 tokens, found {window}")


def _arguments(a: RnntArchitecture, settings: FeatureSettings, stateful: bool) -> dict[str, Any]:
    """Arguments of ``from_transducer`` that are not at its defaults; the NeMo type sets its features itself, and has no
    blank penalty."""
    wanted: dict[str, tuple[Any, Any]] = {"sample_rate": (settings.sample_rate, 16_000)}
    if not stateful:
        wanted |= {
            "feature_dim": (settings.bins, 80),
            "low_freq": (settings.low_hz, 20.0),
            "high_freq": (settings.high_hz, -400.0),
            "blank_penalty": (a.blank_penalty, 0.0),
        }
    return {name: value for name, (value, default) in wanted.items() if value != default}


def _compare(
    network: PackedRnnt,
    settings: FeatureSettings,
    tokenizer: Tokenizer,
    folder: Path,
    arguments: Mapping[str, Any],
    chunk: int,
    sounds: Sequence[Floats],
    search: Mapping[str, Any],
) -> Transcripts:
    """Two passes over all signals: as it is, and with blanks made less likely."""
    rate = settings.sample_rate
    signals = [padded(sound, rate, chunk) for sound in (*synthetic(rate), *sounds)]
    frames = []
    for signal in signals:
        found, _ = network.encoder_step(ready_frames(signal, settings, chunk)[None], network.encoder_start(1))
        frames.append(found[0])
    penalty = 0.0 if "max_symbols" in search else telling_penalty(network, frames, **search)
    penalties = [0.0, penalty] if penalty else [0.0]
    names = token_names(tokenizer)
    common = {**paths_of(folder), **arguments, "num_threads": 1}
    ran = run_sherpa([{**common, "blank_penalty": p} for p in penalties], signals, rate)
    ours = [[greedy(network, rows, p, **search).tokens for rows in frames] for p in penalties]
    wrong: set[int] = set()
    for expected, one in zip(ours, ran["passes"], strict=True):
        theirs = [result["tokens"] for result in one["results"]]
        wrong |= set(differing([[_shown(names[t]) for t in tokens] for tokens in expected], theirs))
    count = sum(len(tokens) for one in ours for tokens in one)
    return Transcripts(ran["version"], len(signals), count, len(wrong), penalty)


def _shown(name: str) -> str:
    """A token's name as sherpa-onnx shows it."""
    return name.replace("▁", " ")


def _judge(transcripts: Transcripts, weights: WeightForm) -> None:
    if transcripts.differing and weights in _EXACT:
        raise ExportError(
            f"sherpa-onnx {transcripts.version}: expected the tokens of our runtime, found others in "
            f"{transcripts.differing} of {transcripts.signals} signals"
        )


def _notes(a: RnntArchitecture, predictor: str) -> tuple[str, ...]:
    if predictor == "stateful" and a.blank_penalty:
        return (f"sherpa-onnx's NeMo type has no blank penalty: that of {a.blank_penalty:g} in the file is left out",)
    if predictor == "window" and a.subsampling != _ASSUMED_SUBSAMPLING:
        scale = a.subsampling / _ASSUMED_SUBSAMPLING
        return (
            f"sherpa-onnx assumes a subsampling of {_ASSUMED_SUBSAMPLING} in times and endpoints: of this model's "
            f"{a.subsampling}, true times are {scale:g} times what it shows, and silences of endpoint rules too",
        )
    return ()
