import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.data.corpora.swda import read_swda, read_swda_turns
from sottovoce.data.corpora.swda_synth import Conditions, plan_talks, prepare_swda_synth
from sottovoce.data.prepare import prepare
from sottovoce.data.prepared import load_cuts
from sottovoce.data.room import Room, reverberate
from sottovoce.data.talks import render
from sottovoce.data.text_folder import read_text
from sottovoce.data.utterances import split_texts
from sottovoce.data.voices import voices
from sottovoce.errors import ConfigError, DataError

SAID = ("Uh-huh.", "I've, uh,", "<laughter>", "as far as I'm concerned, yes.", "No.")


def swda(folder: Path, train: int = 8) -> Path:
    for split, first, count in (("train", 2000, train), ("val", 4000, 2)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            said = [text if text.startswith("<") else f"{text} {'go on ' * i}" for text in SAID]
            lines = [f"{'AB'[k % 2]}|{text}|sd\n" for k, text in enumerate(said)]
            (folder / split / f"{first + i}.txt").write_text("".join(lines))
    return folder


def plan(folder: Path, seed: int = 0, **sizes: int):  # type: ignore[no-untyped-def]
    turns = read_swda_turns(folder, dev_conversations=3)[1]
    conditions = {"train": Conditions(), "dev": Conditions(snr_db=(3, 4)), "test": Conditions(snr_db=(3, 4))}
    return plan_talks(turns, {"train": 9, "dev": 2, "test": 2, **sizes}, seed, conditions)


def audio_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.flac")}


def test_turns_are_the_sentences_of_the_text_corpus_with_their_speakers(tmp_path: Path) -> None:
    corpus, turns = read_swda_turns(swda(tmp_path), dev_conversations=3)
    assert corpus == read_swda(tmp_path, dev_conversations=3)
    assert {s: tuple(t.conversation for t in found) for s, found in turns.items()} == corpus.splits
    assert turns["validation"][0].speakers == ("A", "B", "B", "A")  # laughter alone is no sentence
    assert all(len(t.speakers) == len(t.conversation.sentences) for found in turns.values() for t in found)


def test_what_is_said_is_the_language_models_held_out_text(tmp_path: Path) -> None:
    corpus = read_text("swda", swda(tmp_path), {"dev_conversations": 3})
    ids = {split: {c.id for c in corpus.split(split)} for split in corpus.splits}
    said: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    texts = {c.id: c.sentences for split in corpus.splits for c in corpus.split(split)}
    for talk in plan(tmp_path):
        said[talk.split].add(talk.id)
        numbers = [int(u.id.split("-")[1]) for u in talk.utterances]
        assert numbers == sorted(numbers) and [u.id for u in talk.utterances] == sorted(u.id for u in talk.utterances)
        assert [u.text for u in talk.utterances] == [texts[talk.id][number] for number in numbers]
        if talk.split != "train":
            assert len(numbers) == len(texts[talk.id])
    assert said["train"] <= ids["train"] and said["dev"] < ids["dev"] and said["test"] == ids["validation"]


def test_speakers_have_a_voice_of_their_split_and_a_room_each(tmp_path: Path) -> None:
    for talk in plan(swda(tmp_path)):
        sides = {u.id[-1]: u.side for u in talk.utterances}
        assert all(u.side == sides[u.id[-1]] for u in talk.utterances)
        assert len({side.voice.name for side in sides.values()}) == len(sides)
        assert {side.voice.name for side in sides.values()} <= {voice.name for voice in voices()[talk.split]}
        assert all(0.1 <= side.room.t60 <= 0.4 and 3 <= side.room.drr_db <= 18 for side in sides.values())
        assert len({u.snr_db for u in talk.utterances}) == len(talk.utterances)
        low, high = (10, 40) if talk.split == "train" else (3, 4)
        assert all(low <= u.snr_db <= high for u in talk.utterances)


def test_a_larger_set_holds_the_smaller_one(tmp_path: Path) -> None:
    small, large = plan(swda(tmp_path), train=5, dev=1), plan(tmp_path, train=12)
    assert sum(len(talk.utterances) for talk in small if talk.split == "train") == 5
    said = {u.id: u for talk in large for u in talk.utterances}
    assert all(said[u.id] == u for talk in small for u in talk.utterances)
    other = {u.id for talk in plan(tmp_path, seed=1, train=5) for u in talk.utterances}
    assert other != {u.id for talk in plan(tmp_path, train=5) for u in talk.utterances}


def test_the_sound_falls_by_60_db_in_t60_and_the_walls_return_what_is_asked_for() -> None:
    rate, room = 16_000, Room(t60=0.5, drr_db=3.0)
    response = room.response(rate, np.random.default_rng(0)).astype(np.float64)
    assert response[0] == 1 and not response[1:40].any() and response[40] != 0
    assert 10 * np.log10(np.square(response[1:]).sum()) == pytest.approx(-3.0, abs=1e-3)
    power = np.square(response[40:]).reshape(-1, 199).mean(axis=1)  # 40 blocks
    slope = np.polyfit(np.arange(len(power)) * 199 / rate, 10 * np.log10(power), 1)[0]
    assert slope == pytest.approx(-60 / 0.5, rel=0.1)


def test_reverberation_is_convolution() -> None:
    source = np.random.default_rng(1)
    for samples, taps in ((50, 7), (7, 50), (64, 1)):
        speech, response = (source.standard_normal(n).astype(np.float32) for n in (samples, taps))
        assert reverberate(speech, response) == pytest.approx(np.convolve(speech, response)[:samples], abs=1e-5)


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed: no synthetic speech")
    return swda(tmp_path / "swda", train=5)


def options(**values: object) -> dict[str, object]:
    return {"train": 6, "dev": 1, "test": 1, "dev_conversations": 2, **values}


def test_a_recording_is_a_conversation_and_cuts_fit_what_was_said(spoken: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    out = tmp_path / "out"
    prepared = prepare("swda-synth", spoken, out, options(), progress=lambda done, total: steps.append((done, total)))
    assert prepared.counts == {"train": 6, "dev": 4, "test": 4} and steps[-1] == (14, 14)
    corpus = read_swda(spoken, dev_conversations=2)
    assert prepared.details["text"] == {"normalization": "spoken", "fingerprint": corpus.fingerprint()}
    tests = list(load_cuts(out, "test"))
    assert {cut.recording_id for cut in tests} == set(prepared.details["conversations"]["test"])
    assert split_texts(out, "test") == list(
        next(c for c in corpus.split("validation") if c.id == tests[0].recording_id).sentences
    )
    assert tests[0].start == 0 and [a.end for a in tests[:-1]] == [b.start for b in tests[1:]]
    samples, rate = soundfile.read(tests[0].recording.sources[0].source)
    assert rate == 16_000 and len(samples) == round(tests[-1].end * rate) and np.abs(samples).max() <= 1.0


def test_the_seed_decides_the_audio_whatever_the_number_of_processes(spoken: Path, tmp_path: Path) -> None:
    prepare("swda-synth", spoken, tmp_path / "a", options())
    prepare("swda-synth", spoken, tmp_path / "b", options(jobs=2))
    prepare("swda-synth", spoken, tmp_path / "c", options(), seed=1)
    a, b, c = (audio_bytes(tmp_path / name) for name in "abc")
    assert a == b and all(c[name] != a[name] for name in a.keys() & c.keys())


def test_an_interrupted_preparation_goes_on_where_it_was(
    spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare("swda-synth", spoken, tmp_path / "whole", options())
    made: list[str] = []

    def broken(utterance, babblers):  # type: ignore[no-untyped-def]
        made.append(utterance.id)
        if len(made) == 8:
            raise KeyboardInterrupt
        return render(utterance, babblers)

    monkeypatch.setattr("sottovoce.data.talks.render", broken)
    with pytest.raises(KeyboardInterrupt):
        prepare("swda-synth", spoken, tmp_path / "out", options())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.flac")}
    assert before
    prepared = prepare("swda-synth", spoken, tmp_path / "out", options())
    assert prepared.counts["train"] == 6 and audio_bytes(tmp_path / "out") == audio_bytes(tmp_path / "whole")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    whole = {path.stem for path in before}
    assert made[8:] and not any(id.split("-")[0] in whole for id in made[8:])


def test_other_options_begin_anew_and_damage_is_named(
    spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as broken:
        broken.setattr("sottovoce.data.corpora.swda_synth.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare("swda-synth", spoken, out, options())
    damaged = next((out / "audio" / "test").glob("*.json"))
    damaged.write_text(json.dumps([0, 1]))
    with pytest.raises(DataError, match=rf"{damaged.name}: expected 5 places, found others; delete it"):
        prepare("swda-synth", spoken, out, options())
    damaged.write_text("[0, ")
    with pytest.raises(DataError, match=rf"{damaged.name}: damaged .* delete it"):
        prepare("swda-synth", spoken, out, options())
    assert prepare("swda-synth", spoken, out, options(train=7)).counts["train"] == 7
    with pytest.raises(DataError, match="prepared with train=7, now train=6"):
        prepare("swda-synth", spoken, out, options())


@pytest.mark.parametrize(
    "bad",
    [
        {"train": 0},
        {"dev": 1.5},
        {"snr_db": [30, 10]},
        {"eval_snr_db": [1]},
        {"t60": [0, 1]},
        {"drr_db": 3},
        {"jobs": 0},
    ],
)
def test_bad_options_are_refused(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        prepare_swda_synth(swda(tmp_path / "swda"), tmp_path / "out", **bad)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="swda-synth needs --source"):
        prepare("swda-synth", None, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"has no option 'dev_conversation'.*did you mean"):
        prepare("swda-synth", tmp_path, tmp_path / "out", {"dev_conversation": 3})
