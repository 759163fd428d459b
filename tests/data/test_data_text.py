"""Text corpora in the layouts of their public copies, as small trees made here; vocabularies; batches."""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.data.prepare import prepare
from sottovoce.data.text import Conversation, TextCorpus
from sottovoce.data.text_batches import IGNORED, TextBatches, TextDataConfig, TextSampler, make_stream
from sottovoce.data.text_folder import open_text, read_text
from sottovoce.data.words import check_coverage, choose_words, count_words, read_words, word_list, write_words
from sottovoce.decoding.vocabulary import WordList
from sottovoce.errors import ConfigError, DataError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def swda(folder: Path, train: int = 30, **more: str) -> Path:
    for i in range(train):
        write(folder / "train" / f"{2000 + i}.txt", f"A|Uh-huh, I'm {i}.|b\nB|<laughter>|x\nA|No.|sd\n")
    write(folder / "val" / "3000.txt", "A|Um, all right.|fo_o\n")
    for name, text in more.items():
        write(folder / name / "4000.txt", text)
    return folder


def test_swda_cuts_dev_from_training_conversations_by_their_numbers(tmp_path: Path) -> None:
    corpus = read_text("swda", swda(tmp_path / "a"), {"dev_conversations": 4})
    assert corpus.reported == "validation" and list(corpus.splits) == ["train", "dev", "validation"]
    assert [len(corpus.split(s)) for s in corpus.splits] == [26, 4, 1]
    assert corpus.split("validation")[0].sentences == ("um all right",)
    assert corpus.split("train")[0].sentences[1:] == ("no",)  # laughter alone is no sentence
    dev = {c.id for c in corpus.split("dev")}
    more = read_text(
        "swda", swda(tmp_path / "b" / "swda_data", 40, test="A|Yes.|aa\n").parent, {"dev_conversations": 4}
    )
    assert more.split("test")[0].sentences == ("yes",)
    assert len(dev & {c.id for c in more.split("dev")}) >= 2  # those that left were beaten, not reshuffled
    assert not {c.id for c in more.split("dev")} & {c.id for c in more.split("train")}
    assert (
        corpus.fingerprint()
        != more.fingerprint()
        == read_text("swda", tmp_path / "b", {"dev_conversations": 4}).fingerprint()
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [("A|two fields", r"2000\.txt:1: expected Speaker\|Utterance\|Tag, found 2 fields"), ("", "no text for train")],
)
def test_swda_of_another_layout_is_refused(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path / "train" / "2000.txt", line)
    with pytest.raises(DataError, match=message):
        read_text("swda", tmp_path)
    with pytest.raises(DataError, match="expected a folder, found nothing"):
        read_text("swda", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="swda has no option 'dev'"):
        read_text("swda", tmp_path, {"dev": 3})
    with pytest.raises(ConfigError, match=r"there is no text corpus 'swd'.*did you mean 'swda'"):
        read_text("swd", tmp_path)


