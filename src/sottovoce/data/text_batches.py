"""Batches of text for training language models: sentences of one length together, or conversations side by side."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.utils.data import DataLoader, Dataset

from sottovoce.data.text import TextCorpus
from sottovoce.decoding.vocabulary import Vocabulary
from sottovoce.packed.language_model import END
from sottovoce.runtime.text_input import Context

IGNORED = -1
"""The target where there is none."""

Integers = NDArray[np.int64]


class TextDataConfig(BaseModel):
    """``batch_tokens``: targets a batch, padding counted. ``context`` "sentence": each begins anew; "conversation": a
    batch goes on where the one before left its conversations. ``segment``: tokens that are read at once, at most; a
    longer sentence is read in pieces, each from nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_tokens: int = Field(default=2048, ge=1, le=1 << 24)
    context: Context = "sentence"
    segment: int = Field(default=128, ge=2, le=65_536)
    workers: int = Field(default=0, ge=0, le=256)


@dataclass(frozen=True)
class Stream:
    """Text as one row of tokens, (M,) int32: ``</s>`` before everything that begins from nothing and after each
    sentence. A piece (start, length) has its inputs from ``start`` on, its targets one further on; ``fresh``: whether
    it begins from nothing. Pieces (P, 2) int64, fresh (P,) bool, and of which conversation they are, (P,)."""

    tokens: NDArray[np.int32]
    pieces: Integers
    fresh: NDArray[np.bool_]
    conversation: Integers


