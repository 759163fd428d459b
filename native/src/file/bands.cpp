#include "file/bands.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "bits.hpp"
#include "file/float16.hpp"

namespace sottovoce {
namespace {

constexpr int kMaxBits = 8;
constexpr std::size_t kMaxKind = 64;

const TensorView& find_part(const Container& container, const std::string& name) {
  const auto found = container.tensors().find(name);
  if (found == container.tensors().end()) {
    throw Error("tensor " + name + ": declared in the metadata, missing in the file");
  }
  return found->second;
}

[[noreturn]] void refuse_shape(const std::string& name, const std::string& expected, const TensorView& found) {
  throw Error("tensor " + name + ": expected " + expected + ", found " + found.describe());
}

bool is_short_text(const std::string& text) {
  if (text.empty()) return true;
  try {
    check_name(text);
  } catch (const Error&) {
    return false;
  }
  return text.size() <= 4 * kMaxKind;
}

// Row r of the band uses entry r // (rows / G) of its G scales.
std::vector<float> read_scale(const std::string& name, const FileBand& band, const TensorView& scale) {
  if ((scale.dtype != Dtype::f16 && scale.dtype != Dtype::f32) || scale.shape.size() != 1) {
    refuse_shape(name, "float16 or float32 of one dimension", scale);
  }
  const std::int64_t groups = scale.shape[0];
  const std::int64_t wanted = band.grouping == "tensor" ? 1 : band.grouping == "row" ? band.rows : groups;
  if (groups != wanted || groups < 1 || band.rows % groups != 0) {
    throw Error("tensor " + name + ": " + std::to_string(groups) + " entries do not fit grouping " + band.grouping +
                " over " + std::to_string(band.rows) + " rows");
  }
  std::vector<float> values(static_cast<std::size_t>(band.rows));
  const std::size_t each = values.size() / static_cast<std::size_t>(groups);
  for (std::size_t row = 0; row < values.size(); ++row) {
    const std::size_t group = row / each;
    if (scale.dtype == Dtype::f32) {
      std::memcpy(&values[row], scale.bytes.data() + 4 * group, 4);
    } else {
      std::uint16_t half;
      std::memcpy(&half, scale.bytes.data() + 2 * group, 2);
      values[row] = float_of_half(half);
    }
  }
  return values;
}

FileBand read_band(const Container& container, const std::string& name, const Json& entry, std::int64_t first_row,
                   std::int64_t columns) {
  const std::string where = "band " + name;
  if (!has_exactly(entry, {"rows", "bits", "kind", "grouping"})) {
    throw Error(where + ": expected bits, grouping, kind, rows");
  }
  const auto rows = integers(where, "rows", *entry.find("rows"), kMaxDimension);
  const std::int64_t* bits = entry.find("bits")->as<std::int64_t>();
  const std::string* kind = entry.find("kind")->as<std::string>();
  const std::string* grouping = entry.find("grouping")->as<std::string>();
  if (rows.size() != 2 || !kind || !grouping) throw Error(where + ": expected two rows, kind and grouping as text");
  if (!bits || *bits < 1 || *bits > kMaxBits) throw Error("tensor " + name + ": expected 1 to 8 bits");
  if (rows[0] != first_row || rows[1] <= first_row || rows[1] > std::numeric_limits<int>::max()) {
    throw Error("tensor " + name + ": expected rows from " + std::to_string(first_row) + " on, found rows " +
                std::to_string(rows[0]) + " to " + std::to_string(rows[1]));
  }
  if (!is_short_text(*kind)) {
    throw Error("tensor " + name + ": expected a kind of at most " + std::to_string(kMaxKind) +
                " printable characters");
  }
  if (*grouping != "tensor" && *grouping != "gate" && *grouping != "row") {
    throw Error("tensor " + name + ": expected grouping tensor or gate or row, found " + quoted(*grouping));
  }
  FileBand band{static_cast<int>(*bits), static_cast<int>(rows[1] - rows[0]), *kind, *grouping, {}, {}, {}};

  const TensorView& codes = find_part(container, name + ".codes");
  const auto width = static_cast<std::int64_t>(row_bytes(static_cast<std::size_t>(columns), band.bits));
  const std::vector<std::int64_t> expected = {band.rows, width};
  if (codes.dtype != Dtype::u8 || codes.shape != expected) {
    refuse_shape(name + ".codes", "uint8 of " + describe_shape(expected), codes);
  }
  band.codes = codes.bytes;

  const TensorView& levels = find_part(container, name + ".levels");
  const std::int64_t most = std::int64_t{1} << band.bits;
  if (levels.dtype != Dtype::i8 || levels.shape.size() != 1 || levels.shape[0] < 1 || levels.shape[0] > most) {
    refuse_shape(name + ".levels", "int8 of 1 to " + std::to_string(most) + " levels", levels);
  }
  band.levels = {reinterpret_cast<const std::int8_t*>(levels.bytes.data()), levels.bytes.size()};

  band.row_scale = read_scale(name + ".scale", band, find_part(container, name + ".scale"));
  return band;
}

int code_at(const std::uint8_t* row, std::size_t column, int bits) {
  const std::size_t bit = column * static_cast<std::size_t>(bits), shift = bit % 8;
  unsigned word = row[bit / 8];
  if (shift + static_cast<std::size_t>(bits) > 8) word |= static_cast<unsigned>(row[bit / 8 + 1]) << 8;
  return static_cast<int>(word >> shift & ((1u << bits) - 1));
}

void check_codes(const std::string& name, const FileBand& band, std::size_t columns) {
  const std::size_t width = row_bytes(columns, band.bits), used = columns * static_cast<std::size_t>(band.bits) % 8;
  // Where every code has a level there is nothing to look for.
  const int count = static_cast<int>(band.levels.size());
  const bool any_code = count == 1 << band.bits;
  for (const std::uint8_t* row = band.codes.data(); row != band.codes.data() + band.codes.size(); row += width) {
    if (used != 0 && row[width - 1] >> used != 0) {
      throw Error(name + ": expected zero bits after the last code of a row, found others");
    }
    for (std::size_t column = 0; !any_code && column < columns; ++column) {
      if (const int code = code_at(row, column, band.bits); code >= count) {
        throw Error(name + ": expected codes below the " + std::to_string(count) + " levels, found " +
                    std::to_string(code));
      }
    }
  }
}

}  // namespace

FileMatrix read_matrix(const Container& container, const std::string& name, const Json& entry,
                       std::vector<std::string>& parts) {
  check_name(name);
  const Json* declared = entry.find("bands");
  const Json::List* bands = declared ? declared->as<Json::List>() : nullptr;
  if (!has_exactly(entry, {"shape", "bands"}) || !bands) {
    throw Error("matrix " + name + ": expected a shape and a list of bands");
  }
  FileMatrix matrix{integers("matrix " + name, "shape", *entry.find("shape"), kMaxDimension), 0, 1, {}};
  const bool empty = std::find(matrix.shape.begin(), matrix.shape.end(), 0) != matrix.shape.end();
  if (matrix.shape.size() < 2 || empty) {
    throw Error("tensor " + name + ": expected a shape of two or more dimensions, none empty, found " +
                describe_shape(matrix.shape));
  }
  matrix.rows = matrix.shape[0];
  for (std::size_t i = 1; i < matrix.shape.size(); ++i) {
    if (matrix.shape[i] > kMaxDimension / matrix.columns) {
      throw Error("tensor " + name + ": too many columns: " + describe_shape(matrix.shape));
    }
    matrix.columns *= matrix.shape[i];
  }
  std::int64_t at = 0;
  for (const Json& band : *bands) {
    const std::string band_name = name + "." + std::to_string(matrix.bands.size());
    matrix.bands.push_back(read_band(container, band_name, band, at, matrix.columns));
    at += matrix.bands.back().rows;
    for (const char* part : {".codes", ".levels", ".scale"}) parts.push_back(band_name + part);
  }
  if (at != matrix.rows) {
    throw Error("tensor " + name + ": expected bands over all " + std::to_string(matrix.rows) +
                " rows, found them over " + std::to_string(at));
  }
  return matrix;
}

void check_values(const std::string& name, const FileMatrix& matrix) {
  for (std::size_t k = 0; k < matrix.bands.size(); ++k) {
    const FileBand& band = matrix.bands[k];
    const std::string where = "tensor " + name + "." + std::to_string(k);
    for (std::size_t i = 1; i < band.levels.size(); ++i) {
      if (band.levels[i] <= band.levels[i - 1]) throw Error(where + ".levels: expected strictly increasing levels");
    }
    for (const float scale : band.row_scale) {
      if (!std::isfinite(scale) || scale <= 0) throw Error(where + ".scale: expected finite values above zero");
    }
    check_codes(where + ".codes", band, static_cast<std::size_t>(matrix.columns));
  }
}

std::vector<PackedBand> FileMatrix::views() const {
  std::vector<PackedBand> result;
  for (const FileBand& band : bands) result.push_back(band.view());
  return result;
}

std::vector<float> FileMatrix::decode() const {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
  for (const FileBand& band : bands) {
    const std::size_t width = row_bytes(static_cast<std::size_t>(columns), band.bits);
    for (std::size_t row = 0; row < band.row_scale.size(); ++row) {
      for (std::size_t column = 0; column < static_cast<std::size_t>(columns); ++column) {
        const int code = code_at(band.codes.data() + row * width, column, band.bits);
        values.push_back(static_cast<float>(band.levels[static_cast<std::size_t>(code)]) * band.row_scale[row]);
      }
    }
  }
  return values;
}

}  // namespace sottovoce
