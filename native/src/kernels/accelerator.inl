// sottovoce.runtime.accelerator in C++, operation by operation; see elementwise.inl, which comes before it.

constexpr std::int32_t kLargestPower = 4;  // 2^4 = 16

// Toward zero to multiples of 1 / Steps, one step inside (-Limit, Limit). By trunc, which keeps the sign of a zero: of
// conversions to an integer and back, GCC 12 makes that too, on some paths.
template <int Steps, int Limit>
SOTTOVOCE_INLINE float fixed(float x) {
  constexpr float kSteps = static_cast<float>(Steps), kMost = static_cast<float>(Limit) - 1.0f / kSteps;
  return __builtin_truncf(clip(x, -kMost, kMost) * kSteps) * (1.0f / kSteps);
}

SOTTOVOCE_INLINE float smaller(float x, float y) { return x < y ? x : y; }

SOTTOVOCE_INLINE float least_line(float x) {
  const float m = of_bits(bits_of(x) & 0x7fffffffu);
  float y = m * (249.0f / 256.0f);
  y = smaller(m * (203.0f / 256.0f) + 254.0f / 4096.0f, y);
  y = smaller(m * (150.0f / 256.0f) + 787.0f / 4096.0f, y);
  y = smaller(m * (102.0f / 256.0f) + 1474.0f / 4096.0f, y);
  y = smaller(m * (65.0f / 256.0f) + 2163.0f / 4096.0f, y);
  y = smaller(m * (33.0f / 256.0f) + 2919.0f / 4096.0f, y);
  y = smaller(m * (10.0f / 256.0f) + 3632.0f / 4096.0f, y);
  y = smaller(4081.0f / 4096.0f, y);
  return of_bits(bits_of(y) | (bits_of(x) & 0x80000000u));
}

SOTTOVOCE_INLINE float fixed_tanh_of(float x) { return fixed<128, 1>(least_line(fixed<4096, 8>(x))); }

SOTTOVOCE_INLINE float fixed_sigmoid_of(float x) {
  return fixed<256, 1>(least_line(fixed<4096, 8>(x) * 0.5f) * 0.5f + 0.5f);
}

void fixed_tanh_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] = fixed_tanh_of(x[i]);
}

void fixed_sigmoid_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] = fixed_sigmoid_of(x[i]);
}

// The exponent of the largest magnitude says which power of two lies above it.
void fixed_quantize(const float* __restrict x, std::ptrdiff_t columns, std::ptrdiff_t padded,
                    std::int8_t* __restrict q, std::uint8_t* __restrict magnitude, float* scale, std::int32_t* sum) {
  const std::int32_t exponent = static_cast<std::int32_t>(largest_magnitude(x, columns) >> 23) - 126;
  const std::int32_t power = exponent < 0 ? 0 : exponent > kLargestPower ? kLargestPower : exponent;
  const float s = of_bits(static_cast<std::uint32_t>(power - 7 + 127) << 23);
  const float steps = of_bits(static_cast<std::uint32_t>(7 - power + 127) << 23), most = 127.0f * s;
  std::int32_t total = 0;
  for (std::ptrdiff_t i = 0; i < columns; ++i) {
    const std::int32_t rounded = static_cast<std::int32_t>(clip(x[i], -most, most) * steps);
    q[i] = static_cast<std::int8_t>(rounded);
    magnitude[i] = static_cast<std::uint8_t>(rounded < 0 ? -rounded : rounded);
    total += rounded;
  }
  pad(q, magnitude, columns, padded);
  *scale = s;
  *sum = total;
}

void fixed_lstm_cell(const float* __restrict recurrent, const float* __restrict projected,
                     const float* __restrict bias, std::ptrdiff_t units, float* __restrict c, float* __restrict h) {
  for (std::ptrdiff_t u = 0; u < units; ++u) {
    const std::ptrdiff_t f = units + u, g = 2 * units + u, o = 3 * units + u;
    const float input_gate = fixed_sigmoid_of((recurrent[u] + projected[u]) + bias[u]);
    const float forget_gate = fixed_sigmoid_of((recurrent[f] + projected[f]) + bias[f]);
    const float candidate = fixed_tanh_of((recurrent[g] + projected[g]) + bias[g]);
    const float output_gate = fixed_sigmoid_of((recurrent[o] + projected[o]) + bias[o]);
    const float state = fixed<2048, 16>(forget_gate * c[u] + input_gate * candidate);
    c[u] = state;
    h[u] = fixed<128, 1>(fixed_tanh_of(state) * output_gate);
  }
}
