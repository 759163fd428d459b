import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import FormatError
from sottovoce.packed import bits as bits_module
from sottovoce.packed.bits import largest_code, pack_codes, padding_is_zero, row_bytes, unpack_codes


@given(rows=st.integers(0, 9), columns=st.integers(0, 40), bits=st.integers(1, 8), seed=st.integers(0, 999))
def test_round_trip_and_size(rows: int, columns: int, bits: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns), dtype=np.uint8)
    packed = pack_codes(codes, bits)
    assert packed.shape == (rows, -(-columns * bits // 8))
    assert np.array_equal(unpack_codes(packed, columns, bits), codes)
    assert padding_is_zero(packed, columns, bits)
    assert largest_code(packed, columns, bits) == int(codes.max(initial=0) if codes.size else -1)


@given(st.lists(st.integers(0, 31), min_size=1, max_size=20))
def test_row_is_a_little_endian_bit_stream(codes: list[int]) -> None:
    # The definition, in Python's own integers: code c stands at bit 5 c.
    stream = sum(code << 5 * place for place, code in enumerate(codes))
    packed = pack_codes(np.array([codes], np.uint8), 5)
    assert packed.tobytes() == stream.to_bytes(row_bytes(len(codes), 5), "little")


def test_blocks_do_not_change_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 8, (50, 13), dtype=np.uint8)
    whole = pack_codes(codes, 3)
    monkeypatch.setattr(bits_module, "_BLOCK", 30)
    assert np.array_equal(pack_codes(codes, 3), whole)
    assert np.array_equal(unpack_codes(whole, 13, 3), codes)
    assert largest_code(whole, 13, 3) == 7


def test_set_padding_is_seen() -> None:
    packed = pack_codes(np.zeros((2, 3), np.uint8), 2)
    packed[1, 0] |= 0x40
    assert not padding_is_zero(packed, 3, 2)
    assert padding_is_zero(packed, 4, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: row_bytes(4, 0), "1 to 8, found 0"),
        (lambda: row_bytes(4, 9), "1 to 8, found 9"),
        (lambda: row_bytes(-1, 3), "found -1"),
        (lambda: pack_codes(np.full((2, 2), 4, np.uint8), 2), "below 4 at 2 bits, found 4"),
        (lambda: pack_codes(np.zeros((2, 2), np.int64), 2), "int64"),
        (lambda: pack_codes(np.zeros(2, np.uint8), 2), r"\(2,\)"),
        (lambda: unpack_codes(np.zeros((2, 2), np.uint8), 3, 2), r"\(R, 1\)"),
    ],
)
def test_refusals(call, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        call()
