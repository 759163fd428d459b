"""A recipe: one experiment as data, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sottovoce.data.datamodule import DataConfig
from sottovoce.data.text_batches import TextDataConfig
from sottovoce.data.tokenizer import KINDS as TOKENIZER_KINDS
from sottovoce.errors import ConfigError, FormatError
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.packed import LmArchitecture, RnntArchitecture, lm_architecture
from sottovoce.quant.spec import KINDS, PLAN_GROUPINGS
from sottovoce.settings import first_invalid, read_settings, read_yaml

RECIPES = Path(str(resources.files("sottovoce") / "recipes"))
"""Recipes and vocabularies that come with the package."""


class Section(BaseModel):
    """Unknown keys are errors: a misspelt option must not pass unseen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenizerConfig(Section):
    """Sentencepiece units trained on the training transcripts."""

    kind: Literal[TOKENIZER_KINDS] = "bpe"  # type: ignore[valid-type]
    vocabulary: int = Field(default=64, ge=4, le=65536)


class PhaseConfig(Section):
    """One stretch of training: a warm-up, then a cosine from ``learning_rate`` to ``floor`` times it."""

    epochs: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    floor: float = Field(default=0.02, ge=0, le=1)
    weight_decay: float = Field(default=1e-4, ge=0)


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]


class TrainingConfig(Section):
    """What holds for every phase, of any model."""

    betas: Betas = (0.9, 0.98)
    clip: float = Field(default=5.0, gt=0)
    dropout: float = Field(default=0.15, ge=0, lt=1)
    precision: Precision = "32-true"
    averaging: float | None = Field(
        default=None, gt=0, lt=1, description="decay of an exponential moving average of the weights"
    )
    patience: int | None = Field(
        default=None, ge=1, description="epochs without a better dev figure before training stops"
    )
    validate_every: int = Field(default=1, ge=1, description="epochs between dev evaluations")


Training = TypeVar("Training", bound=TrainingConfig)


def with_dropout(training: Training, dropout: float | None) -> Training:
    """The settings with another dropout, or as they are."""
    return training if dropout is None else training.model_copy(update={"dropout": dropout})


class RnntTrainingConfig(TrainingConfig):
    """``ctc``: weight of the auxiliary CTC loss."""

    ctc: float = Field(default=0.3, ge=0)


class SampledSoftmax(Section):
    """``losses.sampled_cross_entropy``: the ``exact`` most frequent words, and ``drawn`` of the others each batch."""

    exact: int = Field(default=1000, ge=0)
    drawn: int = Field(default=400, ge=1)


class LmTrainingConfig(TrainingConfig):
    """``softmax``: the sample of words that training sums over; null for all. Dev figures always count all words."""

    betas: Betas = (0.9, 0.99)
    clip: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    softmax: SampledSoftmax | None = SampledSoftmax()


class TokensConfig(Section):
    """A language model's tokens: ``words`` from a ``file`` (beside the recipe, or one that ships with the package) or
    counted on the training text (``min_count``, at most ``size`` entries), or sentencepiece units of ``size``."""

    kind: Literal[("words", *TOKENIZER_KINDS)] = "words"  # type: ignore[valid-type]
    file: str | None = None
    min_count: int = Field(default=1, ge=1)
    size: int | None = Field(default=None, ge=4, le=10_000_000)


class DistillationConfig(Section):
    """Learning from the trained 32-bit model while compressing: ``weight`` times the divergence of the outputs."""

    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)


class CompressionConfig(Section):
    """How a run is compressed: the plan's defaults, the scheme and its options, and what training it is given.

    By default it starts from the trained model and trains ``phase``. With ``fork_at`` it starts from a snapshot of the
    32-bit training, taken at the first epoch at or past that share of its schedule, and trains what was left of it.
    """

    bits: int = Field(default=5, ge=1, le=8)
    kind: Literal[KINDS] | None = None  # type: ignore[valid-type]
    grouping: Literal[PLAN_GROUPINGS] = "tensor"  # type: ignore[valid-type]
    zero: bool | None = Field(default=None, description="whether zero is a level; by default the kind decides")
    plan: dict[str, Any] | None = Field(default=None, description="a bit plan, in place of bits, kind and grouping")
    scheme: Literal["s8bqat", "admm", "gq", "linear_qat", "straight_through", "ptq"] = "s8bqat"
    options: dict[str, Any] = Field(default_factory=dict)
    float_dtype: Literal["float16", "float32"] = "float16"
    phase: PhaseConfig = PhaseConfig(epochs=3, learning_rate=1e-3, warmup_steps=20, weight_decay=0.0)
    fork_at: float | None = Field(default=None, gt=0, lt=1)
    distillation: DistillationConfig | None = None
    dropout: float | None = Field(default=None, ge=0, lt=1, description="while compressing; by default as in training")


