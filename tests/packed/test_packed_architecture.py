import json

import pytest

from sottovoce.errors import FormatError
from sottovoce.packed import Pcen, RnntArchitecture


def test_dictionary_round_trip() -> None:
    architecture = RnntArchitecture(features=80, vocabulary=30, reduction_after=2)
    assert RnntArchitecture.from_dict(architecture.to_dict()) == architecture
    assert "pcen" not in architecture.to_dict()
    normalized = RnntArchitecture(features=80, vocabulary=30, pcen=Pcen(gain=0.5))
    assert RnntArchitecture.from_dict(json.loads(json.dumps(normalized.to_dict()))) == normalized
    tuned = RnntArchitecture(features=80, vocabulary=30, blank_penalty=-1.5)
    assert RnntArchitecture.from_dict(tuned.to_dict()) == tuned and "blank_penalty" not in architecture.to_dict()


@pytest.mark.parametrize(
    ("after", "widths", "last", "factor"),
    [(0, [320, 256, 256], 256, 2), (1, [320, 512, 256], 256, 4), (3, [320, 256, 256], 512, 4)],
)
def test_where_the_reduction_widens(after: int, widths: list[int], last: int, factor: int) -> None:
    architecture = RnntArchitecture(80, 30, encoder_layers=3, reduction_after=after)
    assert architecture.layer_inputs() == widths
    assert architecture.encoder_width == last
    assert architecture.subsampling == factor and architecture.output_frames(41) == 41 // factor


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": 0}, "features must be an integer"),
        ({"stack": True}, "stack must be an integer"),
        ({"vocabulary": 1.5}, "vocabulary must be an integer"),
        ({"stack": 1}, "frames would be lost"),
        ({"reduction_after": 3}, "exceeds the 2 encoder layers"),
        ({"type": "ctc"}, "expected type 'rnnt', found 'ctc'"),
        ({"colour": 1}, "colour"),
        ({"pcen": 0.5}, "pcen must be a mapping"),
        ({"pcen": {"gain": 2}}, r"pcen.gain must be a number in \[0.0, 1.0\], found 2"),
        ({"pcen": {"smoothing": True}}, "pcen.smoothing must be a number"),
        ({"pcen": {"colour": 1}}, "colour"),
        ({"blank_penalty": float("nan")}, r"blank_penalty must be a number in \[-1000, 1000\], found nan"),
        ({"blank_penalty": True}, "blank_penalty must be a number"),
    ],
)
def test_refusals(change: dict[str, object], words: str) -> None:
    fields = RnntArchitecture(80, 30).to_dict() | change
    with pytest.raises(FormatError, match=words):
        RnntArchitecture.from_dict(fields)
