"""Sensitivity as curvature: the trace of each cluster's block of the Hessian, by Hutchinson's estimate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sottovoce.errors import ConfigError
from sottovoce.search.clustering import Cluster
from sottovoce.search.rounding import Weights, differentiable

Distribution = Literal["rademacher", "gaussian"]
Products = Literal["block", "joint"]
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
PRODUCTS: tuple[str, ...] = get_args(Products)


@dataclass(frozen=True)
class Trace:
    """An estimate and its standard error over probes, None of a single one."""

    mean: float
    standard_error: float | None

    @classmethod
    def of(cls, samples: Sequence[float]) -> Trace:
        values = torch.tensor(samples, dtype=torch.float64)
        spread = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
        return cls(float(values.mean()), spread)


def trace_samples(
    weights: Weights,
    clusters: Sequence[Cluster],
    batches: Sequence[Any],
    loss: Callable[[Any], Tensor],
    *,
    probes: int,
    distribution: str = "rademacher",
    products: str = "block",
    seed: int = 0,
    remember: Callable[[str, Callable[[], Any]], Any] = lambda name, find: find(),
    done: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """``z' H z`` of the mean loss over batches for each cluster, ``probes`` of them: their mean estimates the trace.

    All clusters share the draw of z. ``block`` products restrict it to one cluster at a time, so that nothing but the
    cluster's own block enters, at one product a cluster; ``joint`` ones take a single product for all, whose cross
    terms have mean zero but add noise, most of it to the small clusters beside large ones.
    Source: Hutchinson 1990; Xu et al. 2021 (arXiv 2112.11438), section IV-B, has Gaussian z and 50 probes; Rademacher z
    has the lower variance. Raises ConfigError for a loss that is not finite or cannot be differentiated twice.
    """
    parameters = weights.of(clusters)
    samples = [[0.0] * probes for _ in clusters]
    for index, batch in enumerate(batches):
        gradients: dict[int, Tensor] = {}

        def products_of(probe: int, batch: Any = batch, index: int = index, kept: Any = gradients) -> list[float]:
            with _twice_differentiable(parameters):
                if not kept:  # one graph a batch, and none where all of its products are known
                    kept.update(_gradients(loss, batch, index, parameters))
                draws = _draw(parameters, distribution, seed, probe)
                whole = _product(kept, parameters, draws, parameters) if products == "joint" else None
                return [_block(weights, cluster, kept, parameters, draws, whole) for cluster in clusters]

        for probe in range(probes):
            found = remember(f"batch {index} probe {probe}", partial(products_of, probe))
            for sample, value in zip(samples, found, strict=True):
                sample[probe] += value / len(batches)
            done()
    return samples


def fingerprints(
    weights: Weights, clusters: Sequence[Cluster], batches: Sequence[Any], loss: Callable[[Any], Tensor]
) -> list[str]:
    """What tells one loss from another: its value on each batch and the norms of its gradients, to six digits.

    Raises ConfigError for a loss that is not finite.
    """
    parameters = weights.of(clusters)
    found = []
    for index, batch in enumerate(batches):
        with _twice_differentiable(parameters):
            value = _value(loss, batch, index)
            gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        norms = [v.detach().double().norm() for v in gradients]
        found.append(" ".join(f"{float(v):.6g}" for v in (*norms, value.detach())))
    return found


def _value(loss: Callable[[Any], Tensor], batch: Any, index: int) -> Tensor:
    with torch.enable_grad():
        value = loss(batch)
    if value.numel() != 1 or not bool(value.isfinite().all()):
        raise ConfigError(f"batch {index}: expected a loss that is one finite number, found {_short(value)}")
    return value


def _gradients(
    loss: Callable[[Any], Tensor], batch: Any, index: int, parameters: list[torch.nn.Parameter]
) -> dict[int, Tensor]:
    value = _value(loss, batch, index)
    with torch.enable_grad():
        found = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    return {id(p): g for p, g in zip(parameters, found, strict=True)}


def _block(
    weights: Weights,
    cluster: Cluster,
    gradients: dict[int, Tensor],
    parameters: list[torch.nn.Parameter],
    draws: dict[int, Tensor],
    whole: dict[int, Tensor] | None,
) -> float:
    """``z' H z`` with z on the cluster's rows; against the product with all of z where that is given."""
    restricted: dict[int, Tensor] = {}
    for part in cluster.parts:
        key = id(weights[part].parameter)
        z = restricted.setdefault(key, torch.zeros_like(draws[key]))
        weights.rows(part, z).copy_(weights.rows(part, draws[key]))
    own = [p for p in parameters if id(p) in restricted]
    product = _product(gradients, own, restricted, own) if whole is None else whole
    return sum(float((z * product[key]).sum()) for key, z in restricted.items())


def _product(
    gradients: dict[int, Tensor],
    sources: list[torch.nn.Parameter],
    draws: dict[int, Tensor],
    targets: list[torch.nn.Parameter],
) -> dict[int, Tensor]:
    """Rows of ``targets`` of H z, z being zero outside ``sources``."""
    used = [p for p in sources if gradients[id(p)].requires_grad]
    if not used:
        return {id(p): torch.zeros_like(p) for p in targets}
    try:
        found = torch.autograd.grad(
            [gradients[id(p)] for p in used],
            targets,
            grad_outputs=[draws[id(p)] for p in used],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"the loss cannot be differentiated twice ({str(error).splitlines()[0]})") from error
    return {id(p): h.detach() for p, h in zip(targets, found, strict=True)}


def _draw(parameters: list[torch.nn.Parameter], distribution: str, seed: int, probe: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + probe)
    found = {}
    for parameter in parameters:
        if distribution == "gaussian":
            z = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        else:
            z = torch.randint(0, 2, parameter.shape, generator=generator).to(parameter.dtype).mul_(2).sub_(1)
        found[id(parameter)] = z.to(parameter.device)
    return found


@contextmanager
def _twice_differentiable(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """With gradients of these, frozen ones too, and without the fused kernels (cuDNN and oneDNN LSTMs, flash attention)
    that have no second derivative."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "TF32 acceleration on top of oneDNN", UserWarning
        )  # hardware that is not here
        with (
            differentiable(parameters),
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=False),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield


def _short(value: Tensor) -> str:
    return f"{float(value.detach())}" if value.numel() == 1 else f"shape {tuple(value.shape)}"
