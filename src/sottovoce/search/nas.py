"""Mixed-precision architecture search: probabilities over widths, trained by gradient in one supernet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sottovoce.errors import ConfigError
from sottovoce.progress import Progress
from sottovoce.quant.codebook import Codebook
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.spec import BandSpec
from sottovoce.search.cache import search_cache
from sottovoce.search.clustering import Cluster, clusters, spec_of
from sottovoce.search.hessian import fingerprints
from sottovoce.search.measuring import MID_RISE, sized, widths_of
from sottovoce.search.rounding import Prototypes, Weights, differentiable, evaluating, restored, rounded
from sottovoce.search.table import SensitivityTable


@dataclass(frozen=True)
class NAS:
    """Settings of the search.

    form: ``softmax`` mixes the widths by their probabilities, as published for language models; ``gumbel`` draws near
        one-hot mixes (Gumbel-softmax), at a temperature falling from ``temperature[0]`` to ``temperature[1]``.
    weights: ``fixed`` keeps the quantized weights, prototypes or rounded ones (the published supernet of finished
        uniform models); ``joint`` trains the float weights below them on the same batches; ``pipelined`` first trains
        them under random one-hot widths, and then the widths on held-out batches.
    beta: strength of the size penalty, ``beta * sum_l N_l / N * sum_n p_ln sqrt(n)``; by_size drops N_l / N if off.
    steps, learning_rate: Adam on the architecture's C x B numbers. weight_steps, weight_rate: Adam on the weights
        (joint: at every step).
    held_out: share of the batches that only the widths are trained on, in ``pipelined``.

    Source: Xu et al. 2021 (arXiv 2112.11438), section IV-C, penalizes the raw numbers, which have no lower bound; here
    their probabilities are. Gumbel and pipelined: Xu et al. 2022 (arXiv 2206.11643).

    Raises ConfigError for settings out of range.
    """

    form: str = "softmax"
    weights: str = "fixed"
    beta: float = 0.5
    by_size: bool = True
    steps: int = 200
    learning_rate: float = 0.05
    temperature: tuple[float, float] = (1.0, 0.1)
    weight_steps: int = 200
    weight_rate: float = 1e-3
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("form", self.form, ("softmax", "gumbel")),
            ("weights", self.weights, ("fixed", "joint", "pipelined")),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}; found {value!r}")
        for name in ("steps", "weight_steps"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigError(f"{name} must be a positive whole number, found {number!r}")
        high, low = self.temperature
        if not 0 < low <= high < math.inf:
            raise ConfigError(f"temperature must be two positive numbers, the second no larger, found {(high, low)}")
        for name in ("beta", "learning_rate", "weight_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a finite number and not negative, found {getattr(self, name)!r}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out must be a share between 0 and 1, found {self.held_out!r}")


def search_architecture(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Callable[[Any], Tensor],
    bits: Sequence[int] = (1, 2, 4, 8),
    *,
    by: str | Callable[[str], str] | Sequence[Cluster] = "tensor",
    rows: Mapping[str, Sequence[int]] | None = None,
    levels: BandSpec = MID_RISE,
    settings: NAS | None = None,
    prototypes: Prototypes | None = None,
    average_bits: float | None = None,
    rounds: int = 6,
    fields: Mapping[str, Any] | None = None,
    tokenizer_bytes: int | None = None,
    cache: str | Path | None = None,
    progress: Progress = lambda done, total: None,
) -> SensitivityTable:
    """Probabilities of each width for each cluster; the table's sensitivities are their negative logarithms.

    So ``allocate`` finds the most probable architecture within a budget, exactly. With ``average_bits`` the strength of
    the penalty is found first, by bisection over ``rounds`` searches, so that the most probable widths come near it;
    each search costs ``steps`` gradients of ``loss(batch)``, a mean over the batch.

    The source mixes the outputs of one layer for each width. Here the weights are mixed, ``sum_n p_n f_n(w)``, in the
    parameters' own memory: the same for every linear map (matrices and embeddings), and for an LSTM one recurrence
    under the mean weights in place of several. The gradient of a probability is the inner product of the parameter's
    gradient with the quantized weights, exact, so that the network is not re-implemented and an LSTM stays fused.

    cache: a folder of what each of these searches found, by the content of weights, batches, options and what the loss
        gives on the float model, so that an interrupted search goes on at its round and a finished one costs nothing.

    Memory: the quantized weights at every width. The model and its weights are unchanged in the end.
    Raises PlanError and ConfigError as ``sensitivity`` does, ConfigError for a loss that is not finite.
    """
    settings = settings or NAS()
    if not batches:
        raise ConfigError("architecture search wants a batch at least, found none")
    if settings.weights != "fixed" and prototypes is not None:
        raise ConfigError("prototypes are quantized already: they go with weights='fixed' only")
    found = clusters(model, by, rows) if isinstance(by, str) or callable(by) else tuple(by)
    widths = widths_of(bits, prototypes)
    table = sized(model, found, widths, levels, fields, tokenizer_bytes)
    if average_bits is not None:
        table.check_budget(average_bits, None)
    searches = 1 if average_bits is None else rounds
    each = settings.steps + (settings.weight_steps if settings.weights == "pipelined" else 0)
    described = {**asdict(settings), "temperature": list(settings.temperature)}
    with evaluating(model):
        seen = [] if cache is None else fingerprints(Weights(model), found, batches, loss)
    own = {key: value for key, value in described.items() if key != "beta"} | {"widths": list(widths)}
    memory = search_cache(cache, model, [*batches, *seen], "nas", own, found, levels, prototypes)
    rounds_done = count()

    def search(beta: float) -> SensitivityTable:
        before = next(rounds_done) * each
        steps = count(before + 1)

        def find() -> list[list[float]]:
            with restored(model), evaluating(model), torch.backends.cudnn.flags(enabled=False):
                net = _Supernet(model, found, widths, levels, prototypes)
                changed = replace(settings, beta=beta)
                with differentiable(net.weights.of(found)):
                    log_p = _train(
                        net, list(batches), loss, changed, table, lambda: progress(next(steps), searches * each)
                    )
            numbers: list[list[float]] = log_p.double().tolist()
            return numbers

        log_p = memory.get(f"beta {beta!r}", find)
        progress(before + each, searches * each)
        details = {**described, "beta": beta, "prototypes": prototypes is not None}
        return replace(table, metric="nas", omega=-np.array(log_p), details=details)

    if average_bits is None:
        return search(settings.beta)
    return _bisect(search, settings.beta, average_bits, rounds)


def _bisect(search: Callable[[float], SensitivityTable], beta: float, target: float, rounds: int) -> SensitivityTable:
    """The search that comes nearest to the target, by its most probable widths and by its best plan below the target
    together; a larger beta gives fewer bits.
    """
    low, high = 0.0, math.inf
    best: tuple[float, SensitivityTable] | None = None
    for _ in range(rounds):
        table = search(beta)
        found = table.price(table.omega.argmin(1).tolist()).average_bits
        distance = abs(found - target) + target - table.choose(average_bits=target).average_bits
        if best is None or distance < best[0]:
            best = distance, table
        low, high = (beta, high) if found > target else (low, beta)
        beta = (
            math.sqrt(low * high)
            if low > 0 and high < math.inf
            else (max(beta, 1e-3) * 8 if high == math.inf else beta / 8)
        )
    assert best is not None  # rounds is at least one
    return best[1]


class _Supernet:
    """Every cluster at every width, mixed into the model's own parameters."""

    def __init__(
        self,
        model: nn.Module,
        found: Sequence[Cluster],
        widths: Sequence[int],
        levels: BandSpec,
        prototypes: Prototypes | None,
    ) -> None:
        self.model = model
        self.weights = Weights(model)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.clusters = found
        self.widths = widths
        self.latents = [[self.weights.rows(p).clone() for p in c.parts] for c in found]
        self._books: list[list[list[Codebook]]] = []  # by cluster, width and part
        if prototypes is None:
            for c in found:
                parts = [(self.weights.rows(p), self.weights.gates(p)) for p in c.parts]
                self._books.append([[make_codebook(w, spec_of(levels, n), g) for w, g in parts] for n in widths])
        self.values = [[rounded(self.weights, c, n, levels, prototypes) for n in widths] for c in found]

    def mix(self, probabilities: Tensor) -> None:
        """Put ``sum_n p_n f_n(w)`` in place; probabilities (C, B)."""
        for c, cluster in enumerate(self.clusters):
            for k, part in enumerate(cluster.parts):
                rows = self.weights.rows(part).zero_()
                for n, p in enumerate(probabilities[c].tolist()):
                    rows.add_(self.values[c][n][k], alpha=p)

    def gradient(self) -> Tensor:
        """Gradient of the loss with respect to each probability, (C, B), from those of the parameters."""
        found = torch.zeros(len(self.clusters), len(self.widths))
        for c, cluster in enumerate(self.clusters):
            for k, part in enumerate(cluster.parts):
                gradient = self.weights[part].parameter.grad
                if gradient is not None:
                    rows = self.weights.rows(part, gradient)
                    found[c] += torch.stack([(rows * value[k]).sum() for value in self.values[c]]).cpu()
        return found

    def train_latents(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the float weights, the gradient passed straight through, and of what is not quantized."""
        for cluster, kept in zip(self.clusters, self.latents, strict=True):
            for part, latent in zip(cluster.parts, kept, strict=True):
                self.weights.rows(part).copy_(latent)
        optimizer.step()
        for c, cluster in enumerate(self.clusters):
            for k, part in enumerate(cluster.parts):
                self.latents[c][k].copy_(self.weights.rows(part))
                for n, value in enumerate(self.values[c]):
                    self._books[c][n][k].snap_(value[k].copy_(self.latents[c][k]))


def _train(
    net: _Supernet,
    batches: list[Any],
    loss: Callable[[Any], Tensor],
    settings: NAS,
    table: SensitivityTable,
    step: Callable[[], None],
) -> Tensor:
    """Log-probabilities (C, B) in the end."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = None
    if settings.weights != "fixed":
        if not net.trained:
            raise ConfigError(f"weights: {settings.weights}: expected weights that train, found all of them frozen")
        optimizer = torch.optim.Adam(net.trained, lr=settings.weight_rate)
    if settings.weights == "pipelined" and optimizer is not None:
        if len(batches) < 2:
            raise ConfigError("weights: pipelined: expected two batches or more, some for the widths alone, found one")
        count = min(len(batches) - 1, max(1, round(settings.held_out * len(batches))))
        apart = {len(batches) - 1 - i * len(batches) // count for i in range(count)}  # long and short ones
        ours, batches = ([batch for i, batch in enumerate(batches) if (i in apart) == held] for held in (False, True))
        for i in range(settings.weight_steps):
            choice = torch.randint(len(net.widths), (len(net.clusters),), generator=generator)
            _gradients(net, F.one_hot(choice, len(net.widths)).float(), loss, ours[i % len(ours)])
            with torch.no_grad():
                net.train_latents(optimizer)
            step()
        optimizer = None
    numbers = torch.zeros(len(net.clusters), len(net.widths), requires_grad=True)
    ours_optimizer = torch.optim.Adam([numbers], lr=settings.learning_rate, betas=(0.9, 0.99))
    share = torch.from_numpy(table.weights / table.weights.sum()) if settings.by_size else torch.ones(len(net.clusters))
    size = share.float()[:, None] * torch.tensor(net.widths, dtype=torch.float32).sqrt()
    for i in range(settings.steps):
        probabilities = numbers.softmax(1)
        mixed = _drawn(numbers, settings, i, generator) if settings.form == "gumbel" else probabilities
        slope = _gradients(net, mixed.detach(), loss, batches[i % len(batches)])
        ours_optimizer.zero_grad()
        ((mixed * slope).sum() + settings.beta * (probabilities * size).sum()).backward()  # type: ignore[no-untyped-call]
        ours_optimizer.step()
        if optimizer is not None:
            with torch.no_grad():
                net.train_latents(optimizer)
        step()
    return numbers.detach().log_softmax(1)


def _drawn(numbers: Tensor, settings: NAS, step: int, generator: torch.Generator) -> Tensor:
    """A near one-hot draw (C, B), differentiable (Jang et al. 2017, arXiv 1611.01144)."""
    high, low = settings.temperature
    temperature = high * (low / high) ** (step / max(settings.steps - 1, 1))
    uniform = torch.rand(numbers.shape, generator=generator).clamp_(1e-20, 1 - 1e-7)
    drawn: Tensor = ((numbers - (-uniform.log()).log()) / temperature).softmax(1)
    return drawn


def _gradients(net: _Supernet, mixed: Tensor, loss: Callable[[Any], Tensor], batch: Any) -> Tensor:
    """Gradient of the loss of a mix with respect to the mix, (C, B); those of the parameters are left in them."""
    with torch.no_grad():
        net.mix(mixed)
    net.model.zero_grad()
    with torch.enable_grad():
        value = loss(batch)
        if value.numel() != 1 or not bool(value.isfinite().all()):
            raise ConfigError(f"architecture search: expected a loss that is one finite number, found {value.detach()}")
        value.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return net.gradient()
