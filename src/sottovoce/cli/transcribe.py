"""``sottovoce transcribe``: audio files to text with a packed model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sottovoce.cli.inputs import model_file
from sottovoce.cli.live import at_the_speed_of_sound, live_results, microphone, pieces, show
from sottovoce.cli.progress import progress_bar
from sottovoce.decoding.endpoint import DEFAULT_RULES, EndpointRule
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.audio import audio_seconds, read_audio
from sottovoce.progress import Progress
from sottovoce.runtime import EndpointRules, Recognizer, Result, Stream
from sottovoce.runtime.rules import Arithmetic

_BATCH = 16  # files decoded together
_HOTWORDS_SCORE = 1.5

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
    model: Annotated[Path, typer.Argument(help="A model file, or a run folder.")],
    audio: Annotated[
        list[Path] | None, typer.Argument(help="Audio files of any format and rate, or folders of them.")
    ] = None,
    method: Annotated[SearchMethod, typer.Option(help="How to search.")] = SearchMethod.greedy,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses kept, with --method beam.")] = 4,
    nbest: Annotated[int, typer.Option(min=1, help="Transcripts a file, with --method beam.")] = 1,
    blank_penalty: Annotated[
        float | None, typer.Option(help="Taken off the blank's log-probability, nats; by default what the file says.")
    ] = None,
    hotwords: Annotated[
        Path | None, typer.Option(help="A text file of phrases to favour, one a line, with --method beam.")
    ] = None,
    hotwords_score: Annotated[float, typer.Option(help="Nats for each of their tokens.")] = _HOTWORDS_SCORE,
    lm: Annotated[
        Path | None, typer.Option(help="A language model's file or run folder, n-grams too, with --method beam.")
    ] = None,
    lm_weight: Annotated[
        float | None, typer.Option(min=0, help="Factor of its log-probabilities; 0.3 by default.")
    ] = None,
    internal_lm_weight: Annotated[
        float, typer.Option(min=0, help="Factor of the recognizer's internal language model, which is taken off.")
    ] = 0.0,
    arithmetic: Annotated[Arithmetic, typer.Option(help="int8, float (weight-only figures) or accelerator.")] = "int8",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the compiled kernels.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with words and times.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Transcribe live, in utterances.")] = False,
    realtime: Annotated[bool, typer.Option("--realtime", help="With --stream: at the speed of speech.")] = False,
    from_microphone: Annotated[bool, typer.Option("--microphone", help="Transcribe what is said, live.")] = False,
    rule1_min_trailing_silence: Annotated[
        float, typer.Option(help="Live, an utterance ends after so many seconds of silence.")
    ] = DEFAULT_RULES.rule1.min_trailing_silence,
    rule2_min_trailing_silence: Annotated[
        float, typer.Option(help="Or after so many that follow a token.")
    ] = DEFAULT_RULES.rule2.min_trailing_silence,
    rule3_min_utterance_length: Annotated[
        float, typer.Option(help="Or when it is so many seconds long.")
    ] = DEFAULT_RULES.rule3.min_utterance_length,
) -> None:
    """Print the transcript of each audio file: its name, a tab, the text.

    With --nbest above 1, one line a transcript: name, rank, score, text, best first. A folder is searched with all its
    subfolders, in order of name. A line of the hotwords file may end in a score of its own, as in "some phrase :2.5".

    A language model of the recognizer's own pieces scores every token, one of words or other pieces each word where it
    ends; it should not outweigh the sound: tune --lm-weight on held-out speech.

    With --stream or --microphone, one line an utterance: name, start in seconds, text; on a terminal, the text so far
    is shown while it is spoken, and with --json each change of it is an object. Ctrl-c ends the microphone. A file that
    cannot be read is named on the error stream; the others go on, and the exit code is 2.

    Examples:

        sottovoce transcribe model.safetensors hello.wav

        sottovoce transcribe model.safetensors recordings/ --method beam --nbest 4 --json

        sottovoce transcribe model.safetensors recordings/ --method beam --lm runs/lm --lm-weight 0.3

        sottovoce transcribe runs/fsdd-5bit --microphone
    """
    _check_input(audio, from_microphone, realtime, stream)
    if method is not SearchMethod.beam and beam != 4:
        raise ConfigError("--beam: a greedy search keeps one hypothesis: expected --method beam")
    if nbest > (beam if method is SearchMethod.beam else 1):
        raise ConfigError(f"--nbest {nbest} needs --method beam with a --beam of at least {nbest}")
    if nbest > 1 and (stream or from_microphone):
        raise ConfigError(f"--nbest {nbest}: live transcription has one transcript")
    if hotwords is None and hotwords_score != _HOTWORDS_SCORE:
        raise ConfigError("--hotwords-score needs --hotwords")
    endpoint = EndpointRules(
        _rule("rule1", min_trailing_silence=rule1_min_trailing_silence),
        _rule("rule2", min_trailing_silence=rule2_min_trailing_silence),
        _rule("rule3", min_utterance_length=rule3_min_utterance_length),
    )
    if endpoint != DEFAULT_RULES and not (stream or from_microphone):
        raise ConfigError("--rule1-..., --rule2-... and --rule3-... end live utterances: expected --stream")
    refused = list[DataError]()
    files = [file for path in audio or [] for file in _found(path, refused)]
    if refused and not files:
        raise typer.Exit(2)
    recognizer = Recognizer(
        model_file(model),
        method=method.value,
        beam=beam,
        arithmetic=arithmetic,
        blank_penalty=blank_penalty,
        hotwords=_read_lines(hotwords) if hotwords else (),
        hotwords_score=hotwords_score,
        lm=lm,
        lm_weight=lm_weight,
        internal_lm_weight=internal_lm_weight,
        endpoint=endpoint,
        num_threads=threads,
    )
    if from_microphone:
        with microphone() as (rate, chunks):
            show("microphone", live_results(recognizer, rate, chunks), _as_dict if as_json else None)
        return
    if stream:
        for path in files:
            with _noted(refused):
                _stream_file(recognizer, path, realtime, as_json)
    else:
        _transcribe_files(recognizer, files, nbest, as_json, refused)
    if refused:
        raise typer.Exit(2)


def _check_input(audio: list[Path] | None, from_microphone: bool, realtime: bool, stream: bool) -> None:
    if bool(audio) == from_microphone:
        raise ConfigError("expected audio files or folders, or else --microphone" + (", found both" if audio else ""))
    if realtime and not stream:
        raise ConfigError("--realtime needs --stream")


def _rule(name: str, **changes: float) -> EndpointRule:
    values: dict[str, Any] = {**asdict(getattr(DEFAULT_RULES, name)), **changes}
    try:
        return EndpointRule(**values)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a text file of hotwords ({error})") from None


def _stream_file(recognizer: Recognizer, path: Path, realtime: bool, as_json: bool) -> None:
    samples, rate = read_audio(path)
    chunks = pieces(samples, rate)
    with _named(path):
        results = live_results(recognizer, rate, at_the_speed_of_sound(chunks, rate) if realtime else chunks)
        show(str(path), results, _as_dict if as_json else None)


def _transcribe_files(
    recognizer: Recognizer, files: list[Path], nbest: int, as_json: bool, refused: list[DataError]
) -> None:
    lengths = {path: audio_seconds(path) for path in files}
    done, total = 0.0, sum(lengths[path] for path in files)
    with progress_bar(Console(stderr=True), "seconds") as bar:
        for batch in _batches(recognizer, files, refused):
            now = sum(lengths[path] for path, _ in batch)
            recognizer.decode_streams([stream for _, stream in batch], _part(bar, done, now, total))
            done += now
            found = (_lines(path, recognizer.get_nbest(stream)[:nbest], nbest, as_json) for path, stream in batch)
            if lines := [line for each in found for line in each]:
                bar.echo("\n".join(lines))


def _part(progress: Progress, before: float, now: float, total: float) -> Progress:
    """Of ``now`` seconds after ``before`` others of ``total``, told in frames."""
    return lambda done, frames: progress(round(before + now * done / frames), round(total))


def _batches(
    recognizer: Recognizer, files: list[Path], refused: list[DataError]
) -> Iterator[list[tuple[Path, Stream]]]:
    """Streams that hold whole files, some at a time; a file that cannot be read does not end those after it."""
    batch: list[tuple[Path, Stream]] = []
    for path in files:
        with _noted(refused):
            batch.append((path, _read_stream(recognizer, path)))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _read_stream(recognizer: Recognizer, path: Path) -> Stream:
    samples, rate = read_audio(path)
    stream = recognizer.create_stream()
    with _named(path):
        stream.accept_waveform(rate, samples)
    stream.input_finished()
    return stream


@contextmanager
def _noted(refused: list[DataError]) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        refused.append(error)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


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


def _found(path: Path, refused: list[DataError]) -> list[Path]:
    with _noted(refused):
        return list(audio_files([path]))
    return []


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
        "words": [asdict(word) for word in result.words],
        "segment": result.segment,
        "start_time": result.start_time,
    }
