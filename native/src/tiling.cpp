#include "tiling.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "bits.hpp"

namespace sottovoce {
namespace {

constexpr int kWords = kVectorBytes / 8;
constexpr std::uint64_t kEachByte = 0x0101010101010101;

// The eight code vectors of a chunk, a code a byte.
struct Codes {
  alignas(64) std::uint8_t vectors[8][kVectorBytes];
};

// The chunk's codes of one row, eight at a time, to the row's four bytes of each code vector.
template <int Bits>
void scatter_row(const std::uint8_t* from, int row, Codes& codes) {
  for (int eight = 0; eight < kChunkColumns / 8; ++eight) {
    const std::uint64_t spread_codes = spread<Bits>(load_word(from + eight * Bits));
    const std::uint32_t low = static_cast<std::uint32_t>(spread_codes);
    const std::uint32_t high = static_cast<std::uint32_t>(spread_codes >> 32);
    std::memcpy(codes.vectors[2 * eight] + 4 * row, &low, 4);
    std::memcpy(codes.vectors[2 * eight + 1] + 4 * row, &high, 4);
  }
}

template <int Bits>
void gather_chunk(const PackedRows& source, int first_row, int chunk, Codes& codes) {
  constexpr std::size_t chunk_bytes = kChunkColumns / 8 * Bits;
  const std::size_t stride = row_bytes(static_cast<std::size_t>(source.columns), Bits);
  const std::size_t at = static_cast<std::size_t>(chunk) * chunk_bytes;
  const int rows = std::min(kPanelRows, source.rows - first_row);
  // Words are read whole, so the last bytes of a row go through a copy.
  const bool direct = at + chunk_bytes + 8 <= stride;
  for (int row = 0; row < rows; ++row) {
    const std::uint8_t* from = source.codes + static_cast<std::size_t>(first_row + row) * stride + at;
    if (direct) {
      scatter_row<Bits>(from, row, codes);
    } else {
      std::uint8_t copy[chunk_bytes + 8] = {};
      std::memcpy(copy, from, std::min(chunk_bytes, stride - at));
      scatter_row<Bits>(copy, row, codes);
    }
  }
  for (int row = rows; row < kPanelRows; ++row) {
    for (auto& vector : codes.vectors) std::memset(vector + 4 * row, 0, 4);
  }
}

template <Layout layout, int Bits, int F>
void place_field(const Codes& codes, std::uint64_t (&tile)[Bits][kWords]) {
  constexpr Field field = fields_of(layout, Bits).fields[F];
  constexpr std::uint64_t mask = ((1u << field.width) - 1) * kEachByte;
  for (int w = 0; w < kWords; ++w) {
    tile[field.vector][w] |= (load_word(codes.vectors[field.code] + 8 * w) >> field.code_bit & mask) << field.bit;
  }
}

template <Layout layout, int Bits, int... F>
void place_fields(const Codes& codes, std::uint8_t* tile, std::integer_sequence<int, F...>) {
  std::uint64_t words[Bits][kWords] = {};
  (place_field<layout, Bits, F>(codes, words), ...);
  std::memcpy(tile, words, sizeof words);
}

void place_levels(const Codes& codes, const std::uint8_t* levels, std::uint8_t* tile) {
  for (const auto& vector : codes.vectors) {
    for (const std::uint8_t code : vector) *tile++ = levels[code];
  }
}

void replace_codes(Codes& codes, const std::uint8_t* by) {
  for (auto& vector : codes.vectors) {
    for (std::uint8_t& code : vector) code = by[code];
  }
}

template <Layout layout, int Bits, int Stored>
void tile_panel(const PackedRows& source, const std::uint8_t* stored, int first_row, std::uint8_t* tile) {
  Codes codes;
  for (int chunk = 0; chunk < chunks_of(source.columns); ++chunk) {
    gather_chunk<Bits>(source, first_row, chunk, codes);
    if constexpr (Stored == 8) {
      place_levels(codes, stored, tile);
    } else {
      if (stored != nullptr) replace_codes(codes, stored);
      constexpr int fields = fields_of(layout, Bits).count;
      place_fields<layout, Bits>(codes, tile, std::make_integer_sequence<int, fields>{});
    }
    tile += Stored * kVectorBytes;
  }
}

using TilePanel = void (*)(const PackedRows&, const std::uint8_t*, int, std::uint8_t*);

// Of 7 and 8 bits there are tiles of levels only.
template <Layout layout, int... Bits>
TilePanel select(int bits, int stored_bits, std::integer_sequence<int, Bits...>) {
  constexpr TilePanel of_levels[] = {tile_panel<layout, Bits + 1, 8>...};
  constexpr TilePanel of_codes[] = {tile_panel<layout, Bits + 1, (Bits < 6 ? Bits + 1 : 8)>...};
  return stored_bits == 8 ? of_levels[bits - 1] : of_codes[bits - 1];
}

}  // namespace

void tile_panels(const PackedRows& source, Layout layout, int stored_bits, const std::uint8_t* stored, Range panels,
                 std::uint8_t* tiles) {
  constexpr auto all = std::make_integer_sequence<int, 8>{};
  const TilePanel tile = layout == Layout::sextet ? select<Layout::sextet>(source.bits, stored_bits, all)
                                                  : select<Layout::nibble>(source.bits, stored_bits, all);
  const std::size_t bytes = panel_bytes(source.columns, stored_bits);
  for (int panel = panels.first; panel < panels.last; ++panel) {
    tile(source, stored, panel * kPanelRows, tiles + static_cast<std::size_t>(panel) * bytes);
  }
}

}  // namespace sottovoce
