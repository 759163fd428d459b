"""Recordings of a few utterances, small enough to lie inside the page."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sottovoce.report.markup import Markup, element

LONGEST = 20.0  # seconds: longer ones are left out


def players(data: Path | None, split: str, ids: Collection[str]) -> dict[str, Markup]:
    """A player for each utterance of a prepared data folder whose recording is still there; nothing else is an error:
    a report may be read where the data are not."""
    if data is None or not ids:
        return {}
    found = {}
    for cut in _cuts(data / f"{split}.jsonl.gz"):
        if cut.get("id") in ids:
            source = _encoded(data, cut)
            if source is not None:
                found[cut["id"]] = element(
                    "audio", controls=True, preload="none", src=source, aria_label=f"recording of {cut['id']}"
                )
    return found


def _cuts(manifest: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(manifest, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
    except (OSError, EOFError, ValueError, zlib.error):
        return


def _encoded(data: Path, cut: dict[str, Any]) -> str | None:
    """The cut as a data URL: MP3 where libsndfile writes it, which every browser plays, else 16-bit WAV."""
    try:
        (source,) = cut["recording"]["sources"]
        path = Path(source["source"])
        path = path if path.exists() else data / "audio" / Path(*path.parts[-2:])  # a folder that was moved
        rate, start, length = cut["recording"]["sampling_rate"], float(cut["start"]), float(cut["duration"])
        if source["type"] != "file" or length > LONGEST:
            return None
        samples, rate = soundfile.read(path, frames=round(length * rate), start=round(start * rate), dtype="float32")
    except (KeyError, TypeError, ValueError, OSError, soundfile.LibsndfileError):
        return None
    if samples.ndim > 1:
        samples = samples[:, int(cut.get("channel") or 0)]
    kind, mime = ("MP3", "audio/mpeg") if "MP3" in soundfile.available_formats() else ("WAV", "audio/wav")
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, np.clip(samples, -1, 1), rate, format=kind)
    except soundfile.LibsndfileError:  # a rate that MP3 does not have
        mime, buffer = "audio/wav", io.BytesIO()
        soundfile.write(buffer, np.clip(samples, -1, 1), rate, format="WAV", subtype="PCM_16")
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
