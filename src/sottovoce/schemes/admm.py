"""ADMM: weights, their quantized copies and the multipliers between them, in turn (Xu et al., TASLP 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sottovoce.errors import ConfigError
from sottovoce.quant.codebook import Codebook
from sottovoce.quant.makers import make_codebook
from sottovoce.quant.scaling import alternate, squared_error, storable
from sottovoce.quant.spec import BandSpec
from sottovoce.schemes.bands import Pool, TrainedBand, pooled
from sottovoce.schemes.processes import agreed
from sottovoce.schemes.schedule import check_period, crossed, is_event, ramp
from sottovoce.schemes.session import Session


@dataclass(frozen=True)
class ADMM:
    """Alternating direction method of multipliers on ``loss(w) + (rho / 2) |w - q + u|**2``, q on the codebook.

    Between outer iterations the weights w train, drawn to ``q - u``. At each of them q becomes the projection of
    ``w + u`` (scale and codes alternate, which never raises ``|w + u - q|``), and the scaled multipliers u grow by
    ``w - q``. u lies in the session's state, so that a run resumes to the bit.

    form: ``proximal`` moves the weights after any optimizer's step by the exact step for the quadratic term,
        ``w += s / (1 + s) (q - u - w)``, s = rho times the learning rate, which no rate makes unstable and which
        Adam does not rescale. ``extragradient`` adds the term's gradient and takes the whole gradient at a look-ahead
        point; it needs ``optimizer.step(closure)``, the closure zeroing and computing all gradients, and is
        ``proximal`` at steps without one.
    strength: rho of the first and of the last outer iteration, growing geometrically between; as it grows u shrinks, so
        that the multipliers themselves stay. In ``extragradient`` it is the published gamma (1e-3 throughout).
    start: share of the run before which training is plain.
    period: between outer iterations, in steps, or as a share of the run where it is below 1 (published: an epoch, and
        20 at most).
    inner: rounds of scale and codes in an outer iteration, at most.
    finish: share of the run from which forward and backward see the quantized weights (straight-through), multipliers
        dropped; None for never, q then being what is shipped. ``refit``: between re-fits of the scales in that phase.
        The default is what did best on a language model's dev text at 2 bits: the sooner, the better, for until then
        the gradient is that of the float weights and says nothing of what their codes lose.
    look_ahead: length of the look-ahead step, in learning rates (published: 0.02 / 0.001).

    Source: Xu et al. 2021, "Mixed precision low-bit quantization of neural network language models for speech
    recognition", arXiv 2112.11438, section III-C. There codes are projections of w, here of w + u, without which the
    alternation would not descend on its own objective; and alpha starts from a fit to the weights instead of 1.

    Raises ConfigError for settings out of range.
    """

    form: str = "proximal"
    strength: tuple[float, float] = (1.0, 30.0)
    start: float = 0.0
    period: float = 0.05
    inner: int = 20
    finish: float | None = 0.1
    refit: float | None = 50
    look_ahead: float = 20.0

    def __post_init__(self) -> None:
        if self.form not in ("proximal", "extragradient"):
            raise ConfigError(f"form must be 'proximal' or 'extragradient', found {self.form!r}")
        pair = self.strength
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not 0 < pair[0] <= pair[1] < math.inf:
            raise ConfigError(f"strength must be two positive numbers in order, found {pair!r}")
        for name, share in (("start", self.start), ("finish", self.finish)):
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"{name} must be a share of the run from 0 to 1, found {share!r}")
        if self.finish is not None and self.start > self.finish:
            raise ConfigError(f"start and finish must be in order, found {self.start} and {self.finish}")
        if self.period is None:
            raise ConfigError("period must be given: outer iterations are what the multipliers grow at")
        check_period("period", self.period)
        check_period("refit", self.refit)
        if isinstance(self.inner, bool) or not isinstance(self.inner, int) or self.inner < 1:
            raise ConfigError(f"inner must be a positive whole number, found {self.inner!r}")
        if not 0 <= self.look_ahead < math.inf:
            raise ConfigError(f"look_ahead must be a finite number and not negative, found {self.look_ahead!r}")

    @classmethod
    def published(cls, **changes: Any) -> ADMM:
        """The source's settings, for plain SGD at a rate of 0.001: extra-gradient, gamma 1e-3, 20 outer iterations.

        One step of the method is left out: validating the quantized weights alpha * V after each outer iteration and
        keeping the best of them. Without a finishing phase, as here, dev perplexity before the last step is that of the
        float weights, and what is packed is the last quantized copy, whether or not it was the best on dev.
        """
        settings = {"form": "extragradient", "strength": (1e-3, 1e-3), "finish": None}
        return cls(**{**settings, **changes})

    def rho(self, progress: float) -> float:
        """Strength of the outer iteration that begins at this share of the run."""
        low, high = self.strength
        end = 1.0 if self.finish is None else self.finish
        return float(low * (high / low) ** ramp(progress, self.start, end))

    def after_step(self, session: Session) -> None:
        finishing = self.finish is not None and session.progress >= self.finish
        if finishing:
            self._finish(session)
        elif session.progress >= self.start:
            self._iterate(session)
        session.hold(finishing)

    def settle(self, session: Session) -> None:
        """Where the run ended before its last step: a projection, and q is the model."""
        if session.tensors and session.step < session.total_steps:
            for pool in session.pools:
                self._project(session, pool)
            self._settle(session)

    def penalty(self, session: Session) -> Tensor | None:
        return None

    def evaluate(self, session: Session, closure: Callable[[], Any]) -> Any:
        """Gradient of loss and quadratic term at ``w - look_ahead * lr * gradient(w)``, left in the parameters."""
        if self.form != "extragradient" or not session.tensors:
            return closure()
        result = closure()
        self._add_pull(session)
        kept = []
        with torch.no_grad():
            for parameter, rate in session.parameters():
                kept.append((parameter, parameter.detach().clone()))
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad, alpha=-self.look_ahead * rate)
        closure()
        self._add_pull(session)
        with torch.no_grad():
            for parameter, weight in kept:
                parameter.data.copy_(weight)
        session.values["looked_ahead"] = session.step + 1
        return result

    @torch.no_grad()
    def _add_pull(self, session: Session) -> None:
        """Add rho (w - q + u) to the gradients."""
        for band in session.bands:
            gradient = band.planned.weight.parameter.grad
            if gradient is not None:
                pull = band.weight() - session.tensors[_target(band)]
                band.rows(gradient).add_(pull, alpha=session.values["rho"])

    def _iterate(self, session: Session) -> None:
        if not session.tensors:
            session.values["rho"] = self.rho(session.progress)
            for pool in session.pools:
                self._project(session, pool)
        elif session.values.get("looked_ahead") != session.step:
            for band in session.bands:
                step = session.values["rho"] * session.rate(band)
                band.weight().lerp_(session.tensors[_target(band)], step / (1 + step))
        last = session.step >= session.total_steps
        if last or is_event(session.step, session.total_steps, self.period):
            for pool in session.pools:
                self._project(session, pool)
            self._strengthen(session)
            session.events.append({"step": session.step, "residual": self._residuals(session)})
        if last:
            self._settle(session)

    def _project(self, session: Session, pool: Pool) -> None:
        """q of ``w + u``; then ``u += w - q``, and ``q - u`` is what the weights are drawn to."""
        sums = [band.weight() + session.tensors.get(_dual(band), 0.0) for band in pool]
        spec = pool[0].planned.spec
        wholes = [band.gathered(total) for band, total in zip(pool, sums, strict=True)]
        made = project(pooled(wholes), pool[0].codebook, spec, pool[0].planned.weight.gates, self.inner)
        codebook = agreed(made, pool[0].group)
        for band, total in zip(pool, sums, strict=True):
            band.codebook = codebook
            quantized = band.here().snap_(total.clone())
            first = _dual(band) not in session.tensors  # q of the beginning: there is nothing to be held to yet
            session.tensors[_dual(band)] = torch.zeros_like(total) if first else total - quantized
            session.tensors[_target(band)] = quantized - session.tensors[_dual(band)]

    def _strengthen(self, session: Session) -> None:
        """The next rho; ``rho u`` stays as it is."""
        old, new = session.values["rho"], self.rho(session.progress)
        session.values["rho"] = new
        if new == old:
            return
        for band in session.bands:
            dual = session.tensors[_dual(band)]
            session.tensors[_target(band)].add_(dual, alpha=1 - old / new)
            dual.mul_(old / new)

    def _residuals(self, session: Session) -> dict[str, float]:
        """``|w - q| / |w|`` of each band."""
        found = {}
        for band in session.bands:
            quantized = session.tensors[_target(band)] + session.tensors[_dual(band)]
            apart = band.gathered(band.weight() - quantized)
            found[band.name] = float(apart.norm() / band.whole().norm().clamp_min(1e-30))
        return found

    def _settle(self, session: Session) -> None:
        """The end without a finishing phase: q is the model."""
        for band in session.bands:
            quantized = session.tensors[_target(band)] + session.tensors[_dual(band)]
            band.weight().copy_(band.here().snap_(quantized))

    def _finish(self, session: Session) -> None:
        begins = crossed(session.step, session.total_steps, self.finish or 0.0)
        if begins or is_event(session.step, session.total_steps, self.refit):
            session.tensors.clear()
            for pool in session.pools:
                weight, planned = pooled([band.whole() for band in pool]), pool[0].planned
                made = project(weight, pool[0].codebook, planned.spec, planned.weight.gates, self.inner)
                codebook = agreed(made, pool[0].group)
                for band in pool:
                    band.codebook = codebook


@torch.no_grad()
def project(weight: Tensor, codebook: Codebook, spec: BandSpec, gates: int, rounds: int) -> Codebook:
    """A codebook of the same table whose nearest levels are no farther from the (R, C) weight than ``codebook``'s.

    Evenly spaced levels keep their scale's fit and alternate it with the codes; other tables are made anew from the
    weight and taken where that is better.
    """
    if spec.kind != "uniform":
        made = make_codebook(weight, spec, gates)
        return made if float(_error(weight, made).sum()) < float(_error(weight, codebook).sum()) else codebook
    fitted = alternate(weight, codebook.levels, codebook.scale, rounds)
    scale = storable(fitted) if spec.scale_dtype == "float16" else fitted
    better = squared_error(weight, codebook.levels, scale) < _error(weight, codebook)
    return replace(codebook, scale=torch.where(better, scale, codebook.scale))


def _error(weight: Tensor, codebook: Codebook) -> Tensor:
    return squared_error(weight, codebook.levels, codebook.scale)


def _dual(band: TrainedBand) -> str:
    return f"{band.name} dual"


def _target(band: TrainedBand) -> str:
    return f"{band.name} target"
