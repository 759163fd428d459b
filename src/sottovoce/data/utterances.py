"""One split of a prepared folder as plain utterances, for what runs a packed model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.features import load_features
from sottovoce.data.inputs import split_cuts
from sottovoce.data.prepared import load_cuts
from sottovoce.runtime.result import ModelInput


@dataclass(frozen=True, eq=False)
class Utterance:
    """Features are float32 (T, F)."""

    id: str
    text: str
    speaker: str
    recording: str
    features: NDArray[np.float32]


def split_utterances(folder: Path, split: str, model_input: ModelInput) -> list[Utterance]:
    """Every utterance of a split with its features for ``model_input``, in the order of the ids.

    Raises DataError where the folder holds features and the model takes waveforms or other features, or the reverse.
    """
    return [
        Utterance(c.id, c.supervisions[0].text, c.supervisions[0].speaker or "", c.recording_id, load_features(c))
        for c in split_cuts(folder, split, model_input)
    ]


def split_texts(folder: Path, split: str) -> list[str]:
    """Transcripts of a split."""
    return [cut.supervisions[0].text for cut in load_cuts(folder, split)]
