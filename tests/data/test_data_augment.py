from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.data.augment import AugmentConfig, augment
from sottovoce.errors import ConfigError

NOTHING = AugmentConfig(time_masks=0, frequency_masks=0, noise=0.0, channel=0.0)


def batch(lengths: list[int], bins: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(len(lengths), max(lengths), bins, generator=torch.Generator().manual_seed(0)) + 3
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    return features, torch.tensor(lengths)


def run(
    config: AugmentConfig, lengths: list[int], seed: int = 0, deviation: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    return augment(*batch(lengths), config, torch.Generator().manual_seed(seed), deviation)


def test_with_everything_off_nothing_changes() -> None:
    features, lengths = run(NOTHING, [5, 9, 30])
    assert torch.equal(features, batch([5, 9, 30])[0])
    assert lengths.tolist() == [5, 9, 30]
    again, _ = run(replace(NOTHING, normalized=True, vtlp_domain="cepstrum"), [5, 9, 30], deviation=torch.ones(20))
    assert torch.equal(again, features)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    seed=st.integers(0, 100),
    slowest=st.floats(0.5, 1.0),
    fastest=st.floats(1.0, 2.0),
    vtlp=st.floats(0.0, 0.5),
    domain=st.sampled_from(["filterbank", "cepstrum"]),
)
@settings(max_examples=60)
def test_padding_stays_zero_and_the_generator_decides(
    lengths: list[int], seed: int, slowest: float, fastest: float, vtlp: float, domain: str
) -> None:
    config = AugmentConfig(slowest=slowest, fastest=fastest, vtlp=vtlp, vtlp_domain=domain)
    original = batch(lengths)
    features, changed = augment(*original, config, torch.Generator().manual_seed(seed))
    again, _ = augment(*original, config, torch.Generator().manual_seed(seed))
    assert torch.equal(features, again)
    assert torch.equal(original[0], batch(lengths)[0])
    assert features.shape[1] == int(changed.max()) and features.isfinite().all()
    assert ((changed - original[1] / slowest) <= 1).all() and (changed >= original[1] / fastest - 1).all()
    for row, length in zip(features, changed.tolist(), strict=True):
        assert (row[length:] == 0).all()


def masked(config: AugmentConfig, lengths: list[int], seed: int = 0) -> torch.Tensor:
    """Which places changed, (N, T, F) bool."""
    return run(config, lengths, seed)[0] != batch(lengths)[0]


def test_time_masks_keep_their_limits_and_do_happen() -> None:
    config = AugmentConfig(time_masks=1, time_mask_frames=8, frequency_masks=0, noise=0, channel=0)
    sizes = []
    for seed in range(60):
        places = masked(config, [100, 20], seed)
        whole = places.all(dim=2)
        assert torch.equal(whole, places.any(dim=2))
        sizes.append(whole.sum(dim=1))
        for row in whole.int():
            assert (row.diff() == 1).sum() <= 1 and (row.diff() == -1).sum() <= 1
    counts = torch.stack(sizes)
    assert counts[:, 0].max() == 8 and counts[:, 1].max() == 4  # 0.2 of 20 frames
    assert counts[:, 0].float().mean() == pytest.approx(4, abs=1)


def test_frequency_masks_cover_whole_utterances_in_some_bins() -> None:
    config = AugmentConfig(time_masks=0, frequency_masks=2, frequency_mask_bins=5, noise=0, channel=0)
    found = [masked(config, [30, 30], seed) for seed in range(40)]
    for places in found:
        assert torch.equal(places.all(dim=1), places.any(dim=1))
        assert places.any(dim=1).sum(dim=1).max() <= 10
    assert any(places.any() for places in found)
    assert any(not torch.equal(places[0], places[1]) for places in found)


def test_masks_are_filled_with_the_mean_of_the_utterance() -> None:
    config = AugmentConfig(time_masks=1, time_mask_frames=10, frequency_masks=0, noise=0, channel=0)
    features, _ = run(config, [50, 30], seed=3)
    original, _ = batch([50, 30])
    for row, length in ((0, 50), (1, 30)):
        places = (features[row] != original[row]).all(dim=1)
        mean = original[row, :length].mean(dim=0)
        torch.testing.assert_close(features[row][places], mean.expand(int(places.sum()), -1))


def test_noise_and_channel_have_the_size_asked_for() -> None:
    original, _ = batch([2_000, 2_000])
    noisy, _ = run(AugmentConfig(0, frequency_masks=0, noise=0.5, channel=0), [2_000, 2_000])
    assert (noisy - original).std() == pytest.approx(0.5, rel=0.02)
    shifted, _ = run(AugmentConfig(0, frequency_masks=0, noise=0, channel=2.0), [2_000, 2_000])
    offset = shifted - original
    torch.testing.assert_close(offset, offset[:, :1].expand_as(offset), atol=1e-5, rtol=0)
    assert 1.0 < offset[:, 0].std() < 3.0


def test_normalized_noise_and_channel_follow_the_deviation_of_each_feature() -> None:
    deviation = torch.logspace(-2, 1, 20)
    original, _ = batch([4_000] * 30)
    noisy, _ = run(replace(NOTHING, noise=0.5, normalized=True), [4_000] * 30, deviation=deviation)
    torch.testing.assert_close((noisy - original).std(dim=(0, 1)), 0.5 * deviation, rtol=0.02, atol=0)
    shifted, _ = run(replace(NOTHING, channel=2.0, normalized=True), [4_000] * 30, deviation=deviation)
    offset = (shifted - original)[:, 0] / deviation  # (N, F)
    assert offset.std() == pytest.approx(2.0, rel=0.15) and offset.std(dim=0).min() > 1
    with pytest.raises(ConfigError, match=r"augment\.normalized needs the standard deviation"):
        run(replace(NOTHING, normalized=True), [5])


def test_a_change_of_speed_stretches_a_ramp_into_a_ramp() -> None:
    ramp = torch.arange(40.0)[None, :, None].repeat(1, 1, 3)
    config = AugmentConfig(0, frequency_masks=0, noise=0, channel=0, slowest=0.5, fastest=0.5)
    features, lengths = augment(ramp, torch.tensor([40]), config, torch.Generator().manual_seed(0))
    assert lengths.tolist() == [80]
    assert features[0, 0, 0] == 0 and features[0, -1, 0] == 39
    torch.testing.assert_close(features[0, 1:-1, 1].diff(), torch.full((77,), 0.5))


def test_the_configuration_survives_a_round_trip_and_refuses_nonsense() -> None:
    config = AugmentConfig(noise=0.2, slowest=0.9, fastest=1.1, vtlp=0.1, vtlp_domain="cepstrum", concatenate=0.3)
    assert AugmentConfig.from_dict(config.to_dict()) == config
    for values in (
        {"noise": -1},
        {"time_masks": 1.5},
        {"slowest": 1.2},
        {"masks": 2},
        {"time_mask_share": 2},
        {"vtlp": 0.6},
        {"tilt": -0.1},
        {"vtlp_domain": "mel"},
        {"concatenate": 1.5},
        {"normalized": 1},
        {"cepstrum_filters": 0},
    ):
        with pytest.raises(ConfigError, match="augment"):
            AugmentConfig.from_dict(values)


def test_tilt_is_one_smooth_offset_an_utterance() -> None:
    features, lengths = torch.zeros(400, 3, 32), torch.full((400,), 3)
    config = AugmentConfig(time_masks=0, frequency_masks=0, noise=0, channel=0, tilt=0.5)
    found, _ = augment(features, lengths, config, torch.Generator().manual_seed(0))
    assert torch.equal(found[:, 0], found[:, 2])  # the same in all frames
    waves = torch.cos(torch.pi * torch.arange(32)[:, None] * (torch.arange(32) + 0.5) / 32)
    coefficients = found[:, 0] @ waves.T / 16  # orthogonal: only cosines 1 to 4 have a part in it
    torch.testing.assert_close(coefficients[:, 1:5].std(dim=0), torch.full((4,), 0.5), rtol=0.15, atol=0)
    assert coefficients[:, 0].abs().max() < 1e-4 and coefficients[:, 5:].abs().max() < 1e-4
