// Where a network's tensors come from: a packed file, whoever reads it.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "matrix.hpp"

namespace sottovoce {

// A tensor of a network is stored as floats: such files run on the NumPy definition.
class NotPacked : public std::invalid_argument {
 public:
  explicit NotPacked(const std::string& name)
      : std::invalid_argument(name + ": expected a packed matrix, found floats: the kernels multiply packed weights") {}
};

// The bands of one matrix in order of rows; `keep` owns what their spans point into, if the source does not.
struct PackedTensor {
  std::vector<PackedBand> bands;
  std::shared_ptr<const void> keep;
};

// Tensors by name. A source follows aliases and checks shapes: it throws std::invalid_argument, one line that begins
// with the name, for a tensor that is missing or misshapen, and NotPacked for floats where a matrix is asked for.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // The matrix (rows, columns) of that name; its bands lie where they are until `finished`.
  virtual PackedTensor matrix(const std::string& name, int rows, int columns) const = 0;

  // The vector (count,) of that name as float32, whichever floats it is stored as.
  virtual std::vector<float> floats(const std::string& name, int count) const = 0;

  // Said once a matrix was tiled: a mapped file may drop its pages.
  virtual void finished(const std::string& name) const = 0;
};

}  // namespace sottovoce
