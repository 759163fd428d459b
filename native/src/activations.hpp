// int8 activations with a scale for each vector, in the padded form that kernels read.
#pragma once

#include "kernels.hpp"
#include "memory.hpp"

namespace sottovoce {

// n groups of `each` vectors: groups `group_stride` floats apart, the vectors of a group `stride` floats apart.
struct Vectors {
  int columns;
  int n;
  std::ptrdiff_t group_stride;
  int each = 1;
  std::ptrdiff_t stride = 0;
};

class Activations {
 public:
  // Vectors that lie in n groups of `each`, as the arithmetic rounds them.
  void quantize(const Arithmetic& arithmetic, const float* x, const Vectors& vectors);

  // n vectors that are quantized already, (n, columns) without -128.
  void assign(const std::int8_t* q, const float* scale, int n, int columns);

  ActivationsView view() const;

 private:
  void resize(int n, int columns);

  int n_ = 0;
  std::ptrdiff_t stride_ = 0;
  Scratch<std::int8_t> q_;
  Scratch<std::uint8_t> magnitude_;
  Scratch<float> scale_;
  Scratch<std::int32_t> sum_;
};

}  // namespace sottovoce
