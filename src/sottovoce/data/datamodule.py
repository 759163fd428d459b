"""Batches for training: a Lightning data module over a prepared folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lhotse import CutSet, MonoCut
from lhotse.dataset import SimpleCutSampler
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from sottovoce.data import options as check
from sottovoce.data.augment import AugmentConfig
from sottovoce.data.dataset import Batch, FeatureStore, SpeechDataset
from sottovoce.data.features import cmvn
from sottovoce.data.inputs import check_input, check_waveform_options, input_of, split_cuts
from sottovoce.data.sampling import EpochSampler
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError
from sottovoce.progress import Progress
from sottovoce.runtime.result import ModelInput

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """How batches are made.

    ``max_duration``: seconds of audio a batch, padding counted, before ``augment`` appends utterances or changes their
    speed; ``max_cuts``: utterances a batch at most; ``buckets``: classes of length;
    ``epoch_strings``: utterances an epoch, drawn anew each time (None: all, each speed being a copy of its own);
    ``speeds`` and ``noise_db`` (a range of ratios in decibels) change the training waveforms before the features, and
    are refused where the data are features; ``augment`` the features (None: nothing); ``workers`` load batches,
    ``jobs`` compute features; features of up to ``memory_gb`` are kept in memory.
    """

    max_duration: float = 60.0
    max_cuts: int | None = None
    buckets: int = 10
    seed: int = 0
    epoch_strings: int | None = None
    speeds: tuple[float, ...] = (1.0,)
    noise_db: tuple[float, float] | None = None
    augment: AugmentConfig | None = field(default_factory=AugmentConfig)
    workers: int = 0
    jobs: int = 1
    memory_gb: float = 2.0

    def __post_init__(self) -> None:
        check.number("data.max_duration", self.max_duration, 0.1, 1e6)
        for name, high in (("max_cuts", 10**6), ("epoch_strings", 10**9)):
            if getattr(self, name) is not None:
                check.integer(f"data.{name}", getattr(self, name), 1, high)
        for name, low, high in (("buckets", 1, 1000), ("seed", 0, 2**31), ("workers", 0, 256), ("jobs", 1, 256)):
            check.integer(f"data.{name}", getattr(self, name), low, high)
        check.number("data.memory_gb", self.memory_gb, 0, 1e4)
        object.__setattr__(self, "speeds", check.speeds("data.speeds", self.speeds))
        if self.noise_db is not None:
            object.__setattr__(self, "noise_db", check.span("data.noise_db", self.noise_db, -20, 100))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """The configuration in ``values``, ``augment`` a mapping or None. Raises ConfigError on bad keys or values."""
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"data: unknown option {unknown[0]!r}; known are {', '.join(known)}")
        inner = values.get("augment")
        if inner is not None and not isinstance(inner, Mapping | AugmentConfig):
            raise ConfigError(f"data.augment must be a section or null, found {inner!r}")
        if isinstance(inner, Mapping):
            return cls(**{**values, "augment": AugmentConfig.from_dict(inner)})
        return cls(**values)


class SpeechDataModule(lightning.LightningDataModule):
    """Train, dev and test batches of the prepared folder ``folder``.

    ``model_input``: what the model takes; by default what the folder holds (``sottovoce.data.inputs``). The same
    configuration gives the same batches, in the same order, with the same augmentation, each time it is built anew:
    training arms that are compared see identical data. Under DDP build the Trainer with
    ``use_distributed_sampler=False``: the samplers share the batches out themselves. Utterances of fewer than
    ``min_frames`` feature frames are left out of all three. Raises DataError where folder and model do not fit,
    ConfigError for options on waveforms where the folder holds features.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: Tokenizer,
        model_input: ModelInput | None = None,
        config: DataConfig | None = None,
        progress: Progress | None = None,
        min_frames: int = 1,
    ) -> None:
        super().__init__()
        self._min_frames = min_frames
        self.folder, self.tokenizer = Path(folder), tokenizer
        self.model_input = model_input or ModelInput.from_dict(input_of(folder))
        self.data_config = config or DataConfig()
        check_input(folder, self.model_input)
        check_waveform_options(folder, self.model_input, self.data_config.speeds, self.data_config.noise_db)
        if self.data_config.augment is not None:
            self.data_config.augment.check_width(self.model_input.dim)
        self._progress = progress
        self._cuts: dict[str, list[MonoCut]] = {}
        self._stores: dict[str, FeatureStore] = {}
        self._cmvn: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def prepare_data(self) -> None:
        """Compute the features that are not there yet; Lightning calls it on one process only."""
        for split in ("train", "dev", "test"):
            self.cuts(split)

    def cuts(self, split: str) -> list[MonoCut]:
        """Cuts of ``split`` with features, in the order of their ids; in training each speed is a cut of its own."""
        if split not in self._cuts:
            config, training = self.data_config, split == "train"
            found = split_cuts(
                self.folder,
                split,
                self.model_input,
                speeds=config.speeds if training else (1.0,),
                noise=config.noise_db if training else None,
                seed=config.seed,
                jobs=config.jobs,
                progress=self._progress,
            )
            self._cuts[split] = self._long_enough(split, list(found))
        return self._cuts[split]

    def _long_enough(self, split: str, cuts: list[MonoCut]) -> list[MonoCut]:
        """Leave out, by name and with a count, what is too short for one encoder frame."""
        least, augment = self._min_frames, self.data_config.augment
        if split == "train" and augment is not None:
            least = math.ceil(least * max(augment.fastest, 1.0))  # a faster copy has fewer
        kept = [cut for cut in cuts if cut.features.num_frames >= least]
        short = [cut.id for cut in cuts if cut.features.num_frames < least]
        if short:
            _LOG.warning(
                "%s: left out %d utterances of fewer than %d feature frames: %s",
                split, len(short), least, ", ".join(short[:20]),
            )  # fmt: skip
        if not kept:
            raise DataError(f"{self.folder}: {split} has no utterance of {least} feature frames or more")
        if split == "train" and len(kept) == 1:
            raise DataError(f"{self.folder}: train has one utterance; batches are drawn from two or more")
        return kept

    def store(self, split: str) -> FeatureStore:
        """The features of ``split``."""
        if split not in self._stores:
            self._stores[split] = FeatureStore(self.cuts(split), self.data_config.memory_gb * 1e9)
        return self._stores[split]

    def train_sampler(self, world_size: int | None = None, rank: int | None = None) -> EpochSampler:
        """A new sampler of training batches, at epoch 0; by default this process's share of them."""
        config = self.data_config
        return EpochSampler(
            self.cuts("train"),
            max_duration=config.max_duration,
            max_cuts=config.max_cuts,
            strings=config.epoch_strings,
            buckets=config.buckets,
            seed=config.seed,
            world_size=world_size,
            rank=rank,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Bucketed, shuffled, augmented batches; call ``set_epoch`` on the loader's sampler (Lightning does)."""
        sampler, config = self.train_sampler(), self.data_config
        # A resumed trainer draws its first batches before it tells the sampler which epoch this is.
        sampler.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        normalized = config.augment is not None and config.augment.normalized
        dataset = SpeechDataset(
            self.store("train"),
            self.tokenizer,
            config.augment,
            config.seed,
            sampler,
            deviation=torch.from_numpy(1 / self.cmvn()[1]) if normalized else None,
        )
        return _loader(dataset, sampler, config.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Dev batches, unchanged, shortest first."""
        return self.plain_loader("dev")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches, unchanged, shortest first."""
        return self.plain_loader("test")

    def plain_loader(self, split: str) -> DataLoader[Batch]:
        """Every utterance of ``split`` once, neither shuffled nor augmented, shortest first."""
        ordered = sorted(self.cuts(split), key=lambda cut: (cut.duration, cut.id))
        config = self.data_config
        sampler = SimpleCutSampler(
            CutSet.from_cuts(ordered), max_duration=config.max_duration, max_cuts=config.max_cuts, shuffle=False
        )
        return _loader(SpeechDataset(self.store(split), self.tokenizer), sampler, config.workers)

    def sample(self, split: str, count: int, seed: int = 0, batches: int = 1) -> list[Batch]:
        """``count`` utterances of ``split`` drawn at random (all, where there are fewer), unchanged, in ``batches`` or
        more of utterances about as long."""
        cuts = self.cuts(split)
        drawn = np.random.default_rng(seed).permutation(len(cuts))[:count].tolist()
        ordered = sorted((cuts[i] for i in drawn), key=lambda cut: (cut.duration, cut.id))
        config, most = self.data_config, -(-len(ordered) // batches)
        sampler = SimpleCutSampler(
            CutSet.from_cuts(ordered),
            max_duration=config.max_duration,
            max_cuts=min(config.max_cuts or most, most),
            shuffle=False,
        )
        dataset = SpeechDataset(self.store(split), self.tokenizer)
        return [dataset[batch] for batch in sampler]

    def num_batches(self, epochs: int = 1, devices: int = 1) -> int:
        """Training batches that each of ``devices`` processes sees in the first ``epochs`` epochs.

        Epochs differ by a batch or so; a share that does not come out even is filled up in each of them.
        """
        sampler = self.train_sampler(world_size=1, rank=0)
        total = 0
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            total += math.ceil(sum(1 for _ in sampler) / devices)
        return total

    @property
    def num_batches_per_epoch(self) -> int:
        """Training batches in epoch 0."""
        return self.num_batches(1)

    def cmvn(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(mean (F,), inverse standard deviation (F,)) of the training features."""
        if self._cmvn is None:
            self._cmvn = cmvn(self.train_features())
        return self._cmvn

    def train_features(self) -> Iterator[NDArray[np.float32]]:
        """Features (T, F) float32 of each training utterance, as they are stored."""
        store = self.store("train")
        return (store.get(cut) for cut in self.cuts("train"))


def _loader(dataset: SpeechDataset, sampler: Any, workers: int) -> DataLoader[Batch]:
    # No persistent workers: each epoch starts fresh ones, which then know the epoch.
    return DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers)
