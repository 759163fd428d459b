"""Whether what a model would be packed into can run where it is meant to."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from sottovoce.errors import PlanError, did_you_mean
from sottovoce.packed import LstmLmArchitecture, RnntArchitecture, TransformerLmArchitecture

Target = Literal["runtime", "onnxruntime", "sherpa-onnx"]
TARGETS: tuple[str, ...] = get_args(Target)
_LANGUAGE_MODELS = (LstmLmArchitecture, TransformerLmArchitecture)
_RUN = {
    "runtime": (RnntArchitecture, *_LANGUAGE_MODELS),
    "onnxruntime": (RnntArchitecture, *_LANGUAGE_MODELS),
    "sherpa-onnx": (RnntArchitecture,),
}


def check_target(model: nn.Module, target: str) -> None:
    """Raises PlanError for an unknown target, or a model that it cannot run, whatever its bits: it is then told what
    runs it. Bits, tables and scales are never the reason, since every compressed weight has the one form."""
    if target not in TARGETS:
        raise PlanError(f"target: expected {', '.join(TARGETS)}, found {target!r}{did_you_mean(target, TARGETS)}")
    architecture = getattr(model, "architecture", None)
    if isinstance(architecture, _RUN[target]):
        return
    kinds = "an RNN-T" if target == "sherpa-onnx" else "this package's recognizers and language models"
    raise PlanError(
        f"target {target}: runs {kinds}, found {type(model).__name__}; its packed file runs in "
        f"{_elsewhere(architecture)}"
    )


def _elsewhere(architecture: object) -> str:
    places = [target for target in TARGETS if isinstance(architecture, _RUN[target])]
    return " and ".join(places) or "PyTorch: sv.load(path, into=model)"
