#include "activations.hpp"

#include <cstdlib>
#include <cstring>

#include "tiling.hpp"

namespace sottovoce {

void Activations::resize(int n, int columns) {
  n_ = n;
  stride_ = static_cast<std::ptrdiff_t>(chunks_of(columns)) * kChunkColumns;
  const std::size_t count = static_cast<std::size_t>(n);
  q_.at_least(count * static_cast<std::size_t>(stride_));
  magnitude_.at_least(count * static_cast<std::size_t>(stride_));
  scale_.at_least(count);
  sum_.at_least(count);
}

void Activations::quantize(const Arithmetic& arithmetic, const float* x, const Vectors& vectors) {
  resize(vectors.n * vectors.each, vectors.columns);
  std::ptrdiff_t at = 0;
  for (int i = 0; i < vectors.n; ++i) {
    for (int k = 0; k < vectors.each; ++k, ++at) {
      arithmetic.quantize(x + i * vectors.group_stride + k * vectors.stride, vectors.columns, stride_,
                          q_.data() + at * stride_, magnitude_.data() + at * stride_, scale_.data() + at,
                          sum_.data() + at);
    }
  }
}

void Activations::assign(const std::int8_t* q, const float* scale, int n, int columns) {
  resize(n, columns);
  for (int i = 0; i < n; ++i) {
    std::int8_t* to = q_.data() + i * stride_;
    std::uint8_t* magnitude = magnitude_.data() + i * stride_;
    std::memset(to, 0, static_cast<std::size_t>(stride_));
    std::memset(magnitude, 0, static_cast<std::size_t>(stride_));
    std::int32_t sum = 0;
    for (int k = 0; k < columns; ++k) {
      to[k] = q[static_cast<std::ptrdiff_t>(i) * columns + k];
      magnitude[k] = static_cast<std::uint8_t>(std::abs(to[k]));
      sum += to[k];
    }
    scale_.data()[i] = scale[i];
    sum_.data()[i] = sum;
  }
}

ActivationsView Activations::view() const {
  return {q_.data(), magnitude_.data(), stride_, scale_.data(), sum_.data(), n_};
}

}  // namespace sottovoce
