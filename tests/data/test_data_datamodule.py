from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from corpus_files import tiny_prepared

from sottovoce.data.augment import AugmentConfig
from sottovoce.data.datamodule import DataConfig, SpeechDataModule
from sottovoce.data.dataset import Batch
from sottovoce.data.features import load_features
from sottovoce.data.prepared import load_cuts
from sottovoce.data.tokenizer import train_tokenizer
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.runtime import ModelInput

CONFIG = DataConfig(max_duration=5.0, buckets=3)
INPUT = ModelInput.from_dict({"kind": "waveform", **FeatureSettings(bins=16).to_dict()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prepared(tmp_path_factory.mktemp("data") / "tiny", 40)


def build(folder: Path, config: DataConfig = CONFIG) -> SpeechDataModule:
    texts = [cut.supervisions[0].text for cut in load_cuts(folder, "train")]
    return SpeechDataModule(folder, Tokenizer(train_tokenizer(texts, vocabulary=30)), INPUT, config)


def epoch(module: SpeechDataModule, number: int = 0) -> list[Batch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(loader)


def same(a: list[Batch], b: list[Batch]) -> bool:
    pairs = zip(a, b, strict=True)
    return [x["ids"] for x in a] == [y["ids"] for y in b] and all(
        torch.equal(x["features"], y["features"]) for x, y in pairs
    )


def test_batches_hold_what_they_say(folder: Path) -> None:
    module = build(folder, replace(CONFIG, augment=None))
    cuts = {cut.id: cut for cut in module.cuts("train")}
    seen: list[str] = []
    for batch in epoch(module):
        size = len(batch["ids"])
        assert batch["features"].dtype == torch.float32 and batch["tokens"].dtype == torch.int64
        assert batch["features"].shape == (size, int(batch["feature_lengths"].max()), 16)
        assert batch["tokens"].shape == (size, int(batch["token_lengths"].max()))
        for row, id in enumerate(batch["ids"]):
            frames, units = int(batch["feature_lengths"][row]), int(batch["token_lengths"][row])
            assert torch.equal(batch["features"][row, :frames], torch.from_numpy(load_features(cuts[id])))
            assert (batch["features"][row, frames:] == 0).all() and (batch["tokens"][row, units:] == 0).all()
            assert module.tokenizer.decode(batch["tokens"][row, :units].tolist()) == batch["texts"][row]
            assert batch["texts"][row] == cuts[id].supervisions[0].text
            assert batch["speakers"][row] == cuts[id].supervisions[0].speaker
        seconds = size * max(cuts[id].duration for id in batch["ids"])
        assert seconds <= CONFIG.max_duration or size == 1
        seen += batch["ids"]
    assert sorted(seen) == sorted(cuts)


def test_the_same_seed_gives_the_same_batches_each_time_it_is_built(folder: Path) -> None:
    first, second = build(folder), build(folder)
    zero = epoch(first)
    assert same(zero, epoch(second))
    assert same(epoch(first, 3), epoch(second, 3))
    assert not same(zero, epoch(first, 1))
    assert not same(zero, epoch(build(folder, replace(CONFIG, seed=1))))


def test_workers_and_lazy_reading_change_nothing(folder: Path) -> None:
    wanted = epoch(build(folder), 1)
    lazy = build(folder, replace(CONFIG, memory_gb=0.0))
    assert not lazy.store("train").in_memory and build(folder).store("train").in_memory
    assert same(wanted, epoch(lazy, 1))


@pytest.mark.slow
def test_worker_processes_change_nothing(folder: Path) -> None:
    assert same(epoch(build(folder), 1), epoch(build(folder, replace(CONFIG, workers=1)), 1))


def test_augmentation_changes_with_the_epoch_even_for_the_same_batch(folder: Path) -> None:
    config = DataConfig(max_duration=1e6, augment=AugmentConfig(noise=0.5))
    module = build(folder, config)
    loader = module.train_dataloader()
    by_epoch = []
    for number in (0, 1):
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        rows = {id: b["features"][i, 0] for b in loader for i, id in enumerate(b["ids"])}
        by_epoch.append(rows)
    assert all(not torch.equal(by_epoch[0][id], by_epoch[1][id]) for id in by_epoch[0])


def test_an_epoch_of_strings_is_drawn_anew_and_counted(folder: Path) -> None:
    module = build(folder, replace(CONFIG, epoch_strings=15, speeds=(1.0, 0.9)))
    assert len(module.cuts("train")) == 80
    drawn = [[id for batch in epoch(module, number) for id in batch["ids"]] for number in (0, 1)]
    assert [len(set(ids)) for ids in drawn] == [15, 15]
    assert set(drawn[0]) != set(drawn[1])
    assert module.num_batches(2) == len(epoch(module, 0)) + len(epoch(module, 1))
    assert module.num_batches_per_epoch == len(epoch(module, 0))


def test_dev_and_test_are_whole_and_unchanged(folder: Path) -> None:
    module = build(folder, replace(CONFIG, max_cuts=3, speeds=(1.0, 1.1)))
    for split, loader in (("dev", module.val_dataloader()), ("test", module.test_dataloader())):
        batches = list(loader)
        ids = [id for batch in batches for id in batch["ids"]]
        assert sorted(ids) == sorted(cut.id for cut in load_cuts(folder, split))
        assert [len(batch["ids"]) for batch in batches] == [3, 1]
        lengths = [n for batch in batches for n in batch["feature_lengths"].tolist()]
        assert lengths == sorted(lengths)


def test_the_sampler_goes_on_where_it_was_stopped(folder: Path) -> None:
    module = build(folder)
    sampler = module.train_sampler()
    sampler.set_epoch(2)
    rest = [[cut.id for cut in batch] for batch in sampler][3:]
    stopped = module.train_sampler()
    stopped.set_epoch(2)
    walk = iter(stopped)
    for _ in range(3):
        next(walk)
    resumed = module.train_sampler()
    resumed.load_state_dict(stopped.state_dict())
    assert [[cut.id for cut in batch] for batch in resumed] == rest


def test_ranks_share_the_strings_out(folder: Path) -> None:
    from sottovoce.data.sampling import EpochSampler

    cuts = build(folder).cuts("train")
    ids = []
    for rank in range(2):
        sampler = EpochSampler(cuts, max_duration=5.0, strings=20, world_size=2, rank=rank)
        ids.append({cut.id for batch in sampler for cut in batch})
    assert not ids[0] & ids[1]


class Recorder(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[str]]] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["ids"]))
        return self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_advances_the_epoch(folder: Path, tmp_path: Path) -> None:
    recorder, module = Recorder(), build(folder)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, datamodule=module)
    for number in (0, 1):
        assert [ids for e, ids in recorder.seen if e == number] == [b["ids"] for b in epoch(module, number)]


