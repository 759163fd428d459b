#include "matrix.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include "bits.hpp"
#include "tiling.hpp"

namespace sottovoce {
namespace {

constexpr int kLeastPanels = 8;  // below this a split costs more than it saves

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void check_band(int columns, int k, const PackedBand& band) {
  const std::string name = "band " + std::to_string(k);
  if (band.bits < 1 || band.bits > 8) refuse(name + ": expected 1 to 8 bits, found " + std::to_string(band.bits));
  if (band.rows < 1) refuse(name + ": expected at least one row, found " + std::to_string(band.rows));
  const std::size_t most = std::size_t{1} << band.bits;
  if (band.levels.empty() || band.levels.size() > most) {
    refuse(name + ".levels: expected 1 to " + std::to_string(most) + " levels, found " +
           std::to_string(band.levels.size()));
  }
  const std::size_t rows = static_cast<std::size_t>(band.rows);
  if (band.row_scale.size() != rows) {
    refuse(name + ".row_scale: expected " + std::to_string(rows) + " entries, found " +
           std::to_string(band.row_scale.size()));
  }
  const std::size_t bytes = rows * row_bytes(static_cast<std::size_t>(columns), band.bits);
  if (band.codes.size() != bytes) {
    refuse(name + ".codes: expected " + std::to_string(bytes) + " bytes, found " + std::to_string(band.codes.size()));
  }
}

// Codes and tables of a band whose signs are apart: code s * 16 + i is magnitude i, its sign s.
struct SignsApart {
  std::uint8_t codes[256] = {};       // by the file's codes
  std::uint8_t magnitudes[256] = {};  // by i, zeros after the last one
};

// Nothing, if there are more than sixteen magnitudes.
std::optional<SignsApart> take_signs_apart(std::span<const std::int8_t> levels) {
  SignsApart apart;
  int count = 0;
  for (std::size_t code = 0; code < levels.size(); ++code) {
    const auto magnitude = static_cast<std::uint8_t>(std::abs(static_cast<int>(levels[code])));
    const std::uint8_t* first = apart.magnitudes;
    const auto index = static_cast<int>(std::find(first, first + count, magnitude) - first);
    if (index == 16) return std::nullopt;
    if (index == count) apart.magnitudes[count++] = magnitude;
    apart.codes[code] = static_cast<std::uint8_t>(index + (levels[code] < 0 ? 16 : 0));
  }
  return apart;
}

}  // namespace

void check_bands(int columns, std::span<const PackedBand> bands) {
  if (columns < 1 || columns > kMaxColumns) {
    refuse("columns: expected 1 to " + std::to_string(kMaxColumns) + ", found " + std::to_string(columns));
  }
  if (bands.empty()) refuse("bands: expected at least one, found none");
  long long rows = 0;
  for (std::size_t k = 0; k < bands.size(); ++k) {
    check_band(columns, static_cast<int>(k), bands[k]);
    rows += bands[k].rows;
  }
  if (rows > std::numeric_limits<int>::max()) refuse("bands: too many rows: " + std::to_string(rows));
}

Matrix::Matrix(const Kernels& kernels, int columns, std::span<const PackedBand> bands, ThreadPool& pool)
    : kernels_(&kernels), columns_(columns) {
  check_bands(columns, bands);
  bands_.reserve(bands.size());
  for (const PackedBand& band : bands) {
    bands_.push_back(make_band(band, rows_, pool));
    rows_ += band.rows;
    panels_ += bands_.back().panels;
  }
}

Matrix::Band Matrix::make_band(const PackedBand& source, int first_row, ThreadPool& pool) const {
  const int stored = stored_bits(source.bits, kernels_->widest_lookup);
  Band band{{}, first_row, panels_of(source.rows), {}, Block(kTableBytes), {}};
  band.row_scale.assign(source.row_scale.begin(), source.row_scale.end());
  std::uint8_t levels[256] = {};
  for (std::size_t code = 0; code < source.levels.size(); ++code) {
    levels[code] = static_cast<std::uint8_t>(source.levels[code] + kernels_->level_offset);
  }
  const bool may_split = stored == 5 && kernels_->takes_signs_apart;
  const std::optional<SignsApart> apart = may_split ? take_signs_apart(source.levels) : std::nullopt;
  kernels_->make_tables(apart ? 4 : stored, apart ? apart->magnitudes : levels, band.tables.as<std::uint8_t>());
  band.tiles = Block(static_cast<std::size_t>(band.panels) * panel_bytes(columns_, stored));
  const PackedRows rows{source.codes.data(), source.rows, columns_, source.bits};
  std::uint8_t* tiles = band.tiles.as<std::uint8_t>();
  const std::uint8_t* replaced = stored == 8 ? levels : apart ? apart->codes : nullptr;
  pool.split(band.panels, kLeastPanels,
             [&](Range panels) { tile_panels(rows, kernels_->layout, stored, replaced, panels, tiles); });
  const bool has_minus_128 = std::find(source.levels.begin(), source.levels.end(), -128) != source.levels.end();
  band.view = {
      tiles,        band.tables.as<std::uint8_t>(), band.row_scale.data(), source.rows, chunks_of(columns_), stored,
      has_minus_128, apart.has_value()};
  return band;
}

std::size_t Matrix::tile_bytes() const {
  std::size_t bytes = 0;
  for (const Band& band : bands_) bytes += band.tiles.size();
  return bytes;
}

void Matrix::product(const ActivationsView& x, float* out, std::ptrdiff_t out_stride, ThreadPool& pool) const {
  if (x.stride != static_cast<std::ptrdiff_t>(chunks_of(columns_)) * kChunkColumns) {
    refuse("activations: expected " + std::to_string(columns_) + " columns, found vectors of " +
           std::to_string(x.stride) + " when padded");
  }
  pool.split(panels_, kLeastPanels, [&](Range panels) { product_panels(x, out, out_stride, panels); });
}

void Matrix::product_panels(const ActivationsView& x, float* out, std::ptrdiff_t out_stride, Range panels) const {
  int before = 0;
  for (const Band& band : bands_) {
    const int first = std::max(panels.first - before, 0), last = std::min(panels.last - before, band.panels);
    if (first < last) kernels_->product(band.view, x, out + band.first_row, out_stride, first, last);
    before += band.panels;
  }
}

}  // namespace sottovoce
