"""From a recipe and prepared data to a trained float32 run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from sottovoce.schemes import pack_float
from sottovoce.training.allocator import keep_freed_memory
from sottovoce.training.arms import save_module
from sottovoce.training.config import Recipe
from sottovoce.training.module import RnntModule
from sottovoce.training.phases import Fork, fit
from sottovoce.training.run import Run, data_hash, write_file


def train(
    recipe: Recipe, data_folder: Path, out: Path, *, devices: int = 1, threads: int | None = None, progress: bool = True
) -> Run:
    """Train a recipe's RNN-T on prepared data. The run folder ends with ``model.safetensors`` in float32.

    A finished run is returned as it is; an interrupted one resumes at its last epoch. Raises ConfigError when the
    folder holds a run of other settings, DataError when the data cannot be used.
    """
    run = Run.begin(
        out,
        {
            "recipe": recipe.model_dump(mode="json"),
            "data": str(data_folder.resolve()),
            "data_hash": data_hash(data_folder),
        },
    )
    if run.model.exists():
        return run
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    tokenizer = _tokenizer(recipe, data_folder, run)
    model_input = input_of(data_folder, recipe.features)
    architecture = recipe.architecture(ModelInput.from_dict(model_input).dim, tokenizer.vocabulary)
    data = SpeechDataModule(
        data_folder,
        tokenizer,
        ModelInput.from_dict(model_input),
        replace(recipe.data, seed=recipe.seed),
        min_frames=architecture.subsampling,
    )
    module = RnntModule(architecture, tokenizer, recipe.training, recipe.phase)
    module.set_cmvn(*(torch.from_numpy(x) for x in _cmvn(data, architecture)))
    fork = None if recipe.fork_epoch is None else Fork(recipe.fork_epoch, run.fork)
    trainer = fit(
        module, data, recipe.phase, recipe.training, out,
        seed=recipe.seed, devices=devices, progress=progress, fork=fork,
    )  # fmt: skip
    if not trainer.is_global_zero:
        return run
    save_module(module, out)
    packed = replace(
        pack_float(module.model),
        architecture=architecture.to_dict(),
        input=model_input,
        tokenizer=tokenizer.model,
        provenance={"seed": recipe.seed, "recipe": recipe.name, "recipe_hash": recipe.digest()},
    )
    packed.save(run.model)
    return run


def _cmvn(data: SpeechDataModule, architecture: RnntArchitecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and inverse deviation (F,) of what the encoder normalizes: the features, or their PCEN."""
    settings = architecture.pcen
    if settings is None:
        return data.cmvn()
    return cmvn(pcen(torch.from_numpy(x)[None], settings)[0].numpy() for x in data.train_features())


def _tokenizer(recipe: Recipe, data_folder: Path, run: Run) -> Tokenizer:
    """The run's tokenizer, trained on the training transcripts the first time."""
    if not run.tokenizer.exists():
        texts = split_texts(data_folder, "train")
        model = train_tokenizer(texts, kind=recipe.tokenizer.kind, vocabulary=recipe.tokenizer.vocabulary)
        write_file(run.tokenizer, model)
    return Tokenizer(run.tokenizer.read_bytes())