def with_scheme(section: CompressionConfig, scheme: str) -> CompressionConfig:
    """The section for another scheme, which has options, levels and scales of its own."""
    if scheme == section.scheme:
        return section
    own: dict[str, Any] = {"options": {}, "kind": None, "grouping": "tensor", "zero": None}
    return section.model_copy(update={"scheme": scheme, **own})


class DecodingConfig(Section):
    """How every file of an experiment is decoded: ``blank_penalty``, nats subtracted from the blank's log-probability,
    is tuned on dev for the 32-bit model and frozen here for all arms. Their files hold it."""

    blank_penalty: float = Field(
        default=0.0, ge=-RnntArchitecture.MOST_PENALTY, le=RnntArchitecture.MOST_PENALTY, allow_inf_nan=False
    )


class BaseRecipe(Section):
    """What every experiment has. ``corpus`` names what it is trained on and with which options."""

    name: str
    seed: int = 0
    corpus: dict[str, Any] = Field(default_factory=dict)
    training: TrainingConfig = TrainingConfig()
    phase: PhaseConfig = PhaseConfig()
    compression: CompressionConfig = CompressionConfig()

    @model_validator(mode="after")
    def _forks_plainly(self) -> BaseRecipe:
        """A fork goes on with the schedule that it left: the training must be one that has a rest."""
        if self.compression.fork_at is not None and (self.training.averaging or self.training.patience):
            raise ValueError("compression.fork_at wants training.averaging and training.patience off")
        if self.compression.fork_at is not None and self.phase.epochs < 2:
            raise ValueError("compression.fork_at wants a phase of 2 epochs or more")
        return self

    @property
    def fork_epoch(self) -> int | None:
        """Epochs of the 32-bit training before the snapshot that compression forks from; None where it does not."""
        share = self.compression.fork_at
        return None if share is None else min(max(1, math.ceil(share * self.phase.epochs)), self.phase.epochs - 1)

    def digest(self) -> str:
        """Hash of everything in the recipe."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class RnntRecipe(BaseRecipe):
    """A recognizer. ``corpus`` is what ``data prepare`` makes for it; ``features`` are computed from
    waveforms (those of a corpus are taken as they are); ``model`` holds sizes of ``RnntArchitecture``."""

    task: Literal["rnnt"] = "rnnt"
    tokenizer: TokenizerConfig = TokenizerConfig()
    features: FeatureSettings = FeatureSettings()
    data: DataConfig = DataConfig()
    model: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    training: RnntTrainingConfig = RnntTrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @field_validator("features", mode="before")
    @classmethod
    def _features(cls, value: Any) -> Any:
        try:
            return FeatureSettings.from_dict(value) if isinstance(value, dict) else value
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("features: ")) from error

    @field_validator("data", mode="before")
    @classmethod
    def _data(cls, value: Any) -> Any:
        return DataConfig.from_dict(value) if isinstance(value, dict) else value

    @field_validator("model", mode="after")
    @classmethod
    def _model(cls, value: dict[str, Any]) -> dict[str, Any]:
        """All sizes, defaults among them; what depends on the data is not a recipe's to say."""
        sizes = _sizes(value, ("features", "vocabulary"), lambda: _architecture(value, 2, 2).to_dict())
        if "blank_penalty" in sizes:
            raise ValueError("blank_penalty is the decoding section's")
        return {name: size for name, size in sizes.items() if name != "type"}

    def architecture(self, features: int, vocabulary: int) -> RnntArchitecture:
        """The network for so many features a frame and so many tokens."""
        return _architecture(self.model, features=features, vocabulary=vocabulary)


