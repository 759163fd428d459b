"""From the cuts of a batch to tensors."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from lhotse import CutSet, MonoCut
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sottovoce.data.augment import AugmentConfig, augment
from sottovoce.data.features import load_features
from sottovoce.data.sampling import EpochSampler
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import DataError


class Batch(TypedDict):
    """What a loader gives. N utterances, T frames, F features, U tokens; padding is zero everywhere."""

    features: Tensor  # (N, T, F) float32
    feature_lengths: Tensor  # (N,) int64
    tokens: Tensor  # (N, U) int64
    token_lengths: Tensor  # (N,) int64
    ids: list[str]
    texts: list[str]
    speakers: list[str]


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
    """Maps the cuts of a batch to tensors; augmentation depends on the seed, the epoch and the batch's ids alone.

    ``deviation`` (F,): standard deviation of each training feature, for normalized noise. An utterance that another
    was appended to keeps its own id and speaker; features and text are those of both.
    """

    def __init__(
        self,
        store: FeatureStore,
        tokenizer: Tokenizer,
        augmentation: AugmentConfig | None = None,
        seed: int = 0,
        sampler: EpochSampler | None = None,
        deviation: Tensor | None = None,
    ) -> None:
        self._store, self._tokenizer = store, tokenizer
        self._augmentation, self._seed, self._sampler = augmentation, seed, sampler
        self._deviation = deviation

    def __getitem__(self, cuts: CutSet) -> Batch:
        items = list(cuts)
        ids = [cut.id for cut in items]
        generator = self._generator(ids)
        parts = self._with_seconds(items, generator)
        texts = [" ".join(cut.supervisions[0].text for cut in part) for part in parts]
        features, lengths = _padded([self._features(part) for part in parts])
        tokens, token_lengths = _padded(
            [torch.tensor(self._tokenizer.encode(text), dtype=torch.int64) for text in texts]
        )
        if self._augmentation is not None:
            features, lengths = augment(features, lengths, self._augmentation, generator, self._deviation)
        return Batch(
            features=features,
            feature_lengths=lengths,
            tokens=tokens,
            token_lengths=token_lengths,
            ids=ids,
            texts=texts,
            speakers=[cut.supervisions[0].speaker or "" for cut in items],
        )

    def _with_seconds(self, items: list[MonoCut], generator: torch.Generator) -> list[list[MonoCut]]:
        """Each cut alone, or each followed by one of the batch.

        All or none of a batch, and from the batch itself, whose lengths are alike: drawn one by one from all of the
        training utterances, short ones were padded to long ones and an epoch took twice the time.
        """
        if self._augmentation is None or not self._augmentation.concatenate:
            return [[cut] for cut in items]
        joined = float(torch.rand((), generator=generator)) < self._augmentation.concatenate
        order = torch.randperm(len(items), generator=generator).tolist()
        return [[cut, items[second]] if joined else [cut] for cut, second in zip(items, order, strict=True)]

    def _features(self, part: list[MonoCut]) -> Tensor:
        return torch.from_numpy(np.concatenate([self._store.get(cut) for cut in part]))

    def _generator(self, ids: list[str]) -> torch.Generator:
        epoch = self._sampler.epoch if self._sampler is not None else 0
        state = zlib.crc32("\n".join([str(self._seed), str(epoch), *ids]).encode())
        return torch.Generator().manual_seed(state)


def _padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    if not rows:
        raise DataError("an empty batch was asked for")
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths
