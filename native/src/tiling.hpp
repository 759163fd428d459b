// From the file's row-major bit stream to tiles in the order of use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.hpp"
#include "threads.hpp"

namespace sottovoce {

struct PackedRows {
  const std::uint8_t* codes;  // (rows, row_bytes(columns, bits))
  int rows, columns, bits;
};

constexpr int panels_of(int rows) { return (rows + kPanelRows - 1) / kPanelRows; }
constexpr int chunks_of(int columns) { return (columns + kChunkColumns - 1) / kChunkColumns; }

constexpr std::size_t panel_bytes(int columns, int stored_bits) {
  return static_cast<std::size_t>(chunks_of(columns)) * static_cast<std::size_t>(stored_bits) * kVectorBytes;
}

// Writes the panels of a range, (panels, panel_bytes). Rows and columns that are not there become code 0, and there
// activations are zeros and results are dropped. Tiles hold what `stored` (256,) has for each code: a level where
// stored_bits is 8, else another code; the code itself where it is null.
void tile_panels(const PackedRows& source, Layout layout, int stored_bits, const std::uint8_t* stored, Range panels,
                 std::uint8_t* tiles);

}  // namespace sottovoce