def test_the_mean_is_of_training_features_only(folder: Path) -> None:
    module = build(folder)
    frames = torch.cat([torch.from_numpy(load_features(cut)) for cut in module.cuts("train")]).double()
    mean, istd = module.cmvn()
    torch.testing.assert_close(torch.from_numpy(mean).double(), frames.mean(dim=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        1 / torch.from_numpy(istd).double(), frames.std(dim=0, correction=0), atol=1e-4, rtol=1e-4
    )


def test_the_configuration_survives_a_round_trip_and_refuses_nonsense() -> None:
    config = DataConfig(speeds=(0.9, 1.0), noise_db=(0, 20), augment=AugmentConfig(noise=0.3), epoch_strings=9)
    assert DataConfig.from_dict(config.to_dict()) == config
    assert DataConfig.from_dict({"augment": None}).augment is None
    for values in ({"max_duration": 0}, {"speeds": [3.0]}, {"workers": -1}, {"batch": 2}, {"noise_db": [9, 1]}):
        with pytest.raises(ConfigError, match="data"):
            DataConfig.from_dict(values)


def test_what_a_faster_copy_would_make_too_short_is_left_out_of_training(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "tiny", 40)
    augment = AugmentConfig(slowest=0.9, fastest=1.25, time_masks=0, frequency_masks=0)
    texts = [cut.supervisions[0].text for cut in load_cuts(folder, "train")]
    tokenizer = Tokenizer(train_tokenizer(texts, vocabulary=30))
    module = SpeechDataModule(folder, tokenizer, INPUT, replace(CONFIG, augment=augment), min_frames=64)
    frames = [cut.features.num_frames for cut in module.cuts("train")]
    assert 80 <= min(frames) < 95
    assert min(cut.features.num_frames for cut in module.cuts("dev")) < 80  # never made faster
    assert min(int(batch["feature_lengths"].min()) for batch in epoch(module)) >= 64


def test_one_training_utterance_is_too_few(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "tiny", 1)
    with pytest.raises(DataError, match="train has one utterance"):
        build(folder).cuts("train")
