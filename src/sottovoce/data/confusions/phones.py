"""Phones and where they lie: articulatory features, so that what is made alike is heard alike.

A phone is a point (D,); the distance between two is what the channel goes by. Consonants differ by manner, place,
voice, nasality, laterality and stridency, vowels by height and backness where they begin and where they end (a
diphthong moves), rounding, length and r-colour; the classes lie apart, glides and liquids between them. A step from one
value to the next (p and b, p and t, s and z, m and n) is about 1. The dimensions are those of phonology (Chomsky and
Halle 1968; Ladefoged's scales of place and height), their weights are ours: set once so that neighbours are neighbours,
not fitted.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

# Phone, manner, place, voice.
_CONSONANTS = """
p stop bilabial 0|b stop bilabial 1|t stop alveolar 0|d stop alveolar 1|k stop velar 0|ɡ stop velar 1
ʔ stop glottal 0|c stop palatal 0|ɟ stop palatal 1|q stop uvular 0|ɾ tap alveolar 1|tʃ affricate postalveolar 0
dʒ affricate postalveolar 1|ts affricate alveolar 0|dz affricate alveolar 1|f fricative labiodental 0
v fricative labiodental 1|θ fricative dental 0|ð fricative dental 1|s fricative alveolar 0
z fricative alveolar 1|ʃ fricative postalveolar 0|ʒ fricative postalveolar 1|ç fricative palatal 0
x fricative velar 0|ɣ fricative velar 1|β fricative bilabial 1|h fricative glottal 0|ɦ fricative glottal 1
m nasal bilabial 1|n nasal alveolar 1|ɲ nasal palatal 1|ŋ nasal velar 1|l lateral alveolar 1
ɬ fricative alveolar 0|ʎ lateral palatal 1|ɹ approximant postalveolar 1|r approximant alveolar 1
ʁ approximant uvular 1|j glide palatal 1|w glide bilabial 1
"""
# Phone, height and backness where it begins, the same where it ends, rounded, long, r-coloured.
_VOWELS = """
iː 3 0 3 0 0 1 0|i 3 0 3 0 0 0 0|ɪ 2.5 0.4 2.5 0.4 0 0 0|ᵻ 2.4 0.7 2.4 0.7 0 0 0|e 2 0 2 0 0 0 0|ɛ 1.2 0.1 1.2 0.1 0 0 0
æ 0.4 0.2 0.4 0.2 0 0 0|a 0 0.8 0 0.8 0 0 0|aː 0 0.8 0 0.8 0 1 0|ɐ 0.6 1 0.6 1 0 0 0|ə 1.5 1 1.5 1 0 0 0
ʌ 1 1.4 1 1.4 0 0 0|ɜː 1.4 1 1.4 1 0 1 0.5|ɚ 1.5 1 1.5 1 0 0 1|ɑː 0 1.8 0 1.8 0 1 0|ɑ 0 1.8 0 1.8 0 0 0
ɒ 0.2 2 0.2 2 1 0 0|ɔː 1 2 1 2 1 1 0|ɔ 1 2 1 2 1 0 0|o 2 2 2 2 1 0 0|oː 2 2 2 2 1 1 0|ʊ 2.5 1.6 2.5 1.6 1 0 0
u 3 2 3 2 1 0 0|uː 3 2 3 2 1 1 0|y 3 0 3 0 1 0 0|ø 2 0 2 0 1 0 0|œ 1.2 0.1 1.2 0.1 1 0 0|eɪ 2 0 2.8 0.2 0 1 0
aɪ 0 0.8 2.8 0.2 0 1 0|ɔɪ 1 2 2.8 0.2 1 1 0|aʊ 0 0.8 2.8 1.8 0.5 1 0|oʊ 1.8 1.8 2.8 1.8 1 1 0|əʊ 1.5 1 2.8 1.8 0.5 1 0
"""
_MANNERS = {
    "stop": 0.0, "affricate": 0.5, "fricative": 1.0, "tap": 1.0, "nasal": 2.0, "lateral": 3.0, "approximant": 3.0,
    "glide": 3.5,
}  # fmt: skip
_PLACES = {
    "bilabial": 0.0, "labiodental": 0.4, "dental": 0.9, "alveolar": 1.3, "postalveolar": 1.8, "palatal": 2.3,
    "velar": 3.0, "uvular": 3.3,
    "glottal": 4.0,
}  # fmt: skip
_CLASSES = {"lateral": 0.7, "approximant": 0.9, "glide": 1.3}  # towards vowels, which are at 2.5
_STRIDENT = frozenset({"s", "z", "ʃ", "ʒ", "tʃ", "dʒ", "ts", "dz"})
_GLIDES = {"j": (3.0, 0.0, 0.0), "w": (3.0, 2.0, 1.0), "ɹ": (1.5, 1.0, 0.0)}  # height, backness, rounding
_NEUTRAL = (1.5, 1.0, 0.0)


@cache
def phones() -> tuple[str, ...]:
    """Every phone, in the order of ``features``."""
    return tuple(_table())


@cache
def features() -> NDArray[np.float64]:
    """The points of all phones, (P, D)."""
    points = np.array(list(_table().values()))
    points.flags.writeable = False
    return points


@cache
def _table() -> dict[str, tuple[float, ...]]:
    consonants = dict(_consonant(line.split()) for line in _lines(_CONSONANTS))
    return {**consonants, **dict(_vowel(line.split()) for line in _lines(_VOWELS))}


def _lines(table: str) -> list[str]:
    return [item for line in table.strip().splitlines() for item in line.split("|")]


def _consonant(fields: list[str]) -> tuple[str, tuple[float, ...]]:
    phone, manner, place, voice = fields
    height, back, rounded = _GLIDES.get(phone, _NEUTRAL)
    return phone, (
        _CLASSES.get(manner, 0.0), _MANNERS[manner], _PLACES[place], float(voice), 1.0 * (manner == "nasal"),
        1.0 * (manner == "lateral" or phone == "ɬ"), 0.7 * (phone in _STRIDENT), 0.8 * height, 0.8 * back, 0.5 * height,
        0.5 * back, 0.5 * rounded, 0.0, 1.0 * (manner == "approximant"),
    )  # fmt: skip


def _vowel(fields: list[str]) -> tuple[str, tuple[float, ...]]:
    height, back, end_height, end_back, rounded, long, rhotic = map(float, fields[1:])
    return fields[0], (
        2.5, 4.0, 2.3, 1.0, 0.0, 0.0, 0.0, 0.8 * height, 0.8 * back, 0.5 * end_height, 0.5 * end_back, 0.5 * rounded,
        0.4 * long, rhotic,
    )  # fmt: skip


def read_phones(ipa: str) -> tuple[int, ...]:
    """Numbers of the phones in ``ipa``, the longest that fits at each place. Marks and sounds that the table lacks are
    left out."""
    known = {phone: number for number, phone in enumerate(phones())}
    found, place = [], 0
    while place < len(ipa):
        piece = next((ipa[place : place + size] for size in (2, 1) if ipa[place : place + size] in known), "")
        if piece:
            found.append(known[piece])
        place += max(1, len(piece))
    return tuple(found)
