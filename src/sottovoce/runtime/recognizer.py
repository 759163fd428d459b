"""From sound to text with a packed file: sherpa-onnx's calls, over the kernels or NumPy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.decoding.endpoint import DEFAULT_RULES, EndpointRules, Segment, frames_to_seconds
from sottovoce.decoding.hotwords import ContextGraph, hotword_lines, read_hotwords
from sottovoce.decoding.nbest import Hypothesis, NBest
from sottovoce.decoding.protocol import Floats, concatenate, select
from sottovoce.decoding.rows import concatenate_rows, select_rows
from sottovoce.decoding.search import Method, Search, make_search
from sottovoce.decoding.tokens import Tokenizer
from sottovoce.errors import DataError, FormatError
from sottovoce.frontend.values import checked_features
from sottovoce.packed import PackedModel, load_model
from sottovoce.progress import Progress
from sottovoce.runtime.fusion import LM_WEIGHT, check_unused, make_fusion
from sottovoce.runtime.network import Network, make_network
from sottovoce.runtime.result import ModelInput, Result
from sottovoce.runtime.rules import Arithmetic
from sottovoce.runtime.stream import Stream
from sottovoce.runtime.words import words_of

_CHUNK = 1_000  # feature frames in one encoder step: bounds memory, changes no result
_BATCH, _BATCH_FRAMES = 64, 40_000  # utterances, and feature frames with padding, in one offline batch


class Recognizer:
    """Transcribes with one packed model.

    >>> recognizer = Recognizer("model.safetensors")
    >>> stream = recognizer.create_stream()
    >>> stream.accept_waveform(16000, samples)
    >>> recognizer.decode_stream(stream)
    >>> recognizer.get_result(stream).text

    method is "greedy", with at most max_symbols tokens a frame, or "beam", with ``beam`` hypotheses and one token a
    frame. blank_penalty is taken off the blank's log-probability, in nats; by default what the file says, as tuned on
    dev. hotwords, in a beam search, are phrases to favour, each of their tokens by hotwords_score nats, or by what
    stands behind the phrase as in ``"a phrase :2.5"``. lm, in a beam search, is a language model's file or run folder,
    n-grams too, that counts lm_weight, by default 0.3; internal_lm_weight is taken off for what the predictor itself
    has learned (``decoding.fusion``); each segment is a sentence. endpoint says when ``is_endpoint`` holds. arithmetic
    is "int8", "float" (decoded float32 weights, for weight-only figures) or "accelerator" (that of an 8-bit
    accelerator: runtime/accelerator.py). num_threads is the compiled kernels'; where those are missing, NumPy gives the
    same results, slowly. Nothing is appended to the input: the network sees exactly the frames that it was trained on,
    and any chunking gives the offline result, bit for bit where the weights are packed and activations are integers.

    Raises FormatError for a model that cannot run, ConfigError for an option that cannot be used.
    """

    def __init__(
        self,
        model: str | Path | PackedModel,
        *,
        method: Method = "greedy",
        beam: int = 4,
        arithmetic: Arithmetic = "int8",
        blank_penalty: float | None = None,
        max_symbols: int = 1,
        hotwords: str | Sequence[str] = (),
        hotwords_score: float = 1.5,
        lm: str | Path | None = None,
        lm_weight: float | None = None,
        internal_lm_weight: float = 0.0,
        endpoint: EndpointRules = DEFAULT_RULES,
        num_threads: int = 1,
    ) -> None:
        searching = partial(make_search, method, beam=beam, max_symbols=max_symbols)
        self._search: Search = searching(blank_penalty=blank_penalty or 0.0)  # refuses bad options before all reading
        if lm is None:
            check_unused(lm_weight, internal_lm_weight)
        self._endpoint = endpoint
        if isinstance(model, PackedModel):
            self._read(model, arithmetic, num_threads)
        else:
            packed = load_model(Path(model))
            try:
                self._read(packed, arithmetic, num_threads)
            except FormatError as error:
                raise FormatError(f"{model}: {error}") from error
        own = self.network.architecture.blank_penalty
        self._make_search = partial(searching, blank_penalty=own if blank_penalty is None else blank_penalty)
        self._hotwords, self._hotwords_score = hotword_lines(hotwords), hotwords_score
        if lm is not None:
            fusion = make_fusion(
                lm,
                self.tokenizer,
                weight=LM_WEIGHT if lm_weight is None else lm_weight,
                internal=internal_lm_weight,
                arithmetic=arithmetic,
                num_threads=num_threads,
            )
            self._make_search = partial(self._make_search, fusion=fusion)
        self._search = self._search_for(())

    def _read(self, model: PackedModel, arithmetic: Arithmetic, num_threads: int) -> None:
        self.network: Network = make_network(model, arithmetic=arithmetic, num_threads=num_threads)
        self.input = ModelInput.from_dict(model.input)
        architecture = self.network.architecture
        if self.input.dim != architecture.features:
            raise FormatError(f"input: expected {architecture.features} features a frame, found {self.input.dim}")
        if model.tokenizer is None:
            raise FormatError("tokenizer: expected one in the model, found none")
        self.tokenizer = Tokenizer(bytes(model.tokenizer))
        if self.tokenizer.vocabulary != architecture.vocabulary:
            raise FormatError(
                f"tokenizer: expected {architecture.vocabulary} tokens as in the network, "
                f"found {self.tokenizer.vocabulary}"
            )

    @property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.network.architecture.subsampling / self.input.rate

    def create_stream(self, hotwords: str | Sequence[str] = ()) -> Stream:
        """A stream for one utterance, or for speech that never ends; with hotwords of its own beside the recognizer's.

        Raises ConfigError for hotwords that cannot be used.
        """
        search = self._search_for(hotwords) if hotwords else self._search
        return Stream(self, self.input, self.network.encoder_start(1), search.start(self.network, 1))

    def _search_for(self, hotwords: str | Sequence[str]) -> Search:
        phrases = read_hotwords([*self._hotwords, *hotword_lines(hotwords)], self.tokenizer, self._hotwords_score)
        return self._make_search(hotwords=ContextGraph(phrases, self.tokenizer.vocabulary) if phrases else None)

    def is_ready(self, stream: Stream) -> bool:
        """Whether decoding now would see at least one more encoder frame."""
        output_frames = self.network.architecture.output_frames
        return output_frames(stream.decoded + stream.pending) > output_frames(stream.decoded)

    def decode_stream(self, stream: Stream) -> None:
        """Decode all that is pending: give sound in short pieces where endpoints are to be seen between them."""
        self.decode_streams([stream])

    def decode_streams(self, streams: Sequence[Stream], progress: Progress | None = None) -> None:
        """Decode all that is pending in each of the streams, all different, in batches; ``progress`` is told how many
        feature frames of how many are decoded.

        Raises DataError where a stream is given twice, or is of another recognizer.
        """
        if len({id(stream) for stream in streams}) < len(streams):
            raise DataError("streams: one is given twice")
        if any(stream.recognizer is not self for stream in streams):
            raise DataError("streams: one was created by another recognizer")
        done, total = 0, sum(stream.pending for stream in streams)
        while groups := _alike([stream for stream in streams if stream.pending]):
            for count, group in groups:
                self._decode_group(group, count)
                done += count * len(group)
                if progress is not None:
                    progress(done, total)

    def _decode_group(self, group: list[Stream], count: int) -> None:
        features = np.stack([stream.take(count) for stream in group])
        frames, encoder = self.network.encoder_step(features, concatenate([stream.encoder for stream in group]))
        lengths = np.full(len(group), frames.shape[1], np.int64)
        before = concatenate_rows([stream.search for stream in group])
        search = self._search.advance(self.network, frames, lengths, before)
        for i, stream in enumerate(group):
            row = np.array([i])
            stream.encoder, stream.search = select(encoder, row), select_rows(search, row)

    def is_endpoint(self, stream: Stream) -> bool:
        """Whether what was decoded since the last reset is a whole utterance, by the endpoint rules."""
        return self._endpoint.hold(self._segment(stream), self.frame_seconds)

    def reset(self, stream: Stream) -> None:
        """Begin a new segment: results hold what is decoded from now on, and times go on in the stream's clock.

        As in sherpa-onnx, the encoder's state stays, and so does the predictor's after the best hypothesis: the sound
        goes on, and an utterance that rule 3 cut is continued. A greedy search finds the same tokens with resets as
        without. Other hypotheses are given up, matches of hotwords begin anew, and what the segment held is freed.
        """
        stream.segment += int(self._segment(stream).nonsilence)
        stream.search = self._search.restart(stream.search)

    def _segment(self, stream: Stream) -> Segment:
        return self._search.segments(stream.search)[0]

    def get_result(self, stream: Stream) -> Result:
        """The best transcript of what was decoded since the stream began or was last reset."""
        return self._result(self._search.results(stream.search)[0].best, stream)

    def get_nbest(self, stream: Stream) -> list[Result]:
        """All such transcripts that the search kept, best first."""
        return [self._result(hypothesis, stream) for hypothesis in self._search.results(stream.search)[0]]

    def transcribe(self, samples: ArrayLike, rate: int) -> Result:
        """The transcript of a whole recording: samples float (S,) in [-1, 1], rate in Hz."""
        stream = self.create_stream()
        stream.accept_waveform(rate, samples)
        stream.input_finished()
        self.decode_stream(stream)
        return self.get_result(stream)

    def transcribe_batch(
        self, features: Sequence[NDArray[np.float32]], progress: Progress | None = None
    ) -> list[Result]:
        """Transcripts of whole utterances, each given by its features (T, F), in the order given; ``progress`` is told
        how many of how many are done.

        Raises DataError for features of another shape or that are not finite.
        """
        return [self._result(nbest.best) for nbest in self._decode_all(features, progress)]

    def nbest_batch(
        self, features: Sequence[NDArray[np.float32]], progress: Progress | None = None
    ) -> list[list[Result]]:
        """As ``transcribe_batch``, of each utterance all transcripts that the search kept, best first.

        Their tokens differ; their texts may not, where a text can be written with other tokens.
        """
        return [[self._result(hypothesis) for hypothesis in nbest] for nbest in self._decode_all(features, progress)]

    def _decode_all(self, features: Sequence[NDArray[np.float32]], progress: Progress | None) -> list[NBest]:
        checked = [checked_features(array, self.input.dim) for array in features]
        found: dict[int, NBest] = {}
        for batch in _batches([len(array) for array in checked]):
            found.update(zip(batch, self._decode_batch([checked[i] for i in batch]), strict=True))
            if progress is not None:
                progress(len(found), len(checked))
        return [found[i] for i in range(len(checked))]

    def _decode_batch(self, features: list[Floats]) -> list[NBest]:
        lengths = np.array([len(array) for array in features])
        padded = np.zeros((len(features), lengths.max(), self.input.dim), np.float32)
        for row, array in zip(padded, features, strict=True):
            row[: len(array)] = array
        frames, frame_lengths = self.network.encode(padded, lengths)
        start = self._search.start(self.network, len(features))
        return self._search.results(self._search.advance(self.network, frames, frame_lengths, start))

    def _result(self, hypothesis: Hypothesis, stream: Stream | None = None) -> Result:
        return Result(
            text=self.tokenizer.decode(list(hypothesis.tokens)),
            tokens=tuple(self.tokenizer.pieces[token] for token in hypothesis.tokens),
            ids=hypothesis.tokens,
            times=tuple(frames_to_seconds(frame, self.frame_seconds) for frame in hypothesis.times),
            log_probs=hypothesis.token_log_probs,
            score=hypothesis.score,
            words=words_of(hypothesis, self.tokenizer, self.frame_seconds),
            segment=stream.segment if stream else 0,
            start_time=frames_to_seconds(self._segment(stream).start, self.frame_seconds) if stream else 0.0,
        )


def _alike(streams: list[Stream]) -> list[tuple[int, list[Stream]]]:
    """Streams that can share a step, with as many frames left over in the encoder; each takes what the least has."""
    groups: dict[tuple[object, ...], list[Stream]] = defaultdict(list)
    for stream in streams:
        groups[tuple(array.shape for array in stream.encoder)].append(stream)
    return [(min(_CHUNK, *(stream.pending for stream in group)), group) for group in groups.values()]


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indexes in batches of similar lengths, longest first."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * lengths[batch[0]] > _BATCH_FRAMES):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
