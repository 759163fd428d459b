"""A small corpus in the layout of AN4."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

TRAIN = ("fash", "mblb", "mdcs", "mdcs2", "flmm2", "mtos")
TEST = ("fcaw", "mdms2")
WORDS = ("YES", "NO", "START", "STOP", "GO")
EACH = 4


def cepstra(name: str) -> NDArray[np.float32]:
    """Features (T, 13) that depend on the utterance's name."""
    source = np.random.default_rng(list(name.encode()))
    deviations = np.geomspace(3, 0.1, 13)
    return (source.normal(0, 1, (int(source.integers(40, 90)), 13)) * deviations).astype(np.float32)


def write_mfc(path: Path, values: NDArray[np.float32], order: str = ">", count: int | None = None) -> Path:
    """``values`` as Sphinx writes them; ``count`` is a lie about how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.array(values.size if count is None else count, f"{order}i4")
    path.write_bytes(header.tobytes() + values.astype(f"{order}f4").tobytes())
    return path


def an4_corpus(
    folder: Path, kind: str = "mfc", order: str = ">", marks: bool = False, train: Sequence[str] = TRAIN
) -> Path:
    """``kind``: mfc, wav or sph; ``marks``: <s> and </s> around the training transcripts."""
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    for split, speakers, place in (("train", train, "an4_clstk"), ("test", TEST, "an4test_clstk")):
        ids, lines = [], []
        for speaker in speakers:
            for number in range(EACH):
                id = f"an{number}-{speaker}-b"
                text = f"{WORDS[number]} {WORDS[-1]}"
                ids.append(f"{place}/{speaker}/{id}")
                lines.append(f"<s> {text} </s> ({id})" if marks and split == "train" else f"{text} ({id})")
                _write(folder, f"{place}/{speaker}/{id}", kind, order)
        (folder / "etc" / f"an4_{split}.fileids").write_text("\n".join(ids) + "\n")
        (folder / "etc" / f"an4_{split}.transcription").write_text("\n".join(lines) + "\n")
    return folder


def _write(folder: Path, name: str, kind: str, order: str) -> None:
    if kind == "mfc":
        write_mfc(folder / "feat" / f"{name}.mfc", cepstra(name.split("/")[-1]), order)
        return
    path = folder / "wav" / f"{name}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(9_600) / 9)
    soundfile.write(path, samples, 16_000, subtype="PCM_16", format="NIST" if kind == "sph" else "WAV")
