// A packed weight matrix in tiles, and its product with int8 activations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "activations.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "threads.hpp"

namespace sottovoce {

// Rows of a packed file with bits and levels of their own (sottovoce.packed.Band); nothing is copied or owned.
struct PackedBand {
  int bits;                             // 1 .. 8
  int rows;                             // > 0
  std::span<const std::int8_t> levels;  // (1 .. 2^bits,)
  std::span<const float> row_scale;     // (rows,)
  std::span<const std::uint8_t> codes;  // (rows * row_bytes(columns, bits),)
};

// Throws std::invalid_argument, one line, unless the bands agree with themselves and with 1 .. 65,536 columns.
void check_bands(int columns, std::span<const PackedBand> bands);

// Tiles are made in the constructor, rows split among the pool's threads; the bands are not needed afterwards.
class Matrix {
 public:
  // Throws as check_bands does.
  Matrix(const Kernels& kernels, int columns, std::span<const PackedBand> bands, ThreadPool& pool);

  int rows() const { return rows_; }
  int columns() const { return columns_; }
  const Kernels& kernels() const { return *kernels_; }
  std::size_t tile_bytes() const;  // what one product reads

  // out (n, out_stride): out[i][r] = float32(sum q_i * level_r) * (row_scale_r * s_i). x must have this many columns.
  void product(const ActivationsView& x, float* out, std::ptrdiff_t out_stride, ThreadPool& pool) const;

 private:
  struct Band {
    BandView view;
    int first_row, panels;
    Block tiles, tables;
    std::vector<float> row_scale;
  };

  Band make_band(const PackedBand& source, int first_row, ThreadPool& pool) const;
  void product_panels(const ActivationsView& x, float* out, std::ptrdiff_t out_stride, Range panels) const;

  const Kernels* kernels_;
  int rows_ = 0, columns_ = 0, panels_ = 0;
  std::vector<Band> bands_;
};

}  // namespace sottovoce
