#include "file/crc32.hpp"

#include <array>
#include <cstddef>

#include "bits.hpp"

namespace sottovoce {
namespace {

constexpr int kBytes = 8;  // looked up together: a table for each place in a word
using Tables = std::array<std::array<std::uint32_t, 256>, kBytes>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
    tables[0][i] = crc;
  }
  for (std::size_t k = 1; k < kBytes; ++k) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = tables[k - 1][i];
      tables[k][i] = before >> 8 ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

std::uint32_t crc32(std::span<const std::uint8_t> bytes, std::uint32_t crc) {
  crc = ~crc;
  std::size_t at = 0;
  for (; at + kBytes <= bytes.size(); at += kBytes) {
    const std::uint64_t word = load_word(bytes.data() + at) ^ crc;
    crc = 0;
    for (std::size_t i = 0; i < kBytes; ++i) crc ^= kTables[kBytes - 1 - i][word >> (8 * i) & 0xff];
  }
  for (; at < bytes.size(); ++at) crc = crc >> 8 ^ kTables[0][(crc ^ bytes[at]) & 0xff];
  return ~crc;
}

}  // namespace sottovoce
