"""Recipes: those that ship are valid; bad ones name the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sottovoce.errors import ConfigError
from sottovoce.models import Rnnt, make_lm
from sottovoce.packed import file_sizes
from sottovoce.quant import BitPlan
from sottovoce.schemes import PTQ, compress
from sottovoce.training.arms import plan_for, scheme_for
from sottovoce.training.config import LmRecipe, load_recipe, parse_recipe, shipped_recipes
from sottovoce.training.task_module import rate


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe == load_recipe(f"recipes/{name}.yaml")
    with torch.device("meta"):
        if isinstance(recipe, LmRecipe):
            make_lm(recipe.architecture(9682))
        else:
            Rnnt(recipe.architecture(80, recipe.tokenizer.vocabulary))
    scheme_for(recipe.compression)


@pytest.mark.parametrize(("name", "bits"), [("synth", 5), ("fsdd", 5), ("fsdd", 4)])
def test_five_bits_take_at_most_0_165_of_the_float_bytes(name: str, bits: int, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    torch.manual_seed(0)
    architecture = recipe.architecture(80, recipe.tokenizer.vocabulary)
    model = Rnnt(architecture)
    assert sum(p.numel() for p in model.parameters()) >= 2_000_000
    packed = compress(model, BitPlan.uniform(model, bits=bits), PTQ()).finish()
    packed.save(tmp_path / "m.safetensors")
    sizes = file_sizes(tmp_path / "m.safetensors")
    assert sizes.model_bytes <= 0.165 * bits / 5 * sizes.fp32_bytes


def test_overrides_reach_nested_keys_and_change_the_digest() -> None:
    base = load_recipe("fsdd-small")
    changed = load_recipe("fsdd-small", ["phase.epochs=3", "data.augment=null", "compression.options={strength: 5}"])
    assert (changed.phase.epochs, changed.data.augment, changed.compression.options) == (3, None, {"strength": 5})
    assert changed.digest() != base.digest() == load_recipe("fsdd-small").digest()


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    """YAML 1.1 takes 5e-4 for a text."""
    found = load_recipe("fsdd-small", ["phase.learning_rate=5e-4", "compression.options={a: 1E+1, b: -.5e3, c: .e3}"])
    assert found.phase.learning_rate == 5e-4
    assert found.compression.options == {"a": 10, "b": -500, "c": ".e3"}
    (tmp_path / "r.yaml").write_text("name: r\nphase: {learning_rate: 2e-3}\n")
    assert load_recipe(tmp_path / "r.yaml").phase.learning_rate == 2e-3
    assert load_recipe("fsdd-small", ["name='5e-4'"]).name == "5e-4"


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "!!python/name:os.getcwd", "!x 1"])
def test_a_recipe_makes_no_objects(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(f"name: {text}\n")
    with pytest.raises(ConfigError, match=r"r\.yaml: cannot read the recipe"):
        load_recipe(tmp_path / "r.yaml")
    with pytest.raises(ConfigError, match="the value is not YAML"):
        load_recipe("fsdd-small", [f"name={text}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task=[lm]", r"task: expected rnnt or lm, found \['lm'\]"),
        ("phase.epochs=0", "phase.epochs: .*found 0"),
        ("phase.epoch=1", "phase.epoch: "),
        ("training.precision=int3", "training.precision"),
        ("compression.scheme=magic", "compression.scheme"),
        ("data.speeds=[3]", r"data\.speeds must be a number in \[0.5, 2\], found 3"),
        ("name=[", "is not YAML"),
        ("model.encoder_unit=3", "model: .*encoder_unit"),
        ("model.stack=0", r"model: stack must be an integer in \[1, \d+\], found 0$"),
        ("model.bogus=0", "model: got an unexpected keyword argument 'bogus'$"),
        ("model.vocabulary=9", "vocabulary follows from the data"),
    ],
)
def test_bad_values_name_the_key_and_what_was_found(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("fsdd-small", [override])


def test_folders_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found a folder"):
        load_recipe(tmp_path)
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml: cannot read"):
        load_recipe(broken)


def test_schemes_and_plans_come_from_the_recipe() -> None:
    model = torch.nn.Linear(4, 3)
    settings = load_recipe("fsdd-small").compression
    linear = settings.model_copy(update={"scheme": "linear_qat", "options": {}, "bits": 4})
    assert plan_for(linear, model).weights["weight"][0].kind == "uniform"
    assert scheme_for(linear).period is None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="sterngth"):
        scheme_for(settings.model_copy(update={"options": {"sterngth": 1}}))


def test_the_rate_warms_up_and_ends_at_the_floor() -> None:
    phase = parse_recipe({"name": "x", "phase": {"warmup_steps": 10, "floor": 0.1}}, "t").phase
    assert [rate(s, 100, phase) for s in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert rate(10, 100, phase) == 1.0 and rate(100, 100, phase) == pytest.approx(0.1)
    assert rate(55, 100, phase) == pytest.approx(0.55)
