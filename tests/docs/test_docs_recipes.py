"""The table of recipes has every recipe that ships, with its network's size."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sottovoce.models import Rnnt, make_lm
from sottovoce.training.config import LmRecipe, load_recipe, shipped_recipes

PAGE = Path(__file__).parents[2] / "docs" / "train.md"
CEPSTRA, WORDS = 13, 9682  # of AN4's features, and of the vocabulary that ships for SwDA


def parameters(name: str) -> int:
    recipe = load_recipe(name)
    with torch.device("meta"):
        if isinstance(recipe, LmRecipe):
            model: torch.nn.Module = make_lm(recipe.architecture(recipe.tokens.size or WORDS))
        else:
            features = CEPSTRA if name == "an4" else recipe.features.bins
            model = Rnnt(recipe.architecture(features, recipe.tokenizer.vocabulary))
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_recipe_is_listed_with_its_size() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|[^|]*\| ([\d.]+) million \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(shipped_recipes())
    for name, millions in rows:
        assert f"{parameters(name) / 1e6:.1f}" == millions, name
