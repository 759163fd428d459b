"""Audio files, resampling and filterbanks: one front-end for training and the device."""

from sottovoce.frontend.audio import read_audio
from sottovoce.frontend.fbank import StreamingFbank
from sottovoce.frontend.resample import LinearResampler
from sottovoce.frontend.settings import FeatureSettings

__all__ = ["FeatureSettings", "LinearResampler", "StreamingFbank", "read_audio"]