def test_ptb_and_wikitext(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(
            tmp_path / "p" / "simple-examples" / "data" / f"ptb.{split}.txt",
            f" no it was n't <unk> N {split} \n\n a b\n",
        )
        write(
            tmp_path / "w" / f"wiki.{split}.tokens",
            f" \n = Title = \n\n Text of {split} @-@ \n = = Part = = \n = B = \n x \n",
        )
    ptb = read_text("ptb", tmp_path / "p")
    assert ptb.split("dev")[0].sentences == ("no it was n't <unk> N valid", "a b") and len(ptb.split("test")) == 1
    wiki = read_text("wikitext", tmp_path / "w")
    assert [c.id for c in wiki.split("train")] == ["= Title =", "= B ="]
    assert wiki.split("train")[0].sentences == ("= Title =", "Text of train @-@", "= = Part = =")
    assert (ptb.reported, wiki.reported, wiki.normalization) == ("test", "test", "plain")
    with pytest.raises(DataError, match=r"ptb\.train\.txt: cannot be read"):
        read_text("ptb", tmp_path / "w")


def test_librispeech_text_with_and_without_the_spoken_parts(tmp_path: Path) -> None:
    write(tmp_path / "librispeech-lm-norm.txt.gz", "".join(f"LINE NUMBER {i}\n" for i in range(400)))
    alone = read_text("librispeech_text", tmp_path, {"dev_share": 0.1, "lines": 300})
    sizes = [len(alone.split(split)[0].sentences) for split in ("train", "dev")]
    assert sum(sizes) == 300 and 10 < sizes[1] < 60 and alone.reported == "dev"
    assert alone.split("train")[0].sentences[0].startswith("line number")
    for part in ("dev-clean", "test-other"):
        write(
            tmp_path / "LibriSpeech" / part / "1" / "2" / "1-2.trans.txt", f"1-2-0000 SAID IN {part}\n1-2-0001 AND ON\n"
        )
    spoken = read_text("librispeech_text", tmp_path)
    assert spoken.split("dev")[0] == Conversation("1-2", ("said in dev-clean", "and on"))
    assert spoken.reported == "test" and len(spoken.split("train")[0].sentences) == 400


def test_switchboard_and_fisher(tmp_path: Path) -> None:
    isip = tmp_path / "swb_ms98_transcriptions" / "20" / "2001"
    write(
        isip / "sw2001A-ms98-a-trans.text",
        "sw2001A-ms98-a-0001 0.0 0.9 [silence]\nsw2001A-ms98-a-0002 5.0 6.0 hi [laughter-um]\n",
    )
    write(isip / "sw2001B-ms98-a-trans.text", "sw2001B-ms98-a-0001 1.5 3.0 th[at]- they're them_1\n")
    for i in range(3):
        write(
            tmp_path / "fe_03_p1_tran" / "data" / "trans" / "000" / f"fe_03_0000{i}.txt",
            f"# fe_03_0000{i}.sph\n# Transcribed by\n\n1.2 2.0 B: later {i}\n0.1 1.0 A: ((hello)) [noise]\n",
        )
    corpus = read_text("swbd_fisher", tmp_path, {"dev_conversations": 1})
    found = {c.id: c.sentences for split in ("train", "dev") for c in corpus.split(split)}
    assert found["sw2001"] == ("they're them", "hi um") and found["fe_03_00001"] == ("hello", "later 1")
    assert len(found) == 4 and len(corpus.split("dev")) == 1
    write(tmp_path / "fe_03_00009.txt", "0.1 1.0 hello\n")
    with pytest.raises(DataError, match=r"fe_03_00009\.txt:1: expected start, end and A: or B:"):
        read_text("swbd_fisher", tmp_path)
    with pytest.raises(DataError, match=r"expected sw\*-ms98-a-trans.text or fe_03"):
        read_text("swbd_fisher", isip.parent / "2001" / "..", {}) if (isip / "x").exists() else read_text(
            "swbd_fisher", _empty(tmp_path)
        )


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_ami(tmp_path: Path) -> None:
    meetings = {"ES2002a": "train", "ES2011a": "dev", "ES2004a": "test"}
    nite = 'xmlns:nite="http://nite.sourceforge.net/"'
    speakers = "".join(
        f'<meeting observation="{m}"><speaker nxt_agent="A" global_name="MEE{i}" channel="0"/>'
        f'<speaker nxt_agent="B" global_name="FEE{i}" channel="1"/></meeting>'
        for i, m in enumerate(meetings)
    )
    write(tmp_path / "corpusResources" / "meetings.xml", f"<root {nite}>{speakers}</root>")
    for meeting in meetings:
        for speaker, start in (("A", 4.0), ("B", 1.0)):
            write(
                tmp_path / "segments" / f"{meeting}.{speaker}.segments.xml",
                f'<root {nite}><segment transcriber_start="{start}" transcriber_end="{start + 3}"/></root>',
            )
            said = ["Okay", ".", "It's", "Mm-hmm", "."]
            words = "".join(
                f'<w starttime="{start + 0.5 * i}" endtime="{start + 0.5 * i + 0.4}"'
                f"{' punc=' + chr(34) + 'true' + chr(34) if w == '.' else ''}>{w}</w>"
                for i, w in enumerate(said)
            )
            write(tmp_path / "words" / f"{meeting}.{speaker}.words.xml", f"<root {nite}>{words}<vocalsound/></root>")
    corpus = read_text("ami_text", tmp_path)
    for meeting, split in meetings.items():
        assert corpus.split(split) == (Conversation(meeting, ("okay", "it's mm hmm") * 2),)
    with pytest.raises(DataError, match="found no folder corpusResources"):
        read_text("ami_text", tmp_path / "words")


def test_plain_text_from_a_file_or_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "one.txt", "".join(f"Line {i}!\n" for i in range(300)))
    alone = read_text("text", tmp_path / "one.txt", {"normalization": "spoken", "dev_share": 0.1})
    assert alone.split("train")[0].sentences[0].startswith("line ") and alone.reported == "dev"
    write(tmp_path / "d" / "train.txt", "a b\n")
    with pytest.raises(DataError, match=r"expected dev\.txt here"):
        read_text("text", tmp_path / "d")
    write(tmp_path / "d" / "dev.txt.gz", "b a\nb\n")
    assert read_text("text", tmp_path / "d").split("dev")[0].sentences == ("b a", "b")
    (tmp_path / "d" / "train.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match=r"train\.txt:2: expected UTF-8 text"):
        read_text("text", tmp_path / "d")


@pytest.mark.parametrize(("name", "file"), [("text", "one.txt"), ("librispeech_text", "librispeech-lm-norm.txt")])
def test_lines_that_normalize_alike_are_on_one_side(tmp_path: Path, name: str, file: str) -> None:
    write(tmp_path / file, "".join(f"line {i}\n  LINE  {i} \n\nLine {i}\n" for i in range(200)))
    spoken = {"normalization": "spoken"} if name == "text" else {}
    found = read_text(name, tmp_path / (file if spoken else ""), {"dev_share": 0.2, **spoken})
    train, dev = (set(found.sentences(split)) for split in ("train", "dev"))
    assert len(train) + len(dev) == 200 and dev and not train & dev


@pytest.mark.parametrize(
    ("text", "share", "message"),
    [
        ("".join(f"line {i}\n" for i in range(20)), 1e-6, "20 lines, none fell to dev at dev_share 1e-06: raise it"),
        ("line 1\n", 0.5, "1 lines, none fell to dev at dev_share 0.5: raise it"),
        ("line 0\nline 1\nline 2\n", 0.4, "3 lines, 1 fell to dev, which wants 2, at dev_share 0.4: raise it"),
        ("line 0\nline 2\n", 0.5, "2 lines, all fell to dev at dev_share 0.5: lower it"),
        ("", 0.01, "one.txt: is empty"),
        ("\n \n", 0.01, "one.txt: is empty"),
    ],
)
def test_a_small_text_says_what_it_lacks(tmp_path: Path, text: str, share: float, message: str) -> None:
    write(tmp_path / "one.txt", text)
    with pytest.raises(DataError, match=message):
        read_text("text", tmp_path / "one.txt", {"dev_share": share})


def test_a_split_in_a_file_of_its_own_has_enough_for_figures(tmp_path: Path) -> None:
    for split, lines in {"train": "a\n", "dev": "a\nb\n", "test": "b\n"}.items():
        write(tmp_path / f"{split}.txt", lines)
    with pytest.raises(DataError, match=r"test\.txt: expected 2 lines or more for figures on test, found 1"):
        read_text("text", tmp_path)
    write(tmp_path / "dev.txt", "\n")
    with pytest.raises(DataError, match=r"dev\.txt: is empty"):
        read_text("text", tmp_path)


def test_a_prepared_folder_gives_the_same_corpus(tmp_path: Path) -> None:
    source, out = swda(tmp_path / "raw"), tmp_path / "prepared"
    prepared = prepare("swda", source, out, {"dev_conversations": 3})
    recipe = {"name": "swda", "options": {"dev_conversations": 3}}
    raw, again = open_text(source, recipe), open_text(out, recipe)
    assert raw == again and raw.fingerprint() == again.fingerprint()
    assert prepared.counts == {"train": 54, "dev": 6, "validation": 1}
    stamp = (out / "prepared.json").stat().st_mtime_ns
    prepare("swda", source, out, {"dev_conversations": 3})
    assert (out / "prepared.json").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="prepared with dev_conversations=3, now dev_conversations=4"):
        prepare("swda", source, out, {"dev_conversations": 4})
    with pytest.raises(DataError, match="prepared as 'swda', expected 'ptb'"):
        open_text(out, {"name": "ptb"})
    (out / "dev.jsonl.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"dev\.jsonl\.gz: damaged"):
        open_text(out, recipe)


def test_speech_is_not_taken_for_text(tones: Path) -> None:
    with pytest.raises(DataError, match="prepared as 'table', which is speech"):
        open_text(tones, {"name": "swda"})


def test_vocabularies_are_sorted_counted_and_kept(tmp_path: Path) -> None:
    counts = count_words(["b a b", "c b a", "<unk> d"])
    assert counts == Counter({"b": 3, "a": 2, "c": 1, "d": 1, "<unk>": 1, "</s>": 3})
    entries = choose_words(counts, min_count=2)
    assert entries == [("</s>", 3), ("<unk>", 3), ("b", 3), ("a", 2)]
    assert choose_words(counts, size=5) == [*entries[:1], ("<unk>", 2), ("b", 3), ("a", 2), ("c", 1)]
    write_words(tmp_path / "w", entries)
    assert read_words(tmp_path / "w") == entries and word_list(entries).entries == ("</s>", "<unk>", "b", "a")
    write(tmp_path / "bad", "</s>\t3\n<unk>\t1\nb\t2\na\t5\n")
    with pytest.raises(DataError, match=r"bad:4: expected words by falling count, found 'a'"):
        read_words(tmp_path / "bad")
    write(tmp_path / "bad", "word\n")
    with pytest.raises(DataError, match="bad:1: expected a word, a tab and its count"):
        read_words(tmp_path / "bad")
    corpus = TextCorpus("x", "plain", {"train": (), "dev": (Conversation("d", ("b q r",)),)}, "dev")
    with pytest.raises(DataError, match="67 % of the words of dev are not in the vocabulary of 4"):
        check_coverage(word_list(entries), corpus)


WORDS = WordList(["</s>", "<unk>", *(str(i) for i in range(40))])


def corpus_of(lengths: list[list[int]], seed: int = 0) -> TextCorpus:
    rng = np.random.default_rng(seed)
    found = [
        Conversation(str(i), tuple(" ".join(map(str, rng.integers(0, 40, n))) for n in sentences))
        for i, sentences in enumerate(lengths)
    ]
    return TextCorpus("toy", "plain", {"train": tuple(found)}, "dev")


LENGTHS = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=7)


