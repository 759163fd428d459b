import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.data.espeak import Voice, speak
from sottovoce.data.noise import babble, mix, pink, white
from sottovoce.data.phrases import DIGITS, draw_phrase, vocabulary
from sottovoce.data.prepared import load_cuts
from sottovoce.data.synth import plan_split, prepare_synth, render
from sottovoce.data.voices import voices
from sottovoce.errors import ConfigError, DataError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: no synthetic speech")


def test_two_hundred_voices_and_no_variant_in_two_splits() -> None:
    cast = voices()
    assert {split: len(found) for split, found in cast.items()} == {"train": 160, "dev": 16, "test": 24}
    variants = {split: {voice.variant for voice in found} for split, found in cast.items()}
    assert {split: len(found) for split, found in variants.items()} == {"train": 40, "dev": 8, "test": 12}
    assert len(set.union(*variants.values())) == 60
    assert all(len({voice.name for voice in found}) == len(found) for found in cast.values())


def test_each_voice_says_the_same_bits_again_and_differs_from_the_others() -> None:
    said = set()
    some = [voice for found in voices().values() for voice in found[::4]]
    for voice in some:
        first, rate = speak("one seven", voice, seed=5)
        again, _ = speak("one seven", voice, seed=5)
        assert rate == 22_050 and first.tobytes() == again.tobytes(), voice
        said.add(first.tobytes())
    assert len(said) == len(some) == 50


def test_what_was_said_before_changes_nothing() -> None:
    voice = Voice("en-us", "f3")
    first, _ = speak("call mother", voice, seed=1)
    for other in ("zero", "turn on the lights"):
        speak(other, Voice("en", "m2", rate=300, pitch=90), seed=2)
    again, _ = speak("call mother", voice, seed=1)
    assert first.tobytes() == again.tobytes()
    slower, _ = speak("call mother", Voice("en-us", "f3", rate=100), seed=1)
    assert len(slower) > 1.3 * len(first)


def test_a_voice_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="no voice 'xx-nothing"):
        speak("one", Voice("xx-nothing", "f1"))


def test_without_the_library_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r"pip install 'sottovoce\[demo\]'"):
        speak("one", Voice("en-us", "f3"))


def test_phrases_are_digit_strings_and_commands_of_a_small_vocabulary() -> None:
    source = np.random.default_rng(0)
    drawn = [draw_phrase(source) for _ in range(2_000)]
    known = set(vocabulary())
    assert {word for text in drawn for word in text.split()} == known
    assert 60 <= len(known) <= 100
    digits = [text.split() for text in drawn if set(text.split()) <= {*DIGITS, "oh"}]
    assert 0.4 < len(digits) / len(drawn) < 0.8
    assert {len(text) for text in digits} == {3, 4, 5, 6, 7}
    assert not any({"oh", "zero"} <= set(text) for text in digits)


def sizes(**values: int) -> dict[str, int]:
    return {"train": 6, "dev": 2, "test": 3, **values}


def audio_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.flac")}


def test_the_seed_decides_the_audio_bit_for_bit_whatever_the_size(tmp_path: Path) -> None:
    prepare_synth(tmp_path / "a", **sizes())
    prepare_synth(tmp_path / "b", **sizes(train=4))
    prepare_synth(tmp_path / "c", **sizes(), seed=1)
    a, b, c = (audio_bytes(tmp_path / name) for name in "abc")
    assert len(a) == 11 and len(b) == 9
    assert all(a[name] == content for name, content in b.items())
    assert all(a[name] != content for name, content in c.items())


def test_the_manifest_fits_the_audio_and_the_voices(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    prepared = prepare_synth(tmp_path / "out", **sizes(), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 11) for n in range(1, 12)]
    assert prepared.counts == sizes()
    for split, cast in voices().items():
        for cut in load_cuts(tmp_path / "out", split):
            samples, rate = soundfile.read(cut.recording.sources[0].source)
            assert rate == 16_000 and len(samples) == cut.num_samples and np.abs(samples).max() <= 1.0
            assert cut.supervisions[0].speaker in {voice.name for voice in cast}


def test_a_test_set_can_be_asked_for_by_words(tmp_path: Path) -> None:
    prepared = prepare_synth(tmp_path / "out", **sizes(train=1, dev=1), test_words=30)
    assert 30 <= prepared.words["test"] < 37


def test_asking_again_returns_at_once_and_other_options_are_refused(tmp_path: Path) -> None:
    first = prepare_synth(tmp_path, **sizes(train=1))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert prepare_synth(tmp_path, **sizes(train=1)) == first
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(DataError, match="train=1, now train=2"):
        prepare_synth(tmp_path, **sizes(train=2))


def test_rendering_puts_the_noise_at_the_ratio_asked_for() -> None:
    plan = plan_split("dev", 30, 0, (0.0, 5.0))
    assert {item.noise for item in plan} == {"white", "pink", "babble"}
    assert all(0.0 <= item.snr_db <= 5.0 for item in plan)
    quiet = render(plan_split("dev", 1, 0, (90.0, 90.0))[0])
    noisy = render(plan_split("dev", 1, 0, (0.0, 0.0))[0])
    assert np.square(noisy).mean() > 1.5 * np.square(quiet).mean()
    edge = slice(0, 1_000)  # before the speech begins
    assert np.square(noisy[edge]).mean() > 1e6 * np.square(quiet[edge]).mean()


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_mixing_keeps_the_ratio(snr_db: float) -> None:
    source = np.random.default_rng(0)
    speech = (0.1 * np.sin(np.arange(20_000))).astype(np.float32)
    talkers = [white(5_000, source), pink(3_000, source)]
    for noise in (white(20_000, source), pink(20_000, source), babble(20_000, talkers, source)):
        added = mix(speech, noise, snr_db) - speech
        found = 10 * np.log10(np.square(speech).mean() / np.square(added).mean())
        assert found == pytest.approx(snr_db, abs=0.2)


def test_pink_noise_falls_by_3_db_an_octave() -> None:
    power = np.abs(np.fft.rfft(pink(1 << 16, np.random.default_rng(0)))) ** 2
    low, high = power[500:1_000].mean(), power[4_000:8_000].mean()
    assert 10 * np.log10(low / high) == pytest.approx(9.03, abs=0.5)


@pytest.mark.parametrize(
    "options", [{"train": 0}, {"test": 1.5}, {"snr_db": [30, 10]}, {"snr_db": 5}, {"test_words": 0}, {"seed": True}]
)
def test_bad_options_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        prepare_synth(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
