"""Batches for training: a Lightning data module over a prepared folder."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

import lightning
import numpy as np
import torch
from lhotse import CutSet, MonoCut
from lhotse.dataset import SimpleCutSampler
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sottovoce.data import options as check
from sottovoce.data.augment import AugmentConfig, augment
from sottovoce.data.entries import Progress
from sottovoce.data.features import cached_features, cmvn, load_features
from sottovoce.data.prepared import load_cuts
from sottovoce.data.sampling import EpochSampler
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.settings import FeatureSettings

_LOG = logging.getLogger(__name__)


class Batch(TypedDict):
    """What a loader gives. N utterances, T frames, F bins, U tokens; padding is zero everywhere."""

    features: Tensor  # (N, T, F) float32
    feature_lengths: Tensor  # (N,) int64
    tokens: Tensor  # (N, U) int64
    token_lengths: Tensor  # (N,) int64
    ids: list[str]
    texts: list[str]
    speakers: list[str]


@dataclass(frozen=True)
class DataConfig:
    """How batches are made.

    ``max_duration``: seconds of audio a batch, padding counted; ``max_cuts``: utterances a batch at most; ``buckets``:
    classes of length; ``epoch_strings``: utterances an epoch, drawn anew each time (None: all, each speed being a
    copy of its own); ``speeds`` and ``noise_db`` (a range of ratios in decibels) change the training waveforms before
    the features; ``augment`` the features (None: nothing); ``workers`` load batches, ``jobs`` compute features;
    features of up to ``memory_gb`` are kept in memory.
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


class FeatureStore:
    """Features by cut id: in memory if all of them fit into ``limit`` bytes, else read from the cache when asked."""

    def __init__(self, cuts: Sequence[MonoCut], limit: float) -> None:
        size = sum(4 * cut.features.num_frames * cut.features.num_features for cut in cuts)
        self.in_memory = size <= limit
        self._arrays = {cut.features.storage_key: load_features(cut) for cut in cuts} if self.in_memory else {}

    def get(self, cut: MonoCut) -> NDArray[np.float32]:
        """Features (T, F) float32."""
        return self._arrays[cut.features.storage_key] if self.in_memory else load_features(cut)


class SpeechDataset(Dataset[Batch]):
    """Maps the cuts of a batch to tensors; augmentation depends on the seed, the epoch and the batch's ids alone."""

    def __init__(
        self,
        store: FeatureStore,
        tokenizer: Tokenizer,
        augmentation: AugmentConfig | None = None,
        seed: int = 0,
        sampler: EpochSampler | None = None,
    ) -> None:
        self._store, self._tokenizer = store, tokenizer
        self._augmentation, self._seed, self._sampler = augmentation, seed, sampler

    def __getitem__(self, cuts: CutSet) -> Batch:
        items = list(cuts)
        texts = [cut.supervisions[0].text for cut in items]
        features, lengths = _padded([torch.from_numpy(self._store.get(cut)) for cut in items])
        tokens, token_lengths = _padded(
            [torch.tensor(self._tokenizer.encode(text), dtype=torch.int64) for text in texts]
        )
        ids = [cut.id for cut in items]
        if self._augmentation is not None:
            features, lengths = augment(features, lengths, self._augmentation, self._generator(ids))
        speakers = [cut.supervisions[0].speaker or "" for cut in items]
        return Batch(
            features=features,
            feature_lengths=lengths,
            tokens=tokens,
            token_lengths=token_lengths,
            ids=ids,
            texts=texts,
            speakers=speakers,
        )

    def _generator(self, ids: list[str]) -> torch.Generator:
        epoch = self._sampler.epoch if self._sampler is not None else 0
        state = zlib.crc32("\n".join([str(self._seed), str(epoch), *ids]).encode())
        return torch.Generator().manual_seed(state)


class SpeechDataModule(lightning.LightningDataModule):
    """Train, dev and test batches of the prepared folder ``folder``.

    The same configuration gives the same batches, in the same order, with the same augmentation, each time it is built
    anew: training arms that are compared see identical data. Under DDP build the Trainer with
    ``use_distributed_sampler=False``: the samplers share the batches out themselves. Utterances of fewer than
    ``min_frames`` feature frames are left out of all three. Raises DataError, ConfigError.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: Tokenizer,
        settings: FeatureSettings | None = None,
        config: DataConfig | None = None,
        progress: Progress | None = None,
        min_frames: int = 1,
    ) -> None:
        super().__init__()
        self._min_frames = min_frames
        self.folder, self.tokenizer = Path(folder), tokenizer
        self.settings = settings or FeatureSettings()
        self.data_config = config or DataConfig()
        self._progress = progress
        self._cuts: dict[str, list[MonoCut]] = {}
        self._stores: dict[str, FeatureStore] = {}

    def prepare_data(self) -> None:
        """Compute the features that are not there yet; Lightning calls it on one process only."""
        for split in ("train", "dev", "test"):
            self.cuts(split)

    def cuts(self, split: str) -> list[MonoCut]:
        """Cuts of ``split`` with features, in the order of their ids; in training each speed is a cut of its own."""
        if split not in self._cuts:
            config, training = self.data_config, split == "train"
            found = cached_features(
                load_cuts(self.folder, split),
                self.folder,
                self.settings,
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
        kept = [cut for cut in cuts if cut.features.num_frames >= self._min_frames]
        short = [cut.id for cut in cuts if cut.features.num_frames < self._min_frames]
        if short:
            _LOG.warning(
                "%s: left out %d utterances of fewer than %d feature frames: %s",
                split, len(short), self._min_frames, ", ".join(short[:20]),
            )  # fmt: skip
        if not kept:
            raise DataError(f"{self.folder}: {split} has no utterance of {self._min_frames} feature frames or more")
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
        dataset = SpeechDataset(self.store("train"), self.tokenizer, config.augment, config.seed, sampler)
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
        store = self.store("train")
        return cmvn(store.get(cut) for cut in self.cuts("train"))


def _loader(dataset: SpeechDataset, sampler: Any, workers: int) -> DataLoader[Batch]:
    # No persistent workers: each epoch starts fresh ones, which then know the epoch.
    return DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers)


def _padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    if not rows:
        raise DataError("an empty batch was asked for")
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths
