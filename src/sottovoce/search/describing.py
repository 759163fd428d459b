"""What compression would do to a model, before anything is touched: bits and bytes of each weight, and what stays in
float and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from sottovoce.errors import PlanError
from sottovoce.quant.plan import BitPlan, PlannedBand
from sottovoce.quant.weights import Weight, check_weight, find_weights, float_reasons, network, plain_name
from sottovoce.schemes.packing import stored_dtype
from sottovoce.search.sizes import model_bytes, part_bytes
from sottovoce.search.targets import Target, check_target

_BYTES = {"float16": 2, "float32": 4}


@dataclass(frozen=True)
class DescribedTensor:
    """One tensor of a model. bits, kind and grouping: of each band of rows, in order, all empty where it stays as it
    is; ``reason`` says then why, and is empty otherwise. aliases: further names of a tied weight."""

    name: str
    shape: tuple[int, ...]
    bits: tuple[int, ...]
    kind: str
    grouping: str
    bytes_before: int
    bytes_after: int
    reason: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """Every tensor of a model as a plan would leave it; ``print`` shows it as a table.

    plan: what was described, to be handed to ``compress``. float_bytes: all tensors as they are now. file_bytes: of the
    packed file, header included, without a tokenizer.
    """

    tensors: tuple[DescribedTensor, ...]
    plan: BitPlan = field(repr=False)
    float_bytes: int
    file_bytes: int

    @property
    def compressed(self) -> tuple[DescribedTensor, ...]:
        """The tensors that the plan names and that can be packed."""
        return tuple(tensor for tensor in self.tensors if not tensor.reason)

    @property
    def left_in_float(self) -> tuple[DescribedTensor, ...]:
        """The tensors that stay, each with its reason."""
        return tuple(tensor for tensor in self.tensors if tensor.reason)

    def __str__(self) -> str:
        head = ("tensor", "shape", "bits", "table", "scale", "before", "after", "left in float")
        return "\n".join([*_aligned([head, *map(_cells, self.tensors)]), "", self._totals()])

    def _totals(self) -> str:
        packed, left = len(self.compressed), len(self.left_in_float)
        return (
            f"{packed} weights compressed, {left} tensors left in float: {self.float_bytes:,} bytes before, "
            f"{self.file_bytes:,} in the file, {self.float_bytes / self.file_bytes:.2f} x smaller."
        )


def describe(
    model: nn.Module,
    plan: BitPlan | None = None,
    *,
    bits: int = 5,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    float_dtype: str = "float16",
    target: Target | None = None,
) -> Description:
    """What ``compress(model, plan, ...)`` and ``finish(float_dtype=...)`` would make of each tensor; changes nothing.

    Without a plan it is ``BitPlan.uniform`` at ``bits``, over the weights that match an ``include`` pattern (all of
    them without one) and no ``exclude`` pattern, less those that cannot be packed as they stand. target: what the
    packed file is meant to run in, "runtime" (ours), "onnxruntime" or "sherpa-onnx"; features and tokenizer, which a
    module does not know, are checked at export. Raises PlanError for a plan that does not fit the model, for a pattern
    that matches nothing, for patterns beside a plan, and for a model that the target cannot run.
    """
    if target is not None:
        check_target(network(model), target)
    if plan is not None and (include or exclude):
        raise PlanError("include and exclude choose what a new plan names: give them, or a plan")
    refused = dict(_refusals(model))
    if plan is None:
        plan = BitPlan.uniform(model, bits, include=include, exclude=exclude)
        plan = _without(plan, model, refused)
    bands: dict[str, list[PlannedBand]] = {}
    for band in plan.resolve(model):
        bands.setdefault(band.weight.name, []).append(band)
    reasons = {weight.name: "left out by the plan" for weight in find_weights(model)}
    reasons |= refused | float_reasons(model)
    weights = {weight.name: weight for weight in find_weights(model)}
    model = network(model)
    state = {plain_name(name): value for name, value in model.state_dict(keep_vars=True).items()}
    trained = {plain_name(name) for name, _ in model.named_parameters()}
    tensors = tuple(
        _compressed(weights[name], bands[name])
        if name in bands and name not in refused
        else _left(name, state[name], reasons[name], float_dtype if name in trained else "float32", weights.get(name))
        for name in state
        if name in reasons
    )
    before = sum(tensor.bytes_before for tensor in tensors)
    return Description(
        tensors, plan, before, model_bytes(model, _without(plan, model, refused), float_dtype=float_dtype)
    )


def _refusals(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Weights that ``compress`` would refuse, and what it would say."""
    for weight in find_weights(model):
        try:
            check_weight(weight.name, weight.parameter)
        except PlanError as error:
            yield weight.name, f"cannot be packed: {str(error).removeprefix(weight.name + ': ')}"


def _without(plan: BitPlan, model: nn.Module, refused: dict[str, str]) -> BitPlan:
    """The plan less what is refused, whichever of a weight's names it goes by."""
    names = {
        name for weight in find_weights(model) if weight.name in refused for name in (weight.name, *weight.aliases)
    }
    return BitPlan({name: specs for name, specs in plan.weights.items() if name not in names})


def _compressed(weight: Weight, bands: list[PlannedBand]) -> DescribedTensor:
    return DescribedTensor(
        weight.name,
        tuple(weight.parameter.shape),
        tuple(band.spec.bits for band in bands),
        "+".join(dict.fromkeys(band.spec.kind for band in bands)),
        "+".join(dict.fromkeys(band.spec.grouping for band in bands)),
        weight.parameter.nbytes,
        sum(part_bytes(weight, band.stop - band.start, band.spec) for band in bands),
        "",
        weight.aliases,
    )


def _left(name: str, value: Tensor, reason: str, dtype: str, weight: Weight | None) -> DescribedTensor:
    each = _BYTES.get(stored_dtype(value.data, dtype), value.element_size())
    aliases = weight.aliases if weight else ()
    return DescribedTensor(name, tuple(value.shape), (), "", "", value.nbytes, each * value.numel(), reason, aliases)


def _cells(tensor: DescribedTensor) -> tuple[str, ...]:
    tied = f" (also {', '.join(tensor.aliases)})" if tensor.aliases else ""
    return (
        tensor.name + tied,
        "x".join(map(str, tensor.shape)),
        "+".join(map(str, tensor.bits)),
        tensor.kind,
        tensor.grouping,
        f"{tensor.bytes_before:,}",
        f"{tensor.bytes_after:,}",
        tensor.reason,
    )


_RIGHT = (2, 5, 6)  # columns of numbers


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        [text.rjust(w) if i in _RIGHT else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in cells]
