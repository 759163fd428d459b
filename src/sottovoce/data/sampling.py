"""Length-bucketed batches that depend on the seed and the epoch alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lhotse import MonoCut
from lhotse.dataset import DynamicBucketingSampler

_ALL = 1_000_000_000  # all utterances are at hand; a smaller buffer would hide some from the shuffling


class EpochSampler(DynamicBucketingSampler):  # type: ignore[misc]
    """lhotse's bucketing sampler, with at most ``strings`` utterances an epoch, drawn anew for each epoch.

    The same (cuts, options, seed, epoch) give the same batches in the same order; ``set_epoch`` reshuffles. At most
    ``max_duration`` seconds a batch (padding counted), ``max_cuts`` utterances where given.
    """

    def __init__(
        self,
        cuts: Sequence[MonoCut],
        *,
        max_duration: float,
        max_cuts: int | None = None,
        strings: int | None = None,
        buckets: int = 10,
        seed: int = 0,
        world_size: int | None = None,
        rank: int | None = None,
    ) -> None:
        self._pool = list(cuts)
        self._strings = strings
        super().__init__(
            self._pool,
            max_duration=max_duration,
            max_cuts=max_cuts,
            # A bucket needs utterances to choose from, or its batches stay small.
            num_buckets=max(2, min(buckets, len(self._pool) // 8)),
            shuffle=True,
            drop_last=False,
            buffer_size=_ALL,
            seed=seed,
            world_size=world_size,
            rank=rank,
        )

    def __iter__(self) -> EpochSampler:
        if not self._just_restored_state:
            self.cuts = (self._chosen(),)
        super().__iter__()
        return self

    def _chosen(self) -> list[MonoCut]:
        if self._strings is None or self._strings >= len(self._pool):
            return self._pool
        return random.Random(f"{self.seed} {self.epoch}").sample(self._pool, self._strings)
