// The packed file: matrices, arrays, tokenizer and settings of a model (sottovoce.packed.file and .model).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "file/container.hpp"
#include "matrix.hpp"

namespace sottovoce {

// Rows of a matrix with bits and levels of their own; views of the mapped file, except the scales.
struct FileBand {
  int bits;
  int rows;
  std::string kind, grouping;
  std::span<const std::int8_t> levels;  // strictly increasing
  std::vector<float> row_scale;         // (rows,), finite and above zero
  std::span<const std::uint8_t> codes;  // (rows * row_bytes(columns, bits),)

  PackedBand view() const { return {bits, rows, levels, row_scale, codes}; }
};

struct FileMatrix {
  std::vector<std::int64_t> shape;  // (R, ...)
  std::int64_t rows, columns;       // R, and the product of the rest
  std::vector<FileBand> bands;      // they tile the rows in order

  std::vector<PackedBand> views() const;
  std::vector<float> decode() const;  // (rows, columns): float32(scale) * float32(level)
};

// Everything is checked when it opens: what is declared first, then checksums, then levels, scales and codes.
class ModelFile {
 public:
  explicit ModelFile(const std::string& path);  // throws Error: one line with the file and the tensor

  // Aliases are followed. Null where there is no matrix, or no array, of that name.
  const FileMatrix* matrix(std::string_view name) const;
  const TensorView* array(std::string_view name) const;

  // The matrix was read for the last time, or seldom will be: its pages may leave memory.
  void forget(const FileMatrix& matrix) const;

  // A matrix or an array of floats, decoded to float32, and its shape. Throws Error naming the tensor.
  std::vector<float> floats(std::string_view name, const std::vector<std::int64_t>& shape) const;

  const Json& architecture() const { return *container_.fields().find("architecture"); }
  const Json& input() const { return *container_.fields().find("input"); }
  const TensorView* tokenizer() const { return tokenizer_; }  // uint8 (bytes,), or null

  const std::map<std::string, FileMatrix, std::less<>>& matrices() const { return matrices_; }
  const std::map<std::string, const TensorView*, std::less<>>& arrays() const { return arrays_; }

 private:
  void read();
  void check_fields() const;
  void check_aliases() const;
  void check_arrays() const;
  std::string_view stored_name(std::string_view name) const;

  Container container_;
  std::map<std::string, FileMatrix, std::less<>> matrices_;
  std::map<std::string, const TensorView*, std::less<>> arrays_;
  const TensorView* tokenizer_ = nullptr;
};

}  // namespace sottovoce
