"""Recognition: prepared speech, a tokenizer trained on its transcripts, and an RNN-T."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce.data.datamodule import SpeechDataModule
from sottovoce.data.features import cmvn
from sottovoce.data.inputs import input_of
from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.data.utterances import split_texts
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.models.pcen import pcen
from sottovoce.packed import RnntArchitecture
from sottovoce.runtime import ModelInput
from sottovoce.training.config import RnntRecipe, with_dropout
from sottovoce.training.module import RnntModule
from sottovoce.training.run import Run, data_hash, write_file
from sottovoce.training.task import Shipped
from sottovoce.training.task_module import PhaseData, TaskModule


@dataclass(frozen=True)
class RnntTask:
    """The ``Task`` of an RNN-T's recipe."""

    recipe: RnntRecipe

    def fingerprint(self, data: Path) -> str:
        return data_hash(data)

    def describe(self, data: Path, run: Run) -> Shipped:
        tokenizer = self._tokenizer(data, run)
        model_input = input_of(data, self.recipe.features)
        architecture = self.recipe.architecture(ModelInput.from_dict(model_input).dim, tokenizer.vocabulary)
        return Shipped(architecture.to_dict(), model_input, tokenizer.model)

    def module(self, described: Shipped, *, compressing: bool) -> RnntModule:
        recipe = self.recipe
        phase = recipe.compression.phase if compressing and recipe.fork_epoch is None else recipe.phase
        training = with_dropout(recipe.training, recipe.compression.dropout if compressing else None)
        architecture = RnntArchitecture.from_dict(described.architecture)
        return RnntModule(architecture, Tokenizer(described.tokenizer), training, phase)

    def prepare(self, module: TaskModule, data: PhaseData) -> None:
        found = _cmvn(cast(SpeechDataModule, data), cast(RnntModule, module).model.architecture)
        cast(RnntModule, module).set_cmvn(*(torch.from_numpy(x) for x in found))

    def data(self, folder: Path, described: Shipped, seed: int) -> SpeechDataModule:
        return SpeechDataModule(
            folder,
            Tokenizer(described.tokenizer),
            ModelInput.from_dict(described.input),
            replace(self.recipe.data, seed=seed),
            min_frames=RnntArchitecture.from_dict(described.architecture).subsampling,
        )

    def _tokenizer(self, data: Path, run: Run) -> Tokenizer:
        if not run.tokenizer.exists():
            settings = self.recipe.tokenizer
            texts = split_texts(data, "train")
            write_file(run.tokenizer, train_tokenizer(texts, kind=settings.kind, vocabulary=settings.vocabulary))
        return Tokenizer(run.tokenizer.read_bytes())


def _cmvn(data: SpeechDataModule, architecture: RnntArchitecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and inverse deviation (F,) of what the encoder normalizes: the features, or their PCEN."""
    settings = architecture.pcen
    if settings is None:
        return data.cmvn()
    return cmvn(pcen(torch.from_numpy(x)[None], settings)[0].numpy() for x in data.train_features())
