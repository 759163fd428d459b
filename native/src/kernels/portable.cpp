// Plain C++ for any processor: a chunk is decoded as layout.hpp describes it, then multiplied.
#include "../layout.hpp"
#include "common.hpp"

#define SOTTOVOCE_WIDEST_LOOKUP 6
#define SOTTOVOCE_SIGNS_APART 0

namespace sottovoce {
namespace {

constexpr std::uint8_t kLevelOffset = 0;
constexpr int kTogether = 8;  // vectors that share one decoding

#include "elementwise.inl"
#include "accelerator.inl"

struct Levels {
  std::int8_t vectors[8][kVectorBytes];
};

void decode(const FieldList& list, const std::uint8_t* codes, const std::uint8_t* levels, Levels& out) {
  std::uint8_t plain[8][kVectorBytes] = {};
  for (int f = 0; f < list.count; ++f) {
    const Field field = list.fields[f];
    const int mask = (1 << field.width) - 1;
    const std::uint8_t* from = codes + field.vector * kVectorBytes;
    std::uint8_t* to = plain[field.code];
    for (int k = 0; k < kVectorBytes; ++k) {
      to[k] = static_cast<std::uint8_t>(to[k] | (from[k] >> field.bit & mask) << field.code_bit);
    }
  }
  for (int i = 0; i < 8; ++i) {
    for (int k = 0; k < kVectorBytes; ++k) out.vectors[i][k] = static_cast<std::int8_t>(levels[plain[i][k]]);
  }
}

void add_products(const Levels& levels, const std::int8_t* q, std::int32_t* sums) {
  for (int i = 0; i < 8; ++i) {
    for (int r = 0; r < kPanelRows; ++r) {
      for (int c = 0; c < 4; ++c) sums[r] += levels.vectors[i][4 * r + c] * q[4 * i + c];
    }
  }
}

void product(const BandView& band, const ActivationsView& x, float* out, std::ptrdiff_t out_stride, int first,
             int last) {
  const FieldList list = fields_of(Layout::nibble, band.stored_bits);
  const std::ptrdiff_t chunk_bytes = static_cast<std::ptrdiff_t>(band.stored_bits) * kVectorBytes;
  for (int panel = first; panel < last; ++panel) {
    const int first_row = panel * kPanelRows;
    const int rows = band.rows - first_row < kPanelRows ? band.rows - first_row : kPanelRows;
    for (int start = 0; start < x.n; start += kTogether) {
      const int n = x.n - start < kTogether ? x.n - start : kTogether;
      std::int32_t sums[kTogether][kPanelRows] = {};
      for (int chunk = 0; chunk < band.chunks; ++chunk) {
        Levels levels;
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(panel) * band.chunks + chunk;
        decode(list, band.tiles + at * chunk_bytes, band.tables, levels);
        for (int i = 0; i < n; ++i) add_products(levels, x.q + (start + i) * x.stride + chunk * kChunkColumns, sums[i]);
      }
      for (int i = 0; i < n; ++i) {
        for (int r = 0; r < rows; ++r) {
          const float scale = band.row_scale[first_row + r] * x.scale[start + i];
          out[(start + i) * out_stride + first_row + r] = static_cast<float>(sums[i][r]) * scale;
        }
      }
    }
  }
}

// Tiles of 8 stored bits hold the levels themselves.
void make_tables(int stored_bits, const std::uint8_t* levels, std::uint8_t* tables) {
  for (int code = 0; code < 256; ++code) {
    tables[code] = stored_bits == 8 ? static_cast<std::uint8_t>(code) : levels[code];
  }
}

#include "table.inl"

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels kernels = make_kernels("portable", Layout::nibble);
  return kernels;
}

}  // namespace sottovoce
