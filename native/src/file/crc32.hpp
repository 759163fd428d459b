// The CRC-32 of zlib.
#pragma once

#include <cstdint>
#include <span>

namespace sottovoce {

// Of the bytes so far (`crc`, 0 at first) and these.
std::uint32_t crc32(std::span<const std::uint8_t> bytes, std::uint32_t crc = 0);

}  // namespace sottovoce
