"""Log-mel filterbanks by kaldi-native-fbank: the same code in training and on the device."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import DataError
from sottovoce.frontend.resample import LinearResampler
from sottovoce.frontend.settings import FeatureSettings
from sottovoce.frontend.values import checked_samples

_PIECE = 65_536  # samples


def fbank(samples: ArrayLike, settings: FeatureSettings) -> NDArray[np.float32]:
    """Features (T, bins) float32 of ``samples`` (S,) float32 in [-1, 1] at ``settings.sample_rate``.

    T is S / shift rounded half up. Raises DataError unless the samples are one channel of finite numbers.
    """
    stream = StreamingFbank(settings)
    stream.accept_waveform(settings.sample_rate, samples)
    stream.input_finished()
    return stream.frames(0, stream.frames_ready)


class StreamingFbank:
    """Features of a stream, resampled when its rate differs; any chunking gives bit for bit the frames of ``fbank``."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self._fbank = knf.OnlineFbank(_options(settings))
        self._rate: int | None = None
        self._resampler: LinearResampler | None = None
        self._dropped = 0
        self._finished = False

    def accept_waveform(self, sample_rate: int, samples: ArrayLike) -> None:
        """Take ``samples`` (S,), floats in [-1, 1] or int16, at ``sample_rate`` Hz.

        Raises DataError if the rate changes within the stream, the stream is finished, or the samples are unusable.
        """
        if self._finished:
            raise DataError("this stream was finished; create another one for more audio")
        checked = checked_samples(samples)
        self._keep_rate(sample_rate)
        if self._resampler is not None:
            checked = self._resampler.accept(checked)
        self._feed(checked)

    def input_finished(self) -> None:
        """End the stream: the frames at its end become ready (edges are reflected)."""
        if self._finished:
            return
        if self._resampler is not None:
            self._feed(self._resampler.accept(np.zeros(0, np.float32), last=True))
        self._fbank.input_finished()
        self._finished = True

    @property
    def frames_ready(self) -> int:
        """Frames computed since the stream began, those already given away included."""
        return int(self._fbank.num_frames_ready)

    def frames(self, start: int, count: int) -> NDArray[np.float32]:
        """Frames ``start`` to ``start + count`` as (count, bins) float32; frames before ``start`` are then forgotten.

        So ``start`` must not go back: a long stream does not grow. Raises DataError for frames that are not there.
        """
        if start < self._dropped or count < 0 or start + count > self.frames_ready:
            raise DataError(
                f"frames {start} to {start + count} asked for; frames {self._dropped} to {self.frames_ready} are there"
            )
        self._fbank.pop(start - self._dropped)
        self._dropped = start
        output = np.empty((count, self.settings.bins), np.float32)
        for row in range(count):
            output[row] = self._fbank.get_frame(start + row)
        return output

    def _keep_rate(self, sample_rate: int) -> None:
        if self._rate is None:
            if sample_rate != self.settings.sample_rate:
                self._resampler = LinearResampler(sample_rate, self.settings.sample_rate)
            self._rate = sample_rate
        elif sample_rate != self._rate:
            raise DataError(f"one sample rate a stream: it began at {self._rate} Hz, now {sample_rate} Hz was given")

    def _feed(self, samples: NDArray[np.float32]) -> None:
        for start in range(0, len(samples), _PIECE):  # the binding takes lists: a whole recording would not fit
            piece = samples[start : start + _PIECE].tolist()
            self._fbank.accept_waveform(float(self.settings.sample_rate), piece)


def _options(settings: FeatureSettings) -> knf.FbankOptions:
    options = knf.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq = float(settings.sample_rate)
    frame.frame_length_ms, frame.frame_shift_ms = float(settings.frame_ms), float(settings.shift_ms)
    frame.dither, frame.snip_edges = 0.0, False
    nemo = settings.style == "nemo"
    frame.window_type, frame.remove_dc_offset, frame.preemph_coeff = "hann" if nemo else "povey", not nemo, 0.97
    frame.round_to_power_of_two = True
    mel.num_bins, mel.low_freq, mel.high_freq = settings.bins, float(settings.low_hz), float(settings.high_hz)
    mel.is_librosa = nemo
    options.use_energy, options.use_log_fbank, options.use_power = False, True, True
    return options
