// The bit stream of packed rows (sottovoce.packed.bits): code c of a row is bits c * Bits .. c * Bits + Bits - 1 of a
// little-endian stream, rows padded to a byte.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sottovoce {

static_assert(std::endian::native == std::endian::little, "packed files and tiles are little-endian");

constexpr std::size_t row_bytes(std::size_t columns, int bits) {
  return (columns * static_cast<std::size_t>(bits) + 7) / 8;
}

// Eight codes, one in each byte, from the low 8 * Bits bits of a word: halves, quarters, then single codes move apart.
template <int Bits>
constexpr std::uint64_t spread(std::uint64_t word) {
  if constexpr (Bits == 8) return word;
  constexpr auto low = [](int bits) { return (std::uint64_t{1} << bits) - 1; };
  constexpr std::uint64_t four = low(4 * Bits), two = low(2 * Bits), one = low(Bits);
  word = (word & four) | (word >> (4 * Bits) & four) << 32;
  word = (word & (two | two << 32)) | (word >> (2 * Bits) & (two | two << 32)) << 16;
  constexpr std::uint64_t ones = one | one << 16 | one << 32 | one << 48;
  return (word & ones) | (word >> Bits & ones) << 8;
}

inline std::uint64_t load_word(const std::uint8_t* from) {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

}  // namespace sottovoce
