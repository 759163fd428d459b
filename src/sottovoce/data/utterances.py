"""One split of a prepared folder as plain utterances, for what runs a packed model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.features import cached_features, load_features
from sottovoce.data.prepared import load_cuts
from sottovoce.errors import DataError
from sottovoce.frontend.settings import FeatureSettings


@dataclass(frozen=True, eq=False)
class Utterance:
    """Features are float32 (T, F)."""

    id: str
    text: str
    speaker: str
    recording: str
    features: NDArray[np.float32]


def split_utterances(folder: Path, split: str, settings: FeatureSettings | None) -> list[Utterance]:
    """Every utterance of a split, in the order of the ids. Raises DataError for a model that takes no waveforms."""
    if settings is None:
        raise DataError(f"{folder}: holds waveforms, and the model takes features of another kind")
    cuts = cached_features(load_cuts(folder, split), folder, settings)
    found = [
        Utterance(c.id, c.supervisions[0].text, c.supervisions[0].speaker or "", c.recording.id, load_features(c))
        for c in cuts
    ]
    return sorted(found, key=lambda u: u.id)


def split_texts(folder: Path, split: str) -> list[str]:
    """Transcripts of a split."""
    return [cut.supervisions[0].text for cut in load_cuts(folder, split)]
