"""A model trained on real digits says the same in stock sherpa-onnx as in our runtime, token for token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.data.prepare import prepare
from sottovoce.data.prepared import load_cuts
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.evaluation.wer import count_errors
from sottovoce.packed import PackedModel, load_model
from sottovoce.runtime import Recognizer
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import load_recipe
from sottovoce.training.train import train

pytestmark = [pytest.mark.real, pytest.mark.slow]
STRINGS = 40


@pytest.fixture(scope="module")
def trained(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PackedModel]:
    """Data, and a model of the recipe meant for sherpa-onnx after half of its training, rounded to 5 bits."""
    for package in ("onnxruntime", "sherpa_onnx"):
        pytest.importorskip(package, reason=f"{package} is not installed: it comes with the [export] extra")
    folder = tmp_path_factory.mktemp("fsdd")
    recipe = load_recipe("fsdd-sherpa", ["phase.epochs=5"])
    prepare("fsdd", real_data / "fsdd", folder / "data", dict(recipe.corpus["options"]))
    base = train(recipe, folder / "data", folder / "base", threads=1, progress=False)
    settings = recipe.compression.model_copy(update={"scheme": "ptq", "bits": 5})
    path = carry_out(Job(recipe, folder / "data", base.folder, base.module, folder / "ptq", settings, seed=0))
    return folder / "data", load_model(path)


def test_fsdd_strings_have_our_tokens(trained: tuple[Path, PackedModel], tmp_path: Path) -> None:
    from sottovoce.export import export_sherpa, paths_of
    from sottovoce.export.token_list import token_names
    from sottovoce.export.transcripts import padded, run_sherpa

    data, model = trained
    cuts = list(load_cuts(data, "test"))[:STRINGS]
    sounds = [soundfile.read(cut.recording.sources[0].source, dtype="float32") for cut in cuts]
    rate = sounds[0][1]
    signals = [padded(samples, rate, 32) for samples, _ in sounds]
    together = padded(np.concatenate([samples for samples, _ in sounds]), rate, 32)
    recognizer = Recognizer(model, arithmetic="float")
    ours = [recognizer.transcribe(signal, rate).ids for signal in (*signals, together)]
    names = [name.replace("▁", " ") for name in token_names(Tokenizer(bytes(model.tokenizer or b"")))]
    expected = [[names[i] for i in ids] for ids in ours]
    assert sum(map(len, expected[:-1])) > 2 * STRINGS and len(expected[-1]) > 64

    def found(form: str) -> list[dict[str, object]]:
        export_sherpa(model, tmp_path / form, weights=form)  # type: ignore[arg-type]
        results = run_sherpa([{**paths_of(tmp_path / form), "num_threads": 1}], [*signals, together], rate)
        return results["passes"][0]["results"]  # type: ignore[no-any-return]

    for form in ("codes", "float"):
        tokens = [result["tokens"] for result in found(form)]
        assert tokens[:-1] == expected[:-1], form
        # Beyond 64 tokens the window has lost the start: only up to there must it be the stateful predictor.
        assert tokens[-1][:64] == expected[-1][:64], form  # type: ignore[index]
    references = [cut.supervisions[0].text.split() for cut in cuts]
    words = sum(map(len, references))

    def errors(texts: list[str]) -> int:
        return sum(count_errors(r, text.split()).errors for r, text in zip(references, texts, strict=True))

    float_errors = errors([recognizer.tokenizer.decode(ids) for ids in ours[:-1]])
    for form in ("int8", "int4"):
        # Half of all words wrong would mean that something is broken; rounding alone costs a few.
        assert errors([str(result["text"]) for result in found(form)[:-1]]) < float_errors + 0.1 * words, form
