"""Language modelling: text, its vocabulary, and an LSTM or a Transformer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sottovoce.data.text import TextCorpus
from sottovoce.data.text_batches import TextDataModule
from sottovoce.data.text_folder import open_text
from sottovoce.data.tokenizer import train_pieces
from sottovoce.data.words import check_coverage, choose_words, count_words, read_words, word_list
from sottovoce.decoding.vocabulary import Vocabulary, WordList, read_vocabulary
from sottovoce.errors import DataError
from sottovoce.packed import lm_architecture
from sottovoce.runtime import TextInput
from sottovoce.training.config import RECIPES, LmRecipe, with_dropout
from sottovoce.training.lm_module import LmModule
from sottovoce.training.run import Run, write_file
from sottovoce.training.task import Shipped
from sottovoce.training.task_module import PhaseData, TaskModule


@dataclass(frozen=True)
class LmTask:
    """The ``Task`` of a language model's recipe."""

    recipe: LmRecipe

    def fingerprint(self, data: Path) -> str:
        return self.corpus(data).fingerprint()

    def describe(self, data: Path, run: Run) -> Shipped:
        vocabulary = self._vocabulary(self.corpus(data), run)
        model_input = TextInput(self.corpus(data).normalization, self.recipe.data.context)
        architecture = self.recipe.architecture(vocabulary.size)
        return Shipped(architecture.to_dict(), model_input.to_dict(), vocabulary.model)

    def module(self, described: Shipped, *, compressing: bool) -> LmModule:
        recipe = self.recipe
        phase = recipe.compression.phase if compressing and recipe.fork_epoch is None else recipe.phase
        training = with_dropout(recipe.training, recipe.compression.dropout if compressing else None)
        return LmModule(lm_architecture(described.architecture), training, phase)

    def prepare(self, module: TaskModule, data: PhaseData) -> None:
        """Nothing but weights comes from text."""

    def data(self, folder: Path, described: Shipped, seed: int) -> TextDataModule:
        corpus, wanted = self.corpus(folder), described.input["normalization"]
        if corpus.normalization != wanted:
            raise DataError(f"{folder}: expected text normalized as {wanted!r}, found it as {corpus.normalization!r}")
        return TextDataModule(corpus, read_vocabulary(described.tokenizer), self.recipe.data, seed)

    def corpus(self, folder: Path) -> TextCorpus:
        """The text in a folder, read once a process."""
        return _corpus(folder.resolve(), json.dumps(self.recipe.corpus, sort_keys=True))

    def _vocabulary(self, corpus: TextCorpus, run: Run) -> Vocabulary:
        if not run.tokenizer.exists():
            write_file(run.tokenizer, self._made(corpus).model)
        return read_vocabulary(run.tokenizer.read_bytes())

    def _made(self, corpus: TextCorpus) -> Vocabulary:
        """The vocabulary of the recipe's file, or one made from the training text."""
        settings = self.recipe.tokens
        if settings.kind != "words":
            return train_pieces(corpus.sentences("train"), kind=settings.kind, vocabulary=settings.size or 1000)
        if settings.file is None:
            counts = count_words(corpus.sentences("train"))
            return word_list(choose_words(counts, min_count=settings.min_count, size=settings.size))
        shipped = RECIPES / settings.file
        words: WordList = word_list(read_words(shipped if shipped.is_file() else Path(settings.file)))
        check_coverage(words, corpus)
        return words


@lru_cache(maxsize=2)
def _corpus(folder: Path, settings: str) -> TextCorpus:
    return open_text(folder, json.loads(settings))
