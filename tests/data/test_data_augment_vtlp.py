import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.augment import AugmentConfig, augment
from sottovoce.data.vtlp import cosine_transforms, warp_cepstra, warp_filterbanks, warp_matrices
from sottovoce.errors import ConfigError

FILTERS = 40


def smooth_spectra(count: int, filters: int = FILTERS) -> torch.Tensor:
    """(count, 6, filters) of a few slow cosines: what 13 cepstra can say."""
    source = torch.Generator().manual_seed(0)
    transform, _ = cosine_transforms(6, filters)
    return (torch.randn(count, 6, 6, generator=source).double() / torch.arange(1, 7)) @ transform


def test_a_peak_moves_to_the_factor_times_its_bin() -> None:
    features = torch.full((3, 4, 80), -5.0)
    features[:, :, 30] = 2.0
    warped = warp_filterbanks(features, torch.tensor([1.1, 0.9, 1.0]))
    assert warped.argmax(dim=2)[:, 0].tolist() == [33, 27, 30]
    torch.testing.assert_close(warped.amax(dim=(1, 2)), torch.full((3,), 2.0))
    assert torch.equal(warped[2], features[2])


@given(factor=st.floats(0.5, 1.5), bins=st.integers(1, 90))
def test_each_output_is_a_mean_of_neighbours(factor: float, bins: int) -> None:
    (matrix,) = warp_matrices(torch.tensor([factor], dtype=torch.float64), bins)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(bins, dtype=torch.float64))
    assert ((matrix > 0).sum(dim=1) <= 2).all() and matrix[0, 0] == 1
    places = matrix @ torch.arange(bins, dtype=torch.float64)
    wanted = (torch.arange(bins, dtype=torch.float64) / factor).clamp(max=bins - 1)
    torch.testing.assert_close(places, wanted)


def test_beyond_the_last_bin_its_value_is_repeated() -> None:
    ramp = torch.arange(20.0)[None, None]
    warped = warp_filterbanks(ramp, torch.tensor([0.5]))[0, 0]
    assert warped[:10].tolist() == [2.0 * k for k in range(10)] and (warped[10:] == 19).all()


def test_cepstra_of_factor_one_are_unchanged() -> None:
    features = 10 * torch.randn(4, 30, 13, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp_cepstra(features, torch.ones(4), FILTERS), features, atol=1e-5, rtol=0)


def test_the_transforms_are_the_unnormalized_cosine_transform_and_its_inverse() -> None:
    transform, inverse = cosine_transforms(13, FILTERS)
    torch.testing.assert_close(transform @ inverse, torch.eye(13, dtype=torch.float64))
    logs = torch.linspace(-3, 2, FILTERS, dtype=torch.float64)
    wanted = [
        sum(float(x) * math.cos(math.pi * k * (m + 0.5) / FILTERS) for m, x in enumerate(logs)) for k in range(13)
    ]
    torch.testing.assert_close(transform @ logs, torch.tensor(wanted, dtype=torch.float64))


def test_warped_cepstra_are_the_cepstra_of_warped_filterbanks() -> None:
    factors = torch.tensor([0.86, 1.0, 1.14])
    spectra = smooth_spectra(3)
    transform, _ = cosine_transforms(13, FILTERS)
    wanted = warp_filterbanks(spectra, factors) @ transform.T
    torch.testing.assert_close(warp_cepstra(spectra @ transform.T, factors, FILTERS), wanted)


def test_a_warp_and_its_inverse_nearly_cancel_and_a_single_one_does_not() -> None:
    transform, _ = cosine_transforms(13, FILTERS)
    cepstra = smooth_spectra(2) @ transform.T
    factor = torch.tensor([0.9, 0.95])
    once = warp_cepstra(cepstra, factor, FILTERS)
    back = warp_cepstra(once, 1 / factor, FILTERS)
    assert (back - cepstra).norm() < 0.3 * (once - cepstra).norm()
    assert (once - cepstra).norm() > 0.05 * cepstra.norm()


def only(vtlp: float, domain: str = "cepstrum") -> AugmentConfig:
    return AugmentConfig(0, frequency_masks=0, noise=0, channel=0, vtlp=vtlp, vtlp_domain=domain)


def test_factors_are_drawn_for_each_utterance_within_the_range() -> None:
    ramp = torch.arange(200.0).expand(500, 1, 200).clone()
    warped, lengths = augment(
        ramp, torch.ones(500, dtype=torch.int64), only(0.14, "filterbank"), torch.Generator().manual_seed(0)
    )
    factors = 100 / warped[:, 0, 100]
    assert factors.min() >= 0.859 and factors.max() <= 1.141
    assert factors.min() < 0.87 and factors.max() > 1.13 and factors.mean() == pytest.approx(1, abs=0.02)
    assert lengths.tolist() == [1] * 500


def test_the_generator_decides_and_padding_stays_zero() -> None:
    features = torch.randn(2, 9, 13, generator=torch.Generator().manual_seed(1))
    features[1, 4:] = 0
    lengths = torch.tensor([9, 4])
    runs = [augment(features, lengths, only(0.2), torch.Generator().manual_seed(seed))[0] for seed in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert (runs[0][1, 4:] == 0).all() and not torch.equal(runs[0][0], features[0])


def test_more_coefficients_than_filters_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"40 filters give no cepstrum of 80 coefficients .*vtlp_domain=filterbank"):
        augment(torch.zeros(1, 3, 80), torch.tensor([3]), only(0.1), torch.Generator())
