"""Transcripts of the AMI meetings: the folder of its manual annotations, with ``corpusResources``, ``segments`` and
``words``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from xml.etree.ElementTree import ParseError

from lhotse.recipes.ami import PARTITIONS, parse_ami_annotations

from sottovoce.data.text import TextCorpus, assemble, conversation, folder_of
from sottovoce.decoding.text import spoken
from sottovoce.errors import DataError

_NEEDED = ("corpusResources", "segments", "words")


def read_ami_text(source: str | Path) -> TextCorpus:
    """A conversation is a meeting, its sentences what one speaker said up to a full stop, by their start; the splits
    are those of speech recognition on the full corpus (``full-corpus-asr``). Normalized by ``spoken``.

    Raises DataError for another layout.
    """
    place = folder_of(source, "annotations", "ami_public_manual_1.6.2")
    missing = next((name for name in _NEEDED if not (place / name).is_dir()), None)
    if missing is not None:
        raise DataError(f"{place}: expected AMI's manual annotations, found no folder {missing}")
    try:
        annotations = parse_ami_annotations(place, normalize="none")
    except (ParseError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{place}: not AMI's manual annotations ({error})") from error
    said: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for (meeting, *_), segments in annotations.items():
        said[meeting] += [(segment.start_time, segment.text) for segment in segments]
    meetings = {
        name: conversation(name, (text for _, text in sorted(lines)), spoken) for name, lines in sorted(said.items())
    }
    parts = PARTITIONS["full-corpus-asr"]
    splits = {split: [c for name, c in meetings.items() if name in parts[split]] for split in ("train", "dev", "test")}
    return assemble("ami_text", "spoken", splits, "test", place)
