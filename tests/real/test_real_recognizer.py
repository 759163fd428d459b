"""From real speech to five bits, measured by running the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.data.prepare import prepare
from sottovoce.data.prepared import load_cuts
from sottovoce.evaluation.results import score_hypotheses
from sottovoce.evaluation.wer import total
from sottovoce.packed import file_sizes
from sottovoce.runtime import Recognizer
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import CompressionConfig, load_recipe
from sottovoce.training.scoring import transcribe_split
from sottovoce.training.train import train

pytestmark = pytest.mark.real


@pytest.mark.slow
def test_digits_are_learnt_and_kept_at_eight_and_five_bits(real_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepared = prepare("fsdd", real_data / "fsdd", data, {"split": "official", "train_strings": 1200})
    assert not prepared.skipped and prepared.words["test"] == 250
    recipe = load_recipe("fsdd-small", ["phase.epochs=5", "data.epoch_strings=1200", "compression.phase.epochs=1"])
    base = train(recipe, data, tmp_path / "base", threads=1, progress=False)
    wer = {"fp32": total(score_hypotheses(transcribe_split(base.model, data, "test"))).wer}
    # Three stacked runs of this size reach about 10 %; half of all words wrong would mean that something is broken.
    assert wer["fp32"] < 50
    for name, bits, scheme in (("int8", 8, "ptq"), ("ptq", 5, "ptq"), ("s8bqat", 5, "s8bqat")):
        settings = CompressionConfig(bits=bits, scheme=scheme, phase=recipe.compression.phase)  # type: ignore[arg-type]
        model = carry_out(Job(recipe, data, base.folder, base.module, tmp_path / name, settings, seed=0))
        wer[name] = total(score_hypotheses(transcribe_split(model, data, "test"))).wer
        sizes = file_sizes(model)
        assert sizes.model_bytes < sizes.fp32_bytes * bits / 32 * 1.1
    assert abs(wer["int8"] - wer["fp32"]) < 3 and wer["ptq"] < wer["fp32"] + 8 and wer["s8bqat"] < wer["fp32"] + 8

    recognizer = Recognizer(tmp_path / "s8bqat" / "model.safetensors")
    for cut in list(load_cuts(data, "test"))[:5]:
        samples, rate = soundfile.read(cut.recording.sources[0].source, dtype="float32")
        whole = recognizer.transcribe(samples, rate)
        stream = recognizer.create_stream()
        for piece in np.array_split(samples, 7):
            stream.accept_waveform(rate, piece)
            recognizer.decode_stream(stream)
        stream.input_finished()
        recognizer.decode_stream(stream)
        assert recognizer.get_result(stream) == whole
