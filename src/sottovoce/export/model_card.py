"""A model card: metadata that the Hub reads, what the file holds, and the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sottovoce.packed import PackedMatrix, PackedModel, is_language_model

MARK = "<!-- made by sottovoce -->"


@dataclass(frozen=True)
class Evidence:
    """Rows of results, the size that tells which of them are of this very file, and the data's name on the Hub."""

    rows: Sequence[Mapping[str, Any]]
    file_bytes: int
    dataset: str | None = None

    def own(self) -> list[Mapping[str, Any]]:
        """The rows that were measured on a file of this size."""
        return [row for row in self.rows if row.get("file_bytes") == self.file_bytes]


def model_card(model: PackedModel, title: str, evidence: Evidence, metadata: Mapping[str, Any]) -> str:
    """The card's text. Only rows of this very file become the Hub's ``model-index``; all of them are in the table."""
    head = yaml.safe_dump(_metadata(model, title, evidence, metadata), sort_keys=False, allow_unicode=True)
    parts = [f"# {title}", MARK, *_contents(model, evidence), *_evidence(evidence), *_usage(model)]
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(model: PackedModel, title: str, evidence: Evidence, given: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {**given, "library_name": "sottovoce", "tags": ["sottovoce", "quantized"]}
    if _is_recognizer(model):
        data["pipeline_tag"] = "automatic-speech-recognition"
    if evidence.dataset:
        data["datasets"] = [evidence.dataset]
    measured = [_measured(row, evidence.dataset) for row in evidence.own()]
    if measured:
        data["model-index"] = [{"name": title, "results": measured}]
    return data


def _measured(row: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    kind = "wer" if "wer" in row else "perplexity"
    name = dataset or str(row.get("corpus", "unnamed"))
    split = {"split": row["split"]} if "split" in row else {}
    task = "automatic-speech-recognition" if kind == "wer" else "text-generation"
    return {
        "task": {"type": task},
        "dataset": {"name": name, "type": name, **split},
        "metrics": [{"type": kind, "value": round(float(row[kind]), 4)}],
    }


def _contents(model: PackedModel, evidence: Evidence) -> list[str]:
    file_bytes, model_bytes = evidence.file_bytes, evidence.file_bytes - len(model.tokenizer or b"")
    size = f"{file_bytes:,} bytes, {model.fp32_bytes / model_bytes:.1f} times smaller than in 32 bits"
    widths: Counter[int] = Counter()
    for tensor in model.tensors.values():
        if isinstance(tensor, PackedMatrix):
            for band in tensor.bands:
                widths[band.bits] += band.rows * tensor.columns
    packed = sum(widths.values())
    rows = [f"| {bits} | {count:,} |" for bits, count in sorted(widths.items())]
    rows.append(f"| float | {model.parameters - packed:,} |")
    kind = model.architecture.get("type")
    what = f"Architecture {kind}, {model.parameters:,} parameters" if kind else f"{model.parameters:,} parameters"
    made = ", ".join(f"{key} {value}" for key, value in model.provenance.items())
    return [
        f"{what} in one file of {size}. Compressed weights are "
        "`scale * int8 level[code]`, the codes packed at the bits below.",
        "\n".join(["| bits | weights |", "| ---: | ---: |", *rows]),
        *([f"How it was made: {made}."] if made else []),
    ]


_PERCENT = "{:.2f}".format
_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("system", "system", str),
    ("bits", "bits", str),
    ("corpus", "corpus", str),
    ("split", "split", str),
    ("seed", "seed", str),
    ("wer", "WER %", _PERCENT),
    ("perplexity", "perplexity", _PERCENT),
    ("ci95", "95 % interval", lambda ends: f"{ends[0]:.2f} to {ends[1]:.2f}"),
    ("errors", "errors", "{:,}".format),
    ("words", "words", "{:,}".format),
    ("model_bytes", "bytes", "{:,}".format),
    ("mapsswe_p", "MAPSSWE p", "{:.3f}".format),
    ("verdict", "verdict", str),
)


def _evidence(evidence: Evidence) -> list[str]:
    if not evidence.rows:
        return ["## Evidence", "No results came with the model: nothing is claimed about its accuracy."]
    columns = [column for column in _COLUMNS if any(row.get(column[0]) is not None for row in evidence.rows)]
    own = [id(row) for row in evidence.own()]
    lines = [_line([heading for _, heading, _ in columns]), _line(["---"] * len(columns))]
    for row in evidence.rows:
        cells = [show(row[key]) if row.get(key) is not None else "" for key, _, show in columns]
        lines.append(_line([f"**{cell}**" if cell and id(row) in own else cell for cell in cells]))
    mine = "Rows in bold are of this file." if own else "No row is of this very file."
    return ["## Evidence", f"Measured by running the packed files. {mine}", "\n".join(lines)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _usage(model: PackedModel) -> list[str]:
    if _is_recognizer(model):
        lines = ["import sottovoce as sv", "from sottovoce.runtime import Recognizer", ""]
        lines += ['recognizer = Recognizer(sv.from_pretrained("OWNER/NAME"))', "recognizer.transcribe(samples, 16000)"]
        return ["## Use", "Without PyTorch:", _code(lines)]
    if is_language_model(model.architecture):
        lines = ["import sottovoce as sv", "from sottovoce.runtime import LanguageModelScorer", ""]
        return ["## Use", "Without PyTorch:", _code([*lines, 'LanguageModelScorer(sv.from_pretrained("OWNER/NAME"))'])]
    lines = ["import sottovoce as sv", "", 'sv.load(sv.from_pretrained("OWNER/NAME"), into=model)']
    lines += ["# or with layers that keep the codes: sv.load(..., into=model, packed=True)"]
    return ["## Use", "The file holds weights, no code: build the model as its authors do, then fill it.", _code(lines)]


def _code(lines: Sequence[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _is_recognizer(model: PackedModel) -> bool:
    return model.architecture.get("type") == "rnnt"
