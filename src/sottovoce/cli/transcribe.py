"""``sottovoce transcribe``: audio files to text with a packed model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.audio import read_audio
from sottovoce.runtime import Recognizer, Result

# What libsndfile reads of what people keep speech in; a file named outright may have any extension.
# fmt: off
AUDIO_EXTENSIONS = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd",
    ".sph", ".w64", ".wav", ".wave",
})
# fmt: on


class SearchMethod(StrEnum):
    """How to search; the values are the Recognizer's methods."""

    greedy = "greedy"
    beam = "beam"


def transcribe(
    model: Annotated[Path, typer.Argument(help="A packed model file.")],
    audio: Annotated[list[Path], typer.Argument(help="Audio files of any format and rate, or folders of them.")],
    method: Annotated[SearchMethod, typer.Option(help="How to search.")] = SearchMethod.greedy,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept, with --method beam.")] = 4,
    nbest: Annotated[int, typer.Option(min=1, help="Transcripts a file, with --method beam.")] = 1,
    blank_penalty: Annotated[float, typer.Option(help="Taken off the blank's log-probability.")] = 0.0,
    float_activations: Annotated[bool, typer.Option("--float-activations", help="Quantize the weights only.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the compiled kernels.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with tokens and times.")] = False,
) -> None:
    """Print the transcript of each audio file: its name, a tab, the text.

    With --nbest above 1, one line a transcript: name, rank, score, text, best first. A folder is searched with all its
    subfolders, in order of name.

    Examples:

        sottovoce transcribe model.safetensors hello.wav

        sottovoce transcribe model.safetensors recordings/ --method beam --nbest 4 --json
    """
    if nbest > (beam if method is SearchMethod.beam else 1):
        raise ConfigError(f"--nbest {nbest} needs --method beam with a --beam of at least {nbest}")
    files = list(audio_files(audio))
    recognizer = Recognizer(
        model,
        method=method.value,
        beam=beam,
        float_activations=float_activations,
        blank_penalty=blank_penalty,
        num_threads=threads,
    )
    for path in files:
        samples, rate = read_audio(path)
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, samples)
        stream.input_finished()
        recognizer.decode_stream(stream)
        results = recognizer.get_nbest(stream)[:nbest]
        for line in _lines(path, results, nbest, as_json):
            typer.echo(line)


def audio_files(paths: list[Path]) -> Iterator[Path]:
    """The files, in the order given; a folder stands for the audio files in it, sorted, subfolders included.

    Raises DataError for a path that does not exist or a folder without audio.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: expected an audio file or a folder, found nothing there")
        if not path.is_dir():
            yield path
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_EXTENSIONS and p.is_file())
        if not inside:
            raise DataError(f"{path}: expected audio files in this folder, found none")
        yield from inside


def _lines(path: Path, results: list[Result], nbest: int, as_json: bool) -> list[str]:
    if as_json:
        best: dict[str, Any] = {"file": str(path), **_as_dict(results[0])}
        if nbest > 1:
            best["nbest"] = [_as_dict(result) for result in results]
        return [json.dumps(best, ensure_ascii=False)]
    if nbest == 1:
        return [f"{path}\t{results[0].text}"]
    return [f"{path}\t{rank}\t{result.score:.3f}\t{result.text}" for rank, result in enumerate(results, start=1)]


def _as_dict(result: Result) -> dict[str, Any]:
    return {
        "text": result.text,
        "score": round(result.score, 6),
        "tokens": list(result.tokens),
        "times": list(result.times),
        "log_probs": [round(value, 6) for value in result.log_probs],
    }
