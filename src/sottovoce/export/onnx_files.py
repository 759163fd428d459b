"""``--format onnx``: plain graphs, one for each part of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sottovoce.decoding.tokens import Tokenizer
from sottovoce.export.checks import Closeness, check_close, lm_pairs, onnx_rnnt_pairs
from sottovoce.export.networks import onnx_graphs
from sottovoce.export.product import new_files, save_graphs
from sottovoce.export.rounded import weight_noise_db
from sottovoce.export.token_list import token_lines
from sottovoce.export.weights import WeightForm
from sottovoce.packed import PackedModel, is_language_model


@dataclass(frozen=True)
class Exported:
    """files: names and bytes; closeness: how near each graph comes to the packed runtime; weight_noise_db: the weights'
    power over that of their rounding, infinite where the form holds them exactly."""

    folder: Path
    files: Mapping[str, int]
    closeness: tuple[Closeness, ...]
    weight_noise_db: float


def export_onnx(model: PackedModel, folder: str | Path, *, weights: WeightForm = "codes") -> Exported:
    """Write the model's graphs (``networks.onnx_graphs``) and, of a recognizer, ``tokens.txt``.

    Every graph passes ``onnx.checker``, and runs in ONNX Runtime beside the packed runtime in float activations, before
    anything is in the folder. Raises ExportError where it does not come near enough, FormatError for a model of another
    kind, ConfigError for an unknown form.
    """
    folder = Path(folder)
    graphs = onnx_graphs(model, weights)
    pairs = lm_pairs if is_language_model(model.architecture) else onnx_rnnt_pairs
    closeness = check_close(pairs(graphs, model, weights), weights)
    with new_files(folder) as scratch:
        save_graphs(graphs, scratch)
        if model.tokenizer is not None and not is_language_model(model.architecture):
            (scratch / "tokens.txt").write_text(token_lines(Tokenizer(bytes(model.tokenizer))), encoding="utf-8")
        sizes = {file.name: file.stat().st_size for file in sorted(scratch.iterdir())}
    return Exported(folder, sizes, tuple(closeness), weight_noise_db(model, weights))
