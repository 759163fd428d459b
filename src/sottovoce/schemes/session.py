"""The session: compression beside a training loop that stays the user's.

It hooks the optimizer and touches nothing else. Before a step the parameters hold what the forward should see; the
optimizer moves the latents; after the step the scheme acts on them and, where it asks for that, quantized weights take
their place again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from sottovoce.errors import ConfigError, PlanError
from sottovoce.packed import PackedModel
from sottovoce.quant.codebook import Codebook
from sottovoce.quant.plan import BitPlan
from sottovoce.quant.weights import network, plain_name
from sottovoce.schemes.bands import TrainedBand, estimate, pools
from sottovoce.schemes.packing import pack_model
from sottovoce.schemes.processes import gathered, local, processes_of, reshard
from sottovoce.schemes.scheme import LooksAhead, Penalizes, Scheme, Settles

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def compress(
    model: nn.Module,
    plan: BitPlan,
    scheme: Scheme,
    *,
    optimizer: Optimizer | None = None,
    total_steps: int | None = None,
    processes: ProcessGroup | None = None,
) -> Session:
    """Begin compressing ``model`` as ``plan`` says, by ``scheme``.

    Levels are taken from the weights as they stand. Without an optimizer nothing is trained: ``finish()`` rounds and
    packs. ``total_steps``: optimizer steps of the run, which every schedule is a share of.

    model: the network, before or after ``torch.compile``; wrapped in DistributedDataParallel; or sharded by
        ``fully_shard`` (FSDP2), before the optimizer is made. Names are those of the network itself.
    optimizer: as made, or as accelerate or Lightning wrapped it.
    processes: those that train copies of this model, which then have the same levels to the bit. Known where the model
        is wrapped or sharded. Sharded, every process must make the same calls; row ranges are those of the whole.

    Raises PlanError for a plan that does not fit the model, or when weights that should train are not the optimizer's.
    """
    return Session(model, plan, scheme, optimizer, total_steps, processes)


class Session:
    """Owns the latents, the step count and the hooks; made by ``compress``.

    ``events``, ``values`` and ``tensors`` are for schemes, which have no state of their own; they are saved with it.
    A tensor's key is its band's name, a space, and what it is; its rows are the band's, those that are here.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: BitPlan,
        scheme: Scheme,
        optimizer: Optimizer | None,
        total_steps: int | None,
        processes: ProcessGroup | None = None,
    ) -> None:
        if optimizer is not None and (total_steps is None or total_steps < 1):
            raise PlanError(f"total_steps must be a positive number of optimizer steps, found {total_steps!r}")
        reshard(model)
        processes = processes or processes_of(model)
        optimizer = _innermost(optimizer)
        self.model = network(model)
        self.plan = plan
        self.scheme = scheme
        self.total_steps = total_steps or 1
        self.step = 0
        self.events: list[dict[str, Any]] = []
        self.values: dict[str, float] = {}
        self.tensors: dict[str, Tensor] = {}
        self.bands = [TrainedBand.of(planned, processes) for planned in plan.resolve(self.model)]
        if not self.bands:
            raise PlanError("the plan names no weight: there is nothing to compress")
        self.pools = pools(self.bands)
        for pool in self.pools:
            if len(pool) > 1:
                estimate(pool)
        self._latents: dict[nn.Parameter, Tensor] = {}  # of the parameters that hold quantized weights at the moment
        self._buffers: dict[nn.Parameter, Tensor] = {}  # memory of the latents, kept from step to step
        self._hold = False
        self._optimizer = optimizer
        self._groups = _parameter_groups(optimizer, self.bands) if optimizer else {}
        self._hooks = []
        if optimizer is not None:
            self._hooks = [
                optimizer.register_step_pre_hook(self._before_step),
                optimizer.register_step_post_hook(self._after_step),
            ]

    # -- what schemes use --

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(self.step / self.total_steps, 1.0)

    def rate(self, band: TrainedBand) -> float:
        """Learning rate of the band's parameter group at this step."""
        if self._optimizer is None:
            return 0.0
        # By number: loading an optimizer's state replaces its groups.
        return float(self._optimizer.param_groups[self._groups[band.planned.weight.parameter]]["lr"])

    def parameters(self) -> list[tuple[nn.Parameter, float]]:
        """Every parameter of the optimizer with the learning rate of its group at this step."""
        groups = self._optimizer.param_groups if self._optimizer is not None else []
        return [(parameter, float(group["lr"])) for group in groups for parameter in group["params"]]

    def hold(self, on: bool) -> None:
        """From now on, forward and backward see quantized weights and the optimizer moves the latents
        (straight-through)."""
        self._hold = on

    def estimate_levels(self) -> None:
        """Take every band's levels and scales anew from the weights as they stand."""
        for pool in self.pools:
            estimate(pool)

    @torch.no_grad()
    def hard_compress(self, *, estimate: bool = False) -> None:
        """Overwrite the weights by their nearest centroids and log the share that was there already (S8BQAT, section
        2.4), and the share that is clipped."""
        self.events.append({"step": self.step, "hit_rate": self.hit_rates(), "clip_rate": self.clip_rates()})
        if estimate:
            self.estimate_levels()
        for band in self.bands:
            band.here().snap_(band.weight())

    def hit_rates(self, epsilon: float = 1 / 1024) -> dict[str, float]:
        """Share of each band's weights within ``epsilon`` of a level."""
        with self._diverging():
            return {band.name: band.codebook.hit_rate(self._latent_rows(band), epsilon) for band in self.bands}

    def clip_rates(self) -> dict[str, float]:
        """Share of each band's weights beyond the outer levels."""
        return {band.name: band.codebook.clip_rate(self._latent_rows(band)) for band in self.bands}

    def mean_rates(self) -> dict[str, float]:
        """``hit_rate`` and ``clip_rate``, each the mean over bands: for a training's log."""
        rates = {"hit_rate": self.hit_rates(), "clip_rate": self.clip_rates()}
        return {name: sum(of_bands.values()) / len(of_bands) for name, of_bands in rates.items()}

    def penalty_ratio(self) -> float | None:
        """RMS(penalty gradient) / RMS(task gradient) over the planned weights; None where the scheme has no penalty at
        the moment.

        Ask between the backward pass of the task's loss and that of ``penalty()``, of gradients that are not scaled. It
        costs what the penalty does: now and then is enough.
        """
        return self.scheme.penalty_ratio(self) if isinstance(self.scheme, Penalizes) else None

    # -- what the user calls --

    def penalty(self) -> Tensor:
        """Penalty to add to the loss where the scheme has one; zero otherwise. Of a sharded model it is that of the
        rows that this process holds."""
        term = self.scheme.penalty(self)
        return term if term is not None else torch.zeros((), device=self.bands[0].weight().device)

    @contextmanager
    def on_latents(self) -> Iterator[None]:
        """Inside, the parameters hold the latents even where training sees quantized weights: what an average of
        weights (EMA) should be taken of. Not between forward and backward."""
        held = bool(self._latents)
        self._release()
        try:
            yield
        finally:
            if held:
                self._quantize()

    @torch.no_grad()
    def finish(self, *, float_dtype: str = "float16", averaged: nn.Module | None = None) -> PackedModel:
        """End the session: snap every planned weight, round what stays float to ``float_dtype``, pack, remove the
        hooks.

        The model afterwards computes with exactly the numbers that the file decodes to. averaged: a copy of the model
        (``torch.optim.swa_utils.AveragedModel``, updated inside ``on_latents()``) whose weights and buffers are taken
        over first; the levels are then taken anew, from them. Raises PlanError where its tensors are others, and
        ConfigError for weights that training has left as no numbers.
        """
        self.close()
        if averaged is not None:
            self._take(averaged)
        if (lost := self._lost()) is not None:
            raise ConfigError(lost)
        if averaged is None and isinstance(self.scheme, Settles):
            self.scheme.settle(self)
        return pack_model(self.model, self.bands, float_dtype)

    def close(self, *, latents: bool = True) -> None:
        """Remove the hooks and leave latent weights in the parameters; without ``latents`` what is in them now, which a
        checkpoint was loaded into meanwhile."""
        reshard(self.model)
        if not latents:
            self._latents = {}
        self._release()
        self._hold = False
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def latent(self, name: str) -> Tensor | None:
        """The latent weights of a parameter whose quantized ones are in place, by name; None where they are the
        same."""
        for band in self.bands:
            if plain_name(name) in (band.planned.weight.name, *band.planned.weight.aliases):
                return self._latents.get(band.planned.weight.parameter)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Step, events, codebooks and latents: what resuming in mid-run needs beside the model and the optimizer.

        Save all three together, and load them in this order: model, optimizer, session. The session brings back the
        latents, whatever the model's own state was saved on. Only tensors, numbers and texts, so ``torch.load`` reads
        it with ``weights_only=True``. Of a sharded model every process has the whole, and all of them must ask; it can
        be taken up by another number of processes.
        """
        return {
            "plan": self.plan.to_json(),
            "step": self.step,
            "events": list(self.events),
            "values": dict(self.values),
            "tensors": {key: self._band_of(key).gathered(tensor).clone() for key, tensor in self.tensors.items()},
            "hold": self._hold,
            "codebooks": {band.name: _saved(band.codebook) for band in self.bands},
            "limits": {band.name: _saved(band.limits) for band in self.bands if band.limits is not None},
            "latents": {
                band.planned.weight.name: gathered(self._latents[band.planned.weight.parameter]).clone()
                for band in self.bands
                if band.planned.weight.parameter in self._latents
            },
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state, after the model's own: weights are as loaded there, and latent where the state has
        them. Raises PlanError when it was saved under another plan."""
        if state["plan"] != self.plan.to_json():
            old, new = state["plan"].splitlines(), self.plan.to_json().splitlines()
            changed = next((b or a for a, b in zip_longest(old, new) if a != b), "")
            raise PlanError(f"session state is of another plan; the first line that differs is {changed.strip()}")
        reshard(self.model)
        self._latents = {}  # of the weights that were there before
        self.step, self.events, self.values = state["step"], list(state["events"]), dict(state["values"])
        device = self.bands[0].weight().device
        self.tensors = {
            key: whole[self._band_of(key).part].to(device, copy=True) for key, whole in state.get("tensors", {}).items()
        }
        for band in self.bands:
            band.codebook = _loaded(state["codebooks"][band.name], band.codebook)
            limits = state["limits"].get(band.name)
            band.limits = None if limits is None else _loaded(limits, band.codebook)
            latent = state["latents"].get(band.planned.weight.name)
            if latent is not None:
                local(band.planned.weight.parameter.data).copy_(latent[slice(*band.held)])
        self._hold = state["hold"]
        if self._hold:
            self._quantize()

    def _take(self, averaged: nn.Module) -> None:
        source = network(averaged)
        source = source.module if isinstance(source, AveragedModel) else source
        try:
            self.model.load_state_dict(network(source).state_dict())
        except RuntimeError as error:
            found = " ".join(str(error).split())
            raise PlanError(f"averaged: expected a copy of the model that is compressed ({found})") from error
        self.estimate_levels()

    def _band_of(self, key: str) -> TrainedBand:
        name = key.rpartition(" ")[0]
        return next(band for band in self.bands if band.name == name)

    # -- hooks --

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Put the latents back; a closure, which runs the forward inside the step, sees quantized weights instead, or
        is evaluated by a scheme that looks ahead."""
        if kwargs.get("closure") is not None:
            return args, {**kwargs, "closure": self._wrapped(kwargs["closure"])}
        if len(args) > 1 and callable(args[1]):  # args[0] is the optimizer itself
            return (args[0], self._wrapped(args[1]), *args[2:]), kwargs
        self._release()
        return None

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        if self._hold:
            return self._on_quantized(closure)
        if isinstance(self.scheme, LooksAhead):
            return partial(self.scheme.evaluate, self, closure)
        return closure

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._release()
        with self._diverging():
            if not _was_skipped(optimizer):
                self.step += 1
                with torch.no_grad():
                    self.scheme.after_step(self)
            if self._hold:
                self._quantize()

    @contextmanager
    def _diverging(self) -> Iterator[None]:
        """What fails inside because weights are nan or inf says so in one line."""
        try:
            yield
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            if (lost := self._lost()) is None:
                raise
            raise ConfigError(lost) from error

    def _lost(self) -> str | None:
        """What to say where a weight of this process is nan or inf."""
        for band in self.bands:  # no process may wait for another here
            parameter = band.planned.weight.parameter
            if not bool(band.rows(self._latents.get(parameter, parameter.data)).isfinite().all()):
                return (
                    f"{band.name}: the weights are no numbers any more after step {self.step}; lower the learning rate"
                )
        return None

    def _on_quantized(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def wrapped() -> Any:
            if self._hold and not self._latents:
                self._quantize()
            result = closure()
            self._release()
            return result

        return wrapped

    @torch.no_grad()
    def _quantize(self) -> None:
        for band in self.bands:
            parameter = band.planned.weight.parameter
            if parameter not in self._latents:
                kept = self._buffer(parameter)
                self._latents[parameter] = kept.copy_(parameter)
            band.here().snap_(band.weight())

    def _buffer(self, parameter: nn.Parameter) -> Tensor:
        if parameter not in self._buffers:
            self._buffers[parameter] = torch.empty_like(parameter, requires_grad=False)
        return self._buffers[parameter]

    @torch.no_grad()
    def _release(self) -> None:
        for parameter, latent in self._latents.items():
            parameter.data.copy_(latent)
        self._latents = {}

    def _latent_rows(self, band: TrainedBand) -> Tensor:
        latent = self._latents.get(band.planned.weight.parameter)
        return band.gathered(band.weight() if latent is None else band.rows(latent))


def _saved(codebook: Codebook) -> dict[str, Any]:
    return {"levels": codebook.levels, "scale": codebook.scale, "bits": codebook.bits}


def _loaded(saved: dict[str, Any], like: Codebook) -> Codebook:
    device = like.levels.device
    return replace(like, levels=saved["levels"].to(device), scale=saved["scale"].to(device), bits=saved["bits"])


def _parameter_groups(optimizer: Optimizer, bands: list[TrainedBand]) -> dict[nn.Parameter, int]:
    """Number of the optimizer's group that holds each planned parameter."""
    groups = {parameter: i for i, group in enumerate(optimizer.param_groups) for parameter in group["params"]}
    for band in bands:
        if band.planned.weight.parameter not in groups:
            raise PlanError(
                f"{band.name}: planned, but not among the optimizer's parameters; add it or leave it out of the plan"
            )
    return groups


def _innermost(optimizer: Optimizer | None) -> Optimizer | None:
    """The optimizer inside those that accelerate and Lightning wrap around it: the one whose hooks are called."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer  # type: ignore[union-attr]
    return optimizer


def _was_skipped(optimizer: Optimizer) -> bool:
    """Whether a GradScaler let a fused optimizer run a step that it then takes back: gradients were not finite."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found > 0)
