"""What the synthetic speakers say: digit strings and short commands, about 90 words in all."""

from __future__ import annotations

import re

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_COMMANDS = (
    "turn {switch} the {room} {device}",
    "turn {switch} the {device}",
    "dim the {room} lights to {tens} percent",
    "set a timer for {amount} {unit}",
    "set the {room} heating to {warmth} degrees",
    "wake me in {amount} {unit}",
    "call {name}",
    "send a message to {name}",
    "play some {music}",
    "play the next song",
    "turn the volume {direction}",
    "what is the weather {day}",
    "add {item} to the shopping list",
    "open the {room} {opening}",
    "close the {room} {opening}",
    "stop the {sound}",
)
_CHOICES = {
    "switch": ("on", "off"),
    "room": ("kitchen", "bedroom", "bathroom", "garage", "living room"),
    "device": ("lights", "lamp", "fan", "radio", "heating"),
    "tens": ("ten", "twenty", "thirty", "forty", "fifty"),
    "amount": ("two", "five", "ten", "fifteen", "twenty", "thirty"),
    "unit": ("seconds", "minutes", "hours"),
    "warmth": ("eighteen", "nineteen", "twenty", "twenty one"),
    "name": ("john", "mary", "alice", "david", "susan", "mother"),
    "music": ("jazz", "music", "rock"),
    "direction": ("up", "down"),
    "day": ("today", "tomorrow", "on monday", "on friday"),
    "item": ("milk", "bread", "coffee", "apples"),
    "opening": ("door", "window", "blinds"),
    "sound": ("music", "timer", "radio"),
}
_SHARE_OF_COMMANDS = 0.4
_SHARE_OF_OH = 0.3


def draw_phrase(source: np.random.Generator) -> str:
    """A string of 3 to 7 digits (in some strings zero is said "oh"), or a command."""
    if source.random() < _SHARE_OF_COMMANDS:
        template = _COMMANDS[source.integers(len(_COMMANDS))]
        return re.sub(r"\{(\w+)\}", lambda found: _pick(source, _CHOICES[found[1]]), template)
    words = [DIGITS[source.integers(10)] for _ in range(source.integers(3, 8))]
    zero = "oh" if source.random() < _SHARE_OF_OH else "zero"
    return " ".join(zero if word == "zero" else word for word in words)


def vocabulary() -> list[str]:
    """Every word that can be said, sorted."""
    fixed = " ".join(re.sub(r"\{\w+\}", " ", template) for template in _COMMANDS)
    chosen = " ".join(item for items in _CHOICES.values() for item in items)
    return sorted({*fixed.split(), *chosen.split(), *DIGITS, "oh"})


def _pick(source: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[source.integers(len(items))]