class LmRecipe(BaseRecipe):
    """A language model. ``corpus`` is text, prepared or in the layout of its public copy; ``model`` holds sizes of
    ``LstmLmArchitecture`` or ``TransformerLmArchitecture``, as its ``type`` says."""

    task: Literal["lm"]
    tokens: TokensConfig = TokensConfig()
    data: TextDataConfig = TextDataConfig()
    model: dict[str, Any]
    training: LmTrainingConfig = LmTrainingConfig()

    @field_validator("model", mode="after")
    @classmethod
    def _model(cls, value: dict[str, Any]) -> dict[str, Any]:
        """All sizes, defaults among them; what depends on the data is not a recipe's to say."""
        return _sizes(value, ("vocabulary",), lambda: lm_architecture({**value, "vocabulary": 3}).to_dict())

    @model_validator(mode="after")
    def _fits(self) -> LmRecipe:
        context = self.model.get("context")
        if context is None:  # an LSTM
            return self
        if self.data.segment > context:
            raise ValueError(f"data.segment ({self.data.segment}) is more than model.context ({context})")
        if self.model.get("positions") == "learned" and self.data.segment < context:
            raise ValueError(
                f"learned positions are trained up to data.segment ({self.data.segment}) and scoring reads up to "
                f"model.context ({context}): expected them to be equal"
            )
        return self

    def architecture(self, vocabulary: int) -> LmArchitecture:
        """The network for so many tokens."""
        return lm_architecture({**self.model, "vocabulary": vocabulary})


Recipe = RnntRecipe | LmRecipe
_TASKS: dict[str, type[RnntRecipe] | type[LmRecipe]] = {"rnnt": RnntRecipe, "lm": LmRecipe}


def _architecture(sizes: dict[str, Any], features: int, vocabulary: int) -> RnntArchitecture:
    return RnntArchitecture.from_dict({"type": "rnnt", **sizes, "features": features, "vocabulary": vocabulary})


def _sizes(given: dict[str, Any], of_data: tuple[str, ...], build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Every size of the network that ``build`` describes, without those that follow from the data."""
    named = next((name for name in of_data if name in given), None)
    if named is not None:
        raise ValueError(f"{named} follows from the data and the tokenizer")
    try:
        sizes = build()
    except FormatError as error:
        raise ValueError(
            str(error).removeprefix("architecture: ").removeprefix("RnntArchitecture.__init__() ")
        ) from error
    return {name: size for name, size in sizes.items() if name not in of_data}


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe; ``overrides`` are ``a.b=value`` with YAML values. A bare name finds a recipe that ships with
    the package.

    Raises ConfigError naming the file or the option.
    """
    file = _find(Path(path))
    data = read_settings(file, "recipe", path)
    for override in overrides or []:
        apply_override(data, override)
    return _beside(parse_recipe(data, str(path)), file)


def load_rnnt_recipe(path: str | Path, overrides: list[str] | None = None) -> RnntRecipe:
    """As ``load_recipe``. Raises ConfigError for a recipe of another task."""
    recipe = load_recipe(path, overrides)
    if not isinstance(recipe, RnntRecipe):
        raise ConfigError(f"{path}: expected a recognizer's recipe, found task {recipe.task!r}")
    return recipe


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Check a recipe's values. Raises ConfigError naming the source, the key, and what was found there."""
    task = data.get("task", "rnnt")
    if not isinstance(task, str) or task not in _TASKS:
        raise ConfigError(f"{source}: task: expected {' or '.join(_TASKS)}, found {task!r}")
    try:
        return _TASKS[task].model_validate(data)
    except ValidationError as error:
        where, why = first_invalid(error)
        raise ConfigError(f"{source}: {where}: {why}") from error


def _beside(recipe: Recipe, file: Path) -> Recipe:
    """A vocabulary file that lies beside a user's recipe, by its full path."""
    if not isinstance(recipe, LmRecipe) or recipe.tokens.file is None or (RECIPES / recipe.tokens.file).is_file():
        return recipe
    tokens = recipe.tokens.model_copy(update={"file": str((file.parent / recipe.tokens.file).resolve())})
    return recipe.model_copy(update={"tokens": tokens})


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(x.stem for x in RECIPES.iterdir() if x.suffix == ".yaml")


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if path.exists():
        raise ConfigError(f"{path}: expected a recipe file, found a folder")
    name = path.name.removesuffix(".yaml")
    if name in shipped_recipes():
        return RECIPES / f"{name}.yaml"
    raise ConfigError(f"{path}: no such recipe; the package has {', '.join(shipped_recipes())}")


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``a.b=value`` in nested settings, the value read as YAML. Raises ConfigError for another form."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value, or section.key=value")
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    *parents, last = key.split(".")
    for name in parents:
        if data.get(name) is None:  # a section that is off by default
            data[name] = {}
        data = data[name]
        if not isinstance(data, dict):
            raise ConfigError(f"--set {override}: {name} holds a value, not a section")
    data[last] = value
