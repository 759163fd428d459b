from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from packed_helpers import matrices, small_model

from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, make_band, unpack_codes


@given(matrices())
def test_decode_is_scale_times_level_entry_by_entry(matrix: PackedMatrix) -> None:
    matrix.validate("w")
    weights = matrix.decode().reshape(matrix.rows, matrix.columns)
    assert weights.dtype == np.float32
    for band in matrix.bands:
        codes = unpack_codes(band.codes, matrix.columns, band.bits)
        for row in range(band.rows):
            scale = np.float32(band.scale[row // (band.rows // len(band.scale))])
            expected = [scale * np.float32(band.levels[code]) for code in codes[row]]
            assert weights[band.start + row].tolist() == expected


@given(matrices())
def test_levels_and_row_scales_give_the_weights(matrix: PackedMatrix) -> None:
    levels, scale = matrix.level_matrix(), matrix.row_scale()
    assert levels.dtype == np.int8 and scale.shape == (matrix.rows,)
    weights = scale[:, None] * levels.astype(np.float32)
    assert np.array_equal(weights.reshape(matrix.shape), matrix.decode())
    assert matrix.nbytes == sum(b.codes.nbytes + b.levels.nbytes + b.scale.nbytes for b in matrix.bands)
    assert matrix.bits_per_weight == 8 * matrix.nbytes / levels.size


def _band(**changes):
    codes = np.zeros((4, 6), np.uint8)
    band = make_band(codes, np.array([-1, 0, 3], np.int8), np.ones(2, np.float32), 2, "lloyd", "gate")
    return replace(band, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"levels": np.array([0, 0, 3], np.int8)}, "w.0.levels: expected strictly increasing"),
        ({"levels": np.arange(5, dtype=np.int8)}, "w.0.levels: expected int8 of 1 to 4 levels"),
        ({"levels": np.zeros(0, np.int8)}, "w.0.levels: expected int8"),
        ({"levels": np.arange(3, dtype=np.int16)}, "found int16"),
        (
            {"scale": np.array([1.0, np.nan], np.float32)},
            "w.0.scale: expected finite values above zero, found nan at 1",
        ),
        ({"scale": np.array([np.inf, 1.0], np.float16)}, "found inf at 0"),
        ({"scale": np.array([0.0, 1.0], np.float32)}, "found 0.0 at 0"),
        ({"scale": np.array([-1.0, 1.0], np.float32)}, "found -1.0 at 0"),
        ({"scale": np.ones(3, np.float32)}, "3 entries do not fit grouping gate over 4 rows"),
        ({"scale": np.ones(0, np.float32)}, "0 entries do not fit"),
        ({"scale": np.ones(2, np.float64)}, "found float64"),
        ({"scale": np.ones((2, 1), np.float32)}, "one dimension"),
        ({"grouping": "tensor"}, "2 entries do not fit grouping tensor"),
        ({"grouping": "row"}, "2 entries do not fit grouping row"),
        ({"grouping": "column"}, "expected grouping tensor or gate or row"),
        ({"bits": 3}, "w.0.codes: expected uint8"),
        ({"bits": 9}, "expected 1 to 8 bits"),
        ({"kind": "two\nlines"}, "printable"),
        ({"codes": np.full((4, 2), 0x0F, np.uint8)}, "w.0.codes: expected codes below the 3 levels, found 3"),
        ({"codes": np.full((4, 2), 0x80, np.uint8)}, "w.0.codes: expected zero bits after the last code"),
        ({"codes": np.zeros((4, 3), np.uint8)}, r"w.0.codes: expected uint8 of \(4, 2\)"),
        ({"start": 1}, "w.0: expected rows from 0 on"),
        ({"stop": 0}, "w.0: expected rows from 0 on, found rows 0 to 0"),
    ],
)
def test_a_wrong_band_is_named(changes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        PackedMatrix((4, 6), (_band(**changes),)).validate("w")


@pytest.mark.parametrize("shape", [(4,), (), (4, 0), (0, 6)])
def test_a_matrix_needs_two_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match="w: expected a shape of two or more"):
        PackedMatrix(shape, (_band(),)).validate("w")


def test_bands_must_tile_the_rows() -> None:
    with pytest.raises(FormatError, match="w: expected bands over all 5 rows, found them over 4"):
        PackedMatrix((5, 6), (_band(),)).validate("w")
    with pytest.raises(FormatError, match=r"w\.1: expected rows from 4 on"):
        PackedMatrix((8, 6), (_band(), _band(start=5, stop=9))).validate("w")
    with pytest.raises(FormatError, match="w: expected bands over all 4 rows, found them over 0"):
        PackedMatrix((4, 6), ()).validate("w")


def test_make_band_checks_its_input() -> None:
    with pytest.raises(FormatError, match="below the 2 levels, found 2"):
        make_band(np.full((1, 3), 2, np.uint8), np.array([0, 1], np.int8), np.ones(1, np.float16), 2, "x", "tensor")


def test_counts_of_a_model() -> None:
    model = small_model()
    assert model.parameters == 20 + 2 + 3  # the alias and the integer add nothing
    assert model.fp32_bytes == 100
    assert model.nbytes == model.tensors["w"].nbytes + 4 + 12 + 8
    assert np.array_equal(model.decode("tied"), model.decode("w"))
    assert model.decode("bias").dtype == np.float32
    with pytest.raises(FormatError, match="tensor none: "):
        model.decode("none")
