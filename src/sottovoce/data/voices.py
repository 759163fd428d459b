"""Two hundred distinct espeak-ng voices, disjoint between train, dev and test: no variant is in two splits."""

from __future__ import annotations

import random
from functools import cache

from sottovoce.data.espeak import Voice

_LANGUAGES = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbcwmd", "en-029", "en-gb-x-gbclan")
# Variants with the Klatt synthesizer (caleb, Reed, klatt...) are left out: they draw from the C library's rand().
_VARIANTS = """
m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique
Hugo Jacky Lee Marco Mario Michael Mike Nguyen adam anika announcer antonio aunty belinda benjamin
boris david ed edward edward2 grandma grandpa ian iven john kaukovalta linda marcelo max michel
miguel mike2 norbert pablo pedro quincy steph
"""
_DEV, _TEST = 8, 12  # variants
_ACCENTS = {"train": 4, "dev": 2, "test": 2}  # accents a variant speaks in


@cache
def voices() -> dict[str, tuple[Voice, ...]]:
    """The voices of each split: 160 for train, 16 for dev, 24 for test, always the same."""
    source = random.Random("sottovoce voices")  # a string seed is hashed alike on every Python
    variants = _VARIANTS.split()
    source.shuffle(variants)
    shares = {"test": variants[:_TEST], "dev": variants[_TEST : _TEST + _DEV], "train": variants[_TEST + _DEV :]}
    return {split: _cast(source, names, _ACCENTS[split]) for split, names in shares.items()}


def _cast(source: random.Random, variants: list[str], accents: int) -> tuple[Voice, ...]:
    """Each variant in so many accents, with a rate and a pitch of its own in each."""
    return tuple(
        Voice(
            language=_LANGUAGES[(place + turn * len(_LANGUAGES) // accents) % len(_LANGUAGES)],
            variant=variant,
            rate=source.randint(145, 205),
            pitch=source.randint(30, 70),
            pitch_range=source.randint(30, 70),
        )
        for place, variant in enumerate(variants)
        for turn in range(accents)
    )
