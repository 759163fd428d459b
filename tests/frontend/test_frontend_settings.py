import pytest

from sottovoce.errors import ConfigError
from sottovoce.frontend.settings import FeatureSettings


def test_settings_survive_a_round_trip_through_plain_values() -> None:
    settings = FeatureSettings(sample_rate=8_000, bins=40, low_hz=60.0, high_hz=-200.0, frame_ms=20.0, shift_ms=8.0)
    assert FeatureSettings.from_dict(settings.to_dict()) == settings
    assert FeatureSettings.from_dict({"bins": 40}) == FeatureSettings(bins=40)
    nemo = FeatureSettings(style="nemo", low_hz=0.0, high_hz=0.0)
    assert FeatureSettings.from_dict(nemo.to_dict()) == nemo and "style" not in settings.to_dict()


def test_a_negative_upper_edge_counts_from_the_nyquist_frequency() -> None:
    assert FeatureSettings().top_hz == 7_600.0
    assert FeatureSettings(high_hz=0).top_hz == 8_000.0
    assert FeatureSettings(high_hz=4_000).top_hz == 4_000.0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"bands": 80}, "'bands'"),
        ({"bins": 80.0}, "bins"),
        ({"bins": True}, "bins"),
        ({"bins": 0}, "bins"),
        ({"bins": 250}, "250 bins are too many"),
        ({"sample_rate": 100}, "sample_rate"),
        ({"low_hz": float("nan")}, "low_hz"),
        ({"low_hz": 7_700.0}, "7700.0 to 7600.0"),
        ({"high_hz": 9_000.0}, "9000.0"),
        ({"frame_ms": 5.0}, "shift_ms 10.0 exceeds frame_ms 5.0"),
        ({"shift_ms": "10"}, "'10'"),
        ({"style": "htk"}, "style must be kaldi or nemo, found 'htk'"),
        ({"style": "nemo"}, "style nemo has filters from 0 to 8000.0 Hz"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match="features: ") as caught:
        FeatureSettings.from_dict(values)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