@given(lengths=LENGTHS, budget=st.integers(4, 60), segment=st.integers(2, 20), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("context", ["sentence", "conversation"])
def test_every_target_comes_once_with_what_stands_before_it(
    context: str, lengths: list[list[int]], budget: int, segment: int, epoch: int
) -> None:
    corpus = corpus_of(lengths)
    config = TextDataConfig(batch_tokens=budget, context=context, segment=segment)
    stream = make_stream(corpus, "train", WORDS, config.context, segment)
    sampler, batches = TextSampler(stream, config, seed=1), TextBatches(stream)
    sampler.set_epoch(epoch)
    pairs: Counter[tuple[int, int]] = Counter()
    last: np.ndarray | None = None
    for item in sampler:
        batch = batches[item]
        inputs, targets, fresh = (batch[k].numpy() for k in ("inputs", "targets", "fresh"))
        assert inputs.shape == targets.shape and inputs.shape[1] <= segment
        assert inputs.size <= max(budget, inputs.shape[1])
        real = targets != IGNORED
        pairs.update(zip(inputs[real].tolist(), targets[real].tolist(), strict=True))
        assert np.array_equal(inputs[:, 1:][real[:, 1:]], targets[:, :-1][real[:, 1:]])
        if context == "conversation" and last is not None:
            goes_on = ~fresh & real[:, 0]
            assert np.array_equal(inputs[goes_on, 0], last[goes_on])  # the token that the row ended with
        ends = np.maximum(real.sum(1) - 1, 0)
        last = np.where(real.any(1), targets[np.arange(len(targets)), ends], -7)
    expected: Counter[tuple[int, int]] = Counter()
    for conversation in corpus.split("train"):
        for sentence in conversation.sentences:
            ids = [0, *WORDS.encode(sentence), 0]
            expected.update(pairwise(ids))
    assert pairs == expected


def test_epochs_and_seeds_differ_and_ranks_share() -> None:
    corpus = corpus_of([[3, 3, 4, 5]] * 12)
    for context in ("sentence", "conversation"):
        config = TextDataConfig(batch_tokens=24, context=context, segment=8)
        stream = make_stream(corpus, "train", WORDS, config.context, 8)

        def items(seed: int, epoch: int, world: int = 1, rank: int = 0, config=config, stream=stream) -> list[bytes]:
            sampler = TextSampler(stream, config, seed, world_size=world, rank=rank)
            sampler.set_epoch(epoch)
            return [item.tobytes() for item in sampler]

        assert items(0, 0) == items(0, 0) != items(0, 1) and items(1, 0) != items(0, 0)
        ranks = [items(0, 0, 3, rank) for rank in range(3)]
        assert len({len(r) for r in ranks}) == 1 and ranks[0] != ranks[1]
