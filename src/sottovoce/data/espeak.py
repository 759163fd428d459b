"""espeak-ng through ctypes: text to samples, the same samples each time, and to phonemes."""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_IPA = 2
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice: ``language`` and ``variant`` by its names, words a minute, pitch and range in 0 to 100."""

    language: str
    variant: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50

    @property
    def name(self) -> str:
        """espeak-ng's name, which is the speaker's name in the manifests."""
        return f"{self.language}+{self.variant}"


def speak(text: str, voice: Voice, seed: int = 0) -> tuple[NDArray[np.float32], int]:
    """Samples (S,) float32 in [-1, 1] of ``text`` said by ``voice``, and their rate in Hz.

    The same arguments give the same bits, whatever was said before: espeak-ng keeps oscillator phases and a random
    state in static variables that no call resets, so the library is loaded afresh for each utterance (3 ms). Raises
    DataError if espeakng-loader is missing, or espeak-ng refuses the voice or gives no sound.
    """
    library, data = _paths()
    handle = ctypes.CDLL(library)
    try:
        return _speak(handle, data, text, voice, seed)
    finally:
        handle.espeak_Terminate()
        _unload(handle)


def phonemes(texts: Sequence[str], language: str = "en-us") -> list[str]:
    """How espeak-ng says each of ``texts``: IPA, with stress marks, a space between words.

    Raises DataError if espeakng-loader is missing, or espeak-ng does not know the language.
    """
    library, data = _paths()
    handle = ctypes.CDLL(library)
    try:
        if int(handle.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0)) <= 0:
            raise DataError("espeak-ng did not start; is its data folder complete?")
        if handle.espeak_SetVoiceByName(language.encode()) != 0:
            raise DataError(f"espeak-ng has no voice {language!r}")
        handle.espeak_TextToPhonemes.restype = ctypes.c_char_p
        return [_phonemes(handle, text) for text in texts]
    finally:
        handle.espeak_Terminate()
        _unload(handle)


def _phonemes(library: Any, text: str) -> str:
    rest, clauses = ctypes.c_char_p(text.encode()), list[str]()
    while rest.value is not None:  # a clause a call; the pointer is moved on, and is null at the end
        clauses.append((library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA) or b"").decode())
    return " ".join(clauses).strip()


def _speak(library: Any, data: str, text: str, voice: Voice, seed: int) -> tuple[NDArray[np.float32], int]:
    chunks: list[NDArray[np.int16]] = []

    def collect(wave: Any, count: int, _events: Any) -> int:
        if wave and count > 0:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    callback = _CALLBACK(collect)  # must outlive the synthesis
    rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0))
    if rate <= 0:
        raise DataError("espeak-ng did not start; is its data folder complete?")
    library.espeak_SetSynthCallback(callback)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise DataError(f"espeak-ng has no voice {voice.name!r}")
    for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    data_bytes = text.encode()
    library.espeak_Synth(data_bytes, ctypes.c_size_t(len(data_bytes) + 1), 0, _CHARACTERS, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    if not chunks:
        raise DataError(f"espeak-ng said nothing for {text!r} with the voice {voice.name!r}")
    return np.concatenate(chunks).astype(np.float32) / np.float32(32768), rate


def _paths() -> tuple[str, str]:
    try:
        import espeakng_loader
    except ImportError:
        raise DataError("synthetic speech needs espeak-ng: pip install 'sottovoce[demo]'") from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


def _unload(handle: Any) -> None:
    close = getattr(_ctypes, "dlclose", None) or vars(_ctypes)["FreeLibrary"]  # a platform has one of them
    close(handle._handle)
