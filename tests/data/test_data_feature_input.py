"""Corpora that come as features: served as they are, from training to the packed file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from an4_files import an4_corpus, cepstra, write_mfc
from corpus_files import tiny_prepared

from sottovoce.data.augment import AugmentConfig
from sottovoce.data.corpora.an4 import prepare_an4
from sottovoce.data.datamodule import DataConfig, SpeechDataModule
from sottovoce.data.inputs import check_input, input_of
from sottovoce.data.prepared import load_cuts
from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.data.utterances import split_utterances
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.packed import load_model
from sottovoce.runtime import ModelInput, Recognizer
from sottovoce.training.arms import Job, carry_out
from sottovoce.training.config import parse_recipe
from sottovoce.training.run import data_hash
from sottovoce.training.scoring import transcribe_split
from sottovoce.training.train import train

CEPSTRA = ModelInput(13, 100.0, None)
WAVEFORM = ModelInput.from_dict({"kind": "waveform", **FeatureSettings().to_dict()})
CONFIG = DataConfig(max_duration=3.0, buckets=2, augment=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("given")
    prepare_an4(an4_corpus(place / "an4"), place / "out", dev_share=0.15)
    return place / "out"


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prepared(tmp_path_factory.mktemp("waveforms") / "tiny", 8)


def build(folder: Path, config: DataConfig = CONFIG, model_input: ModelInput | None = None) -> SpeechDataModule:
    texts = [cut.supervisions[0].text for cut in load_cuts(folder, "train")]
    tokenizer = Tokenizer(train_tokenizer(texts, kind="char", vocabulary=16))
    return SpeechDataModule(folder, tokenizer, model_input, config)


def test_batches_hold_the_features_of_the_corpus_and_nothing_is_computed(folder: Path) -> None:
    module = build(folder)
    assert module.model_input == CEPSTRA
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        for batch in loader:
            for row, id in enumerate(batch["ids"]):
                length = int(batch["feature_lengths"][row])
                assert torch.equal(batch["features"][row, :length], torch.from_numpy(cepstra(id)))
    assert not (folder / "features").exists()
    mean, istd = module.cmvn()
    frames = np.concatenate([cepstra(cut.id) for cut in module.cuts("train")])
    np.testing.assert_allclose(1 / istd, frames.std(axis=0), rtol=1e-3)
    np.testing.assert_allclose(mean, frames.mean(axis=0), atol=1e-5)


def test_what_a_folder_holds_is_said_in_one_place(folder: Path, waveforms: Path) -> None:
    assert input_of(folder) == {"kind": "features", "dim": 13, "rate": 100.0}
    assert input_of(waveforms) == {"kind": "waveform", **FeatureSettings().to_dict()}
    check_input(waveforms, ModelInput.from_dict({"kind": "waveform", **FeatureSettings(bins=16).to_dict()}))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (WAVEFORM, "holds features of 13 values, 100 frames a second, and the model takes waveforms"),
        (replace(CEPSTRA, dim=40), "holds features of 13 values.*takes features of 40 values"),
        (replace(CEPSTRA, rate=50.0), "100 frames a second, and the model takes .* 50 frames a second"),
    ],
)
def test_a_model_of_another_input_is_refused(folder: Path, wanted: ModelInput, message: str) -> None:
    for attempt in (lambda: build(folder, model_input=wanted), lambda: split_utterances(folder, "test", wanted)):
        with pytest.raises(DataError, match=message):
            attempt()


def test_a_model_of_features_is_refused_on_waveforms(waveforms: Path) -> None:
    with pytest.raises(DataError, match="holds waveforms, and the model takes features of 13 values"):
        build(waveforms, model_input=CEPSTRA)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(CONFIG, speeds=(0.9, 1.0)), r"^data\.speeds: .*slowest and fastest"),
        (replace(CONFIG, noise_db=(0, 20)), r"^data\.noise_db: .*augment\.noise"),
    ],
)
def test_options_on_waveforms_are_refused(folder: Path, config: DataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(folder, config)


def test_a_cepstral_warp_of_filterbanks_is_refused_at_once(waveforms: Path) -> None:
    with pytest.raises(ConfigError, match=r"augment\.cepstrum_filters"):
        build(waveforms, replace(CONFIG, augment=AugmentConfig(vtlp=0.1, vtlp_domain="cepstrum")))


def test_utterances_are_those_of_the_split(folder: Path) -> None:
    found = split_utterances(folder, "test", CEPSTRA)
    assert [u.id for u in found] == sorted(cut.id for cut in load_cuts(folder, "test"))
    assert all(np.array_equal(u.features, cepstra(u.id)) and u.recording == u.id for u in found)
    assert {u.speaker for u in found} == {"fcaw", "mdms2"}


def test_the_manifests_are_bound_to_the_content_of_the_arrays(tmp_path: Path) -> None:
    source, out = an4_corpus(tmp_path / "an4"), tmp_path / "out"
    hashes = []
    for change in (0.0, 0.0, 0.5):
        write_mfc(source / "feat/an4_clstk/fash/an0-fash-b.mfc", cepstra("an0-fash-b") + np.float32(change))
        shutil.rmtree(out, ignore_errors=True)
        prepare_an4(source, out)
        hashes.append(data_hash(out))
    assert hashes[0] == hashes[1] != hashes[2]
    for path in (out / "arrays").rglob("*.npy"):
        np.save(path, np.load(path) + np.float32(1))
    with pytest.raises(DataError, match="not those that the manifest names; prepare the data again"):
        split_utterances(out, "test", CEPSTRA)


def test_a_damaged_description_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    marker = tmp_path / "copy" / "prepared.json"
    for bad in ({"kind": "features", "dim": 0, "rate": 100}, {"kind": "video"}, 7):
        values = json.loads(marker.read_text())
        values["details"]["input"] = bad
        marker.write_text(json.dumps(values))
        with pytest.raises(DataError, match=r"prepared\.json: .*; prepare the data again"):
            input_of(tmp_path / "copy")


def test_a_recognizer_is_trained_compressed_and_run_on_features(folder: Path, waveforms: Path, tmp_path: Path) -> None:
    augmented = {"frequency_masks": 0, "normalized": True, "vtlp": 0.1, "vtlp_domain": "cepstrum", "concatenate": 0.5}
    phase = {"epochs": 1, "learning_rate": 5e-3, "warmup_steps": 2}
    recipe = parse_recipe(
        {
            "name": "given",
            "tokenizer": {"kind": "char", "vocabulary": 12},
            "data": {"max_duration": 5.0, "augment": augmented},
            "model": {"encoder_units": 8, "embedding": 4, "predictor_units": 6, "joiner_units": 8, "stack": 3},
            "phase": phase,
            "compression": {"bits": 4, "phase": phase},
        },
        "test",
    )
    base = train(recipe, folder, tmp_path / "base", progress=False)
    job = Job(recipe, folder, base.folder, base.module, tmp_path / "arm", recipe.compression, seed=0)
    model = carry_out(job)
    for path in (base.model, model):
        packed = load_model(path)
        assert packed.input == {"kind": "features", "dim": 13, "rate": 100.0}
        assert packed.architecture["features"] == 13
    assert len(transcribe_split(model, folder, "test")) == 8
    with pytest.raises(DataError, match="takes features"):
        Recognizer(model).transcribe(np.zeros(16_000, np.float32), 16_000)
    with pytest.raises(DataError, match="holds waveforms"):
        transcribe_split(model, waveforms, "test")
    with pytest.raises(DataError, match="holds waveforms"):
        carry_out(replace(job, data=waveforms, folder=tmp_path / "other"))
