from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_files import tiny_prepared, tone
from lhotse import CutSet

from sottovoce.data.entries import make_cut
from sottovoce.data.features import DeviceFbank, cached_features, cmvn, load_features
from sottovoce.data.prepared import load_cuts
from sottovoce.errors import ConfigError, DataError
from sottovoce.frontend.fbank import fbank
from sottovoce.frontend.resample import resample
from sottovoce.frontend.settings import FeatureSettings

SETTINGS = FeatureSettings(bins=24)


def test_cached_features_are_those_of_the_device(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 3)
    for cut in cached_features(load_cuts(folder, "train"), folder, SETTINGS):
        samples, _ = soundfile.read(cut.recording.sources[0].source, dtype="float32")
        assert load_features(cut).tobytes() == fbank(samples, SETTINGS).tobytes()
        assert cut.features.num_frames == len(load_features(cut))


def test_segments_and_other_rates_are_cut_and_resampled(tmp_path: Path) -> None:
    path = tone(tmp_path / "long.wav", 2.0, 8_000)
    cut = make_cut("long", path, 16_000, 8_000, "one", "ann").truncate(offset=0.5, duration=1.0)
    (made,) = cached_features(CutSet.from_cuts([cut]), tmp_path, SETTINGS)
    samples, _ = soundfile.read(path, dtype="float32")
    wanted = fbank(resample(samples[4_000:12_000], 8_000, 16_000), SETTINGS)
    assert load_features(made).tobytes() == wanted.tobytes()


def test_each_speed_is_a_copy_of_its_own_length(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 2)
    made = {
        cut.id: cut for cut in cached_features(load_cuts(folder, "train"), folder, SETTINGS, speeds=(1.0, 0.9, 1.1))
    }
    assert len(made) == 6
    plain = load_features(made["train-000"])
    for speed in (0.9, 1.1):
        cut = made[f"train-000_sp{speed}"]
        assert len(load_features(cut)) == pytest.approx(len(plain) / speed, abs=1)
        assert cut.duration == pytest.approx(made["train-000"].duration / speed, abs=1e-3)
        assert cut.supervisions[0].text == made["train-000"].supervisions[0].text


def test_the_cache_is_read_back_and_what_it_was_made_of_decides(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 2)
    cuts = load_cuts(folder, "train")
    first = cached_features(cuts, folder, SETTINGS)
    arrays = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}
    again = cached_features(cuts, folder, SETTINGS)
    assert [cut.to_dict() for cut in again] == [cut.to_dict() for cut in first]
    assert arrays == {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}
    cached_features(cuts, folder, FeatureSettings(bins=25))
    cached_features(cuts, folder, SETTINGS, speeds=(1.1,))
    cached_features(cuts, folder, SETTINGS, noise=(10, 20))
    tone(folder / "audio" / "train" / "train-000.wav", 0.9)
    cached_features(cuts, folder, SETTINGS)
    assert len([x for x in (folder / "features").iterdir() if x.is_dir()]) == 5


def test_an_interrupted_cache_is_computed_anew(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 3)
    cuts = load_cuts(folder, "train")
    first = [load_features(cut) for cut in cached_features(cuts, folder, SETTINGS)]
    (place,) = (x for x in (folder / "features").iterdir() if x.is_dir())
    (place / "cuts.jsonl.gz").unlink()
    damaged = next(place.rglob("*.npy"))
    damaged.write_bytes(b"half")
    second = [load_features(cut) for cut in cached_features(cuts, folder, SETTINGS)]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_noise_depends_on_the_seed_and_the_utterance_alone(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 3)
    cuts = list(load_cuts(folder, "train"))

    def compute(chosen: list[object], seed: int, place: str) -> dict[str, bytes]:
        made = cached_features(chosen, tmp_path / place, SETTINGS, noise=(0, 20), seed=seed)  # type: ignore[arg-type]
        return {cut.id: load_features(cut).tobytes() for cut in made}

    whole, part, other = compute(cuts, 0, "a"), compute(cuts[1:], 0, "b"), compute(cuts, 1, "c")
    assert all(whole[id] == content for id, content in part.items())
    assert all(whole[id] != other[id] for id in whole)


def test_damaged_or_missing_files_are_named(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 2)
    cuts = load_cuts(folder, "train")
    made = cached_features(cuts, folder, SETTINGS)
    for path in folder.rglob("*.npy"):
        path.write_bytes(b"half")
    with pytest.raises(DataError, match="train-000"):
        load_features(next(iter(made)))
    with pytest.raises(DataError, match="no features"):
        load_features(next(iter(cuts)))
    (folder / "audio" / "train" / "train-001.wav").unlink()
    with pytest.raises(DataError, match=r"train-001\.wav: no such audio file"):
        cached_features(cuts, folder, SETTINGS)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    folder = tiny_prepared(tmp_path / "out", 2)
    cuts = list(load_cuts(folder, "train"))
    with pytest.raises(ConfigError, match="names a factor twice"):
        cached_features(cuts, folder, SETTINGS, speeds=(1.0, 1.0))
    with pytest.raises(ConfigError, match="jobs"):
        cached_features(cuts, folder, SETTINGS, jobs=0)
    with pytest.raises(DataError, match="'train-000' occurs twice"):
        cached_features([cuts[0], cuts[0]], folder, SETTINGS)


def test_mean_and_inverse_deviation_are_over_all_frames() -> None:
    source = np.random.default_rng(0)
    parts = [source.normal(3, 2, (n, 5)).astype(np.float32) for n in (4, 30, 7)]
    mean, istd = cmvn(parts)
    frames = np.concatenate(parts)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(istd, 1 / frames.std(axis=0), rtol=1e-5)
    assert mean.dtype == istd.dtype == np.float32
    assert np.isfinite(cmvn([np.ones((3, 2), np.float32)])[1]).all()
    with pytest.raises(DataError, match="no frames"):
        cmvn([])


def test_lhotse_can_use_the_extractor() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (1, 8_000)).astype(np.float32)
    extractor = DeviceFbank(SETTINGS)
    wanted = fbank(resample(samples[0], 8_000, 16_000), SETTINGS)
    assert np.array_equal(extractor.extract(samples, 8_000), wanted)
    assert extractor.feature_dim(8_000) == 24 and extractor.frame_shift == 0.01
    assert DeviceFbank.from_dict(extractor.to_dict()).config == SETTINGS
