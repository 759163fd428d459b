"""Products of packed weights on every kernel path, bit for bit the NumPy definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

native = pytest.importorskip("sottovoce._native", reason="installed without a compiler")

from native_cases import make_matrix, native_bands, same_bits  # noqa: E402

from sottovoce.packed import PackedMatrix, make_band  # noqa: E402
from sottovoce.runtime.arithmetic import MAX_COLUMNS  # noqa: E402
from sottovoce.runtime.layers import IntegerWeight, as_weight  # noqa: E402

PATHS = [name for name, available in native.kernel_paths() if available]
THREADS = {n: native.Threads(n) for n in (1, 2, 3)}


def expected(matrix: PackedMatrix, x: np.ndarray) -> np.ndarray:
    weight = as_weight(matrix, "matrix")
    assert isinstance(weight, IntegerWeight)
    return weight.product(x)


def test_the_paths_are_listed_fastest_first_and_portable_always_runs() -> None:
    names = [name for name, _ in native.kernel_paths()]
    assert names == ["avx512-vbmi-vnni", "avx512-vnni", "avx-vnni", "avx2", "neon-dotprod", "neon", "portable"]
    assert PATHS[-1] == "portable"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width_at_sizes_around_a_tile(path: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    for rows, columns in ((1, 1), (15, 31), (16, 32), (17, 33), (33, 64), (50, 7), (3, 1025), (300, 100)):
        matrix = make_matrix(rng, columns, (bits, rows), full=rows % 2 == 0)
        kernel = native.Matrix(columns, native_bands(matrix), path, THREADS[1])
        assert (kernel.rows, kernel.columns, kernel.kernel) == (rows, columns, path)
        for n in (0, 1, 2, 3, 4, 7, 8, 17):
            x = rng.normal(size=(n, columns)).astype(np.float32)
            assert same_bits(kernel.product(x), expected(matrix, x)), (rows, columns, n)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    path=st.sampled_from(PATHS),
    bands=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 90)), min_size=1, max_size=4),
    columns=st.integers(1, 150),
    n=st.integers(1, 20),
    threads=st.sampled_from([1, 2, 3]),
)
def test_bands_of_several_widths_and_any_threads(
    seed: int, path: str, bands: list[tuple[int, int]], columns: int, n: int, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = make_matrix(rng, columns, *bands)
    x = (rng.normal(size=(n, columns)) * 10.0 ** rng.integers(-20, 20)).astype(np.float32)
    kernel = native.Matrix(columns, native_bands(matrix), path, THREADS[threads])
    assert same_bits(kernel.product(x), expected(matrix, x))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_many_rows_split_among_threads(path: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    matrix = make_matrix(rng, 333, (bits, 2001))
    x = rng.normal(size=(1, 333)).astype(np.float32)
    for threads in THREADS.values():
        kernel = native.Matrix(333, native_bands(matrix), path, threads)
        assert same_bits(kernel.product(x), expected(matrix, x))


@pytest.mark.parametrize("path", PATHS)
def test_the_largest_sums_do_not_overflow(path: str) -> None:
    rng = np.random.default_rng(0)
    for bits in range(1, 9):
        matrix = make_matrix(rng, MAX_COLUMNS, (bits, 2), full=True)
        codes = np.zeros_like(matrix.bands[0].codes)  # every level is -128
        bands = [(bits, matrix.bands[0].levels, np.ones(2, np.float32), codes)]
        kernel = native.Matrix(MAX_COLUMNS, bands, path)
        for sign in (-127, 127):
            q = np.full((1, MAX_COLUMNS), sign, np.int8)
            found = kernel.integer_product(q, np.ones((1, 1), np.float32))
            assert found.tolist() == [[-128 * sign * MAX_COLUMNS] * 2]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("greatest", [127, 128, 100])
def test_sums_at_the_border_of_int16(path: str, greatest: int) -> None:
    """Sixteen magnitudes, all products alike in sign: activations whose sums of four just fit sixteen bits, or not."""
    magnitudes = np.arange(greatest - 15, greatest + 1)
    levels = np.sort(np.append(-magnitudes, magnitudes[magnitudes < 128])).astype(np.int8)
    columns = 96
    most = 32767 // greatest  # of |q| in columns c, c + 1, c + 4, c + 5
    q = np.zeros((4, columns), np.int8)
    for row, total in enumerate((most, most + 1, 4 * 127, most)):
        for c, value in zip((0, 1, 4, 5), (127, 127, min(127, total - 254), max(0, total - 381)), strict=True):
            q[row, c] = q[row, 34 + c] = value  # columns 0 and 2 of a pair, in two chunks
    q[3] *= np.where(np.arange(columns) % 2, -1, 1).astype(np.int8)
    outer = {sign: int(np.flatnonzero(levels == sign * min(greatest, 127 if sign > 0 else 128))[0]) for sign in (-1, 1)}
    for signs in (np.ones(columns), -np.ones(columns), np.sign(q[3]) + (q[3] == 0)):
        codes = np.where(signs > 0, outer[1], outer[-1])[None].astype(np.uint8).repeat(17, 0)
        band = make_band(codes, levels, np.ones(17, np.float32), 5, "test", "row", 0)
        kernel = native.Matrix(columns, [(5, levels, band.row_scale(), band.codes)], path)
        want = q.astype(np.int64) @ levels[codes].astype(np.int64).T
        for row in range(4):  # alone, as a stream's, and all together
            one = kernel.integer_product(q[row : row + 1], np.ones((1, 1), np.float32))
            assert one.tolist() == want[row : row + 1].tolist()
        assert kernel.integer_product(q, np.ones((4, 1), np.float32)).tolist() == want.tolist()


@pytest.mark.parametrize("path", PATHS)
def test_zeros_and_subnormal_activations(path: str) -> None:
    matrix = make_matrix(np.random.default_rng(1), 40, (5, 20))
    kernel = native.Matrix(40, native_bands(matrix), path)
    smallest = np.float32(1e-45)
    x = np.zeros((3, 40), np.float32)
    x[1, :5] = [smallest, -smallest, 3 * smallest, 190 * smallest, -100 * smallest]
    x[2, 39] = -0.0
    assert same_bits(kernel.product(x), expected(matrix, x))


@pytest.mark.parametrize("path", PATHS)
def test_tiles_take_no_more_than_the_packed_form(path: str) -> None:
    rng = np.random.default_rng(2)
    for bits in (1, 2, 3, 4, 5, 6, 8):
        stored = 8 if bits == 6 and path in ("avx2", "avx-vnni") else bits  # slower to look up there than to read
        matrix = make_matrix(rng, 1024, (bits, 64))
        tiled = native.Matrix(1024, native_bands(matrix), path).tile_bytes
        assert tiled == matrix.bands[0].codes.nbytes * stored // bits


def test_what_does_not_fit_is_one_clear_error() -> None:
    matrix = make_matrix(np.random.default_rng(3), 40, (4, 20))
    ((bits, levels, scale, codes),) = native_bands(matrix)
    kernel = native.Matrix(40, [(bits, levels, scale, codes)])
    x = np.zeros((2, 40), np.float32)
    wrong: list[tuple[str, object]] = [
        ("float32", x.astype(np.float64)),
        ("another order", np.zeros((40, 2), np.float32).T),
        ("another order", np.zeros((2, 80), np.float32)[:, ::2]),
        (r"shape \(2, 39\)", x[:, :39].copy()),
        (r"shape \(40\)", x[0]),
        ("no array", [1.0]),
        ("no array", "x"),
    ]
    for message, value in wrong:
        with pytest.raises(ValueError, match=message) as error:
            kernel.product(value)
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError):
        kernel.product(None)
    with pytest.raises(ValueError, match="-128"):
        kernel.integer_product(np.full((1, 40), -128, np.int8), np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match="scale"):
        kernel.integer_product(np.zeros((2, 40), np.int8), np.ones((1, 1), np.float32))
    for message, band in (
        ("1 to 8 bits", (9, levels, scale, codes)),
        ("1 to 8 bits", (0, levels, scale, codes)),
        ("levels", (3, np.arange(9, dtype=np.int8), scale, codes)),
        ("levels", (4, levels[:0], scale, codes)),
        ("row_scale", (4, levels, scale[:19], codes)),
        ("codes", (4, levels, scale, codes[:, :19].copy())),
        ("codes", (4, levels, scale, codes.astype(np.int32))),
        ("another order", (4, levels, scale, np.asfortranarray(codes))),
        ("row", (4, levels, scale[:0], codes[:0])),
        ("expected", (4, levels, scale)),
    ):
        with pytest.raises(ValueError, match=message):
            native.Matrix(40, [band])
    for columns in (0, -1, MAX_COLUMNS + 1):
        with pytest.raises(ValueError, match="columns"):
            native.Matrix(columns, [(bits, levels, scale, codes)])
    with pytest.raises(ValueError, match="at least one"):
        native.Matrix(40, [])
    with pytest.raises(ValueError, match="threads: expected 1 to 256"):
        native.Threads(0)


def test_a_kernel_that_cannot_run_is_named_with_those_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"kernel: expected one of avx512.*can run .*portable.*found 'sse9'"):
        native.exp(np.zeros(1, np.float32), "sse9")
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "portable")
    assert native.kernel_name() == "portable"
    monkeypatch.setenv("SOTTOVOCE_KERNEL", "sse9")
    with pytest.raises(ValueError, match=r"SOTTOVOCE_KERNEL: expected one of"):
        native.kernel_name()