def make_stream(corpus: TextCorpus, split: str, vocabulary: Vocabulary, context: Context, segment: int) -> Stream:
    """The tokens of a split, cut in pieces of at most ``segment`` tokens."""
    tokens: list[int] = []
    spans: list[tuple[int, int, int]] = []  # where a stretch begins, its targets, its conversation
    for number, conversation in enumerate(corpus.split(split)):
        begin = len(tokens)
        for sentence in conversation.sentences:
            if context == "sentence":
                begin = len(tokens)
            if begin == len(tokens):
                tokens.append(END)
            tokens += vocabulary.encode(sentence)
            tokens.append(END)
            if context == "sentence":
                spans.append((begin, len(tokens) - begin - 1, number))
        if context == "conversation":
            spans.append((begin, len(tokens) - begin - 1, number))
    starts, lengths, numbers = np.array(spans, np.int64).T
    counts = -(-lengths // segment)
    at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # number of a piece in its stretch
    pieces = np.stack(
        [
            np.repeat(starts, counts) + at * segment,
            np.minimum(segment, np.repeat(lengths, counts) - at * segment),
        ],
        axis=1,
    )
    return Stream(np.array(tokens, np.int32), pieces, (at == 0) | (context == "sentence"), np.repeat(numbers, counts))


class TextSampler:
    """Batches of pieces, int64 (N, 2): a piece, -1 for an empty row, and the one that the row had before it, -1 for
    none. Seed and epoch alone decide them.

    Sentences: sorted by length, equal lengths shuffled anew each epoch, cut into batches of ``batch_tokens``, and the
    batches shuffled. Conversations: shuffled, dealt out to ``batch_tokens / segment`` rows, which read them in
    lockstep; one that is longer than a row's share is split. Ranks of DDP get equal numbers of batches.
    """

    def __init__(
        self, stream: Stream, config: TextDataConfig, seed: int, *, world_size: int = 1, rank: int = 0
    ) -> None:
        self._stream, self._config, self._seed = stream, config, seed
        self._world, self._rank = world_size, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Integers]:
        rng = np.random.default_rng([self._seed, self.epoch])
        if self._config.context == "conversation":
            return iter(self._lanes(rng))
        return (np.stack([rows, np.full_like(rows, -1)], axis=1) for rows in self._by_length(rng))

    def count(self) -> int:
        """Batches in this epoch."""
        return sum(1 for _ in self)

    def _by_length(self, rng: np.random.Generator) -> list[Integers]:
        lengths = self._stream.pieces[:, 1]
        shuffled = rng.permutation(len(lengths))
        order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
        batches, at = [], 0
        while at < len(order):
            rows = max(1, self._config.batch_tokens // int(lengths[order[at]]))
            batches.append(order[at : at + rows])
            at += rows
        mixed = [batches[i] for i in rng.permutation(len(batches))]
        mixed += mixed[: -len(mixed) % self._world]
        return mixed[self._rank :: self._world]

    def _lanes(self, rng: np.random.Generator) -> list[Integers]:
        rows = max(1, self._config.batch_tokens // self._config.segment)
        lanes: list[list[Integers]] = [[] for _ in range(rows * self._world)]
        parts = self._parts(-(-len(self._stream.pieces) // len(lanes)))
        filled = [(0, i) for i in range(len(lanes))]
        for i in rng.permutation(len(parts)):
            pieces, lane = heapq.heappop(filled)  # the emptiest row takes the next conversation
            lanes[lane].append(parts[i])
            heapq.heappush(filled, (pieces + len(parts[i]), lane))
        table = np.full((len(lanes), max(pieces for pieces, _ in filled)), -1, np.int64)
        for row, lane_parts in zip(table, lanes, strict=True):
            joined = np.concatenate([*lane_parts, np.empty(0, np.int64)])
            row[: len(joined)] = joined
        before = np.pad(table, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
        own = slice(self._rank * rows, (self._rank + 1) * rows)
        return list(np.stack([table[own].T, before[own].T], axis=-1))

    def _parts(self, longest: int) -> list[Integers]:
        """The pieces of each conversation, in order, at most ``longest`` of them together."""
        numbers = self._stream.conversation
        ends = np.flatnonzero(np.diff(numbers)) + 1
        whole = np.split(np.arange(len(numbers)), ends)
        return [part for pieces in whole for part in np.array_split(pieces, -(-len(pieces) // max(1, longest)))]


class TextBatches(Dataset[dict[str, torch.Tensor]]):
    """``inputs`` and ``targets`` int64 (N, T), targets -1 where there is none; ``fresh`` bool (N,): rows that begin
    from nothing."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __getitem__(self, item: Integers) -> dict[str, torch.Tensor]:
        rows, before = item.T
        held = rows >= 0
        starts, lengths = self._stream.pieces[rows].T
        lengths = np.where(held, lengths, 0)
        steps = np.arange(max(1, int(lengths.max())))
        at = np.minimum(starts[:, None] + steps, len(self._stream.tokens) - 2)
        real = steps < lengths[:, None]
        targets = np.where(real, self._stream.tokens[at + 1], IGNORED)
        return {
            "inputs": torch.from_numpy(np.where(real, self._stream.tokens[at], END).astype(np.int64)),
            "targets": torch.from_numpy(targets.astype(np.int64)),
            "fresh": torch.from_numpy(self._stream.fresh[rows] | (before != rows - 1)),
        }


class TextDataModule(lightning.LightningDataModule):
    """Training batches and dev batches of a corpus; the same configuration and seed give the same batches."""

    def __init__(self, corpus: TextCorpus, vocabulary: Vocabulary, config: TextDataConfig, seed: int) -> None:
        super().__init__()
        self.corpus, self.vocabulary, self.text_config, self.seed = corpus, vocabulary, config, seed
        self._streams: dict[str, Stream] = {}

    def stream(self, split: str) -> Stream:
        """The tokens of a split."""
        if split not in self._streams:
            config = self.text_config
            self._streams[split] = make_stream(self.corpus, split, self.vocabulary, config.context, config.segment)
        return self._streams[split]

    def num_batches(self, epochs: int = 1, devices: int = 1) -> int:
        """Training batches that each of ``devices`` processes sees in the first ``epochs`` epochs."""
        sampler = TextSampler(self.stream("train"), self.text_config, self.seed, world_size=devices)
        total = 0
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            total += sampler.count()
        return total

    def train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        """Shuffled batches; Lightning calls ``set_epoch`` on the loader's sampler."""
        trainer = self.trainer
        world, rank = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
        sampler = TextSampler(self.stream("train"), self.text_config, self.seed, world_size=world, rank=rank)
        # A resumed trainer draws its first batches before it tells the sampler which epoch this is.
        sampler.set_epoch(trainer.current_epoch if trainer is not None else 0)
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        """Dev batches, always the same."""
        return self.plain_loader("dev")

    def plain_loader(self, split: str) -> DataLoader[dict[str, torch.Tensor]]:
        """A split once, as epoch 0 would have it."""
        return self._loader(split, TextSampler(self.stream(split), self.text_config, self.seed))

    def sample(self, split: str, count: int, seed: int = 0, batches: int = 1) -> list[dict[str, torch.Tensor]]:
        """``count`` pieces of ``split`` drawn at random (all, where there are fewer), each from nothing, in ``batches``
        or more of about as many pieces, long and short in each."""
        stream, budget = self.stream(split), self.text_config.batch_tokens
        drawn = np.random.default_rng(seed).permutation(len(stream.pieces))[:count]
        rows = max(1, budget // int(stream.pieces[drawn, 1].max()))
        found = []
        for part in np.array_split(drawn, min(len(drawn), max(batches, -(-len(drawn) // rows)))):
            order = part[np.argsort(-stream.pieces[part, 1], kind="stable")]
            found.append(TextBatches(stream)[np.stack([order, np.full_like(order, -1)], axis=1)])
        return found

    def _loader(self, split: str, sampler: Any) -> DataLoader[dict[str, torch.Tensor]]:
        # No persistent workers: each epoch starts fresh ones.
        return DataLoader(
            TextBatches(self.stream(split)), sampler=sampler, batch_size=None, num_workers=self.text_config.workers
        )
