// sottovoce.runtime.arithmetic in C++, operation by operation; the compiler makes vectors of the loops. Included inside
// each path's unnamed namespace. Compiled with -ffp-contract=off: every operation is rounded on its own.

constexpr float kExpMin = -87.0f, kExpMax = 88.0f;
constexpr float kLog2E = 1.442695f;
constexpr float kLn2High = 0.693359375f, kLn2Low = -2.1219444e-4f;
constexpr float kTanhMax = 9.0f;
constexpr float kSqrtHalf = 0.70710677f;

SOTTOVOCE_INLINE float of_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }
SOTTOVOCE_INLINE std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }

// Clips as NumPy does; a NaN, which the definition excludes, becomes low, so that nothing undefined follows.
SOTTOVOCE_INLINE float clip(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

// Rounds half to even for |x| < 2^22: the sum has no bits left for a fraction.
SOTTOVOCE_INLINE float round_even(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

SOTTOVOCE_INLINE float tanh_of(float x) {
  x = clip(x, -kTanhMax, kTanhMax);
  const float s = x * x;
  float p = s * 1.331912e-08f + 2.0583519e-05f;
  p = p * s + 0.003494037f;
  p = p * s + 0.1337972f;
  p = p * s + 1.0f;
  p = p * x;
  float q = s * 7.76204e-07f + 0.0003283097f;
  q = q * s + 0.025871083f;
  q = q * s + 0.46713036f;
  q = q * s + 1.0f;
  return clip(p / q, -1.0f, 1.0f);
}

SOTTOVOCE_INLINE float sigmoid_of(float x) { return tanh_of(x * 0.5f) * 0.5f + 0.5f; }

SOTTOVOCE_INLINE float exp_of(float x) {
  const float inside = clip(x, kExpMin, kExpMax);
  const float k = round_even(inside * kLog2E);
  const float r = (inside - k * kLn2High) - k * kLn2Low;
  float y = r * 0.0013814465f + 0.008368781f;
  y = y * r + 0.041668393f;
  y = y * r + 0.1666652f;
  y = y * r + 0.49999994f;
  y = y * (r * r);
  y = y + r;
  y = y + 1.0f;
  y = y * of_bits(static_cast<std::uint32_t>(static_cast<std::int32_t>(k) + 127) << 23);
  return x < kExpMin ? 0.0f : y;
}

SOTTOVOCE_INLINE float log_of(float x) {
  const std::uint32_t bits = bits_of(x);
  const float mantissa = of_bits((bits & 0x007fffffu) | 0x3f000000u);  // in [0.5, 1), as frexp gives it
  const std::int32_t exponent = static_cast<std::int32_t>(bits >> 23) - 126;
  const bool low = mantissa < kSqrtHalf;
  const float f = (low ? mantissa * 2.0f : mantissa) - 1.0f;
  const float k = static_cast<float>(exponent - (low ? 1 : 0));
  const float square = f * f;
  float y = f * -0.07636008f + 0.1286178f;
  y = y * f + -0.13209331f;
  y = y * f + 0.14189126f;
  y = y * f + -0.16616283f;
  y = y * f + 0.20001648f;
  y = y * f + -0.25001067f;
  y = y * f + 0.33333328f;
  y = y * (f * square);
  y = y + k * kLn2Low;
  y = y - square * 0.5f;
  y = y + f;
  return y + k * kLn2High;
}

void exp_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] = exp_of(x[i]);
}

void log_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] = log_of(x[i]);
}

void tanh_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] = tanh_of(x[i]);
}

void sigmoid_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] = sigmoid_of(x[i]);
}

void add_all(const float* x, float* y, std::ptrdiff_t count) {
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] += x[i];
}

// The bits of magnitudes order as the magnitudes do, and a maximum of integers needs no order of evaluation.
SOTTOVOCE_INLINE std::uint32_t largest_magnitude(const float* x, std::ptrdiff_t columns) {
  std::uint32_t largest = 0;
  for (std::ptrdiff_t i = 0; i < columns; ++i) {
    const std::uint32_t bits = bits_of(x[i]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

SOTTOVOCE_INLINE void pad(std::int8_t* q, std::uint8_t* magnitude, std::ptrdiff_t columns, std::ptrdiff_t padded) {
  for (std::ptrdiff_t i = columns; i < padded; ++i) {
    q[i] = 0;
    magnitude[i] = 0;
  }
}

void quantize(const float* __restrict x, std::ptrdiff_t columns, std::ptrdiff_t padded, std::int8_t* __restrict q,
              std::uint8_t* __restrict magnitude, float* scale, std::int32_t* sum) {
  float s = of_bits(largest_magnitude(x, columns)) / 127.0f;
  s = s == 0.0f ? 1.0f : s;
  std::int32_t total = 0;
  for (std::ptrdiff_t i = 0; i < columns; ++i) {
    const std::int32_t rounded = static_cast<std::int32_t>(clip(round_even(x[i] / s), -127.0f, 127.0f));
    q[i] = static_cast<std::int8_t>(rounded);
    magnitude[i] = static_cast<std::uint8_t>(rounded < 0 ? -rounded : rounded);
    total += rounded;
  }
  pad(q, magnitude, columns, padded);
  *scale = s;
  *sum = total;
}

void layer_norm(const float* x, const float* weight, const float* bias, double eps, float* y, std::ptrdiff_t count) {
  const double size = static_cast<double>(count);
  double sum = x[0];
  for (std::ptrdiff_t i = 1; i < count; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / size;
  const double first = static_cast<double>(x[0]) - mean;
  double squares = first * first;
  for (std::ptrdiff_t i = 1; i < count; ++i) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  const double deviation = __builtin_sqrt(squares / size + eps);
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const float normal = static_cast<float>((static_cast<double>(x[i]) - mean) / deviation);
    y[i] = normal * weight[i] + bias[i];
  }
}

// Integers in the order of floats, and back. Of zeros the positive one is the larger; no log-probability can tell.
SOTTOVOCE_INLINE std::int32_t in_order(std::int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }

SOTTOVOCE_INLINE float largest(const float* x, std::ptrdiff_t count) {
  std::int32_t best = in_order(static_cast<std::int32_t>(bits_of(x[0])));
  for (std::ptrdiff_t i = 1; i < count; ++i) {
    const std::int32_t now = in_order(static_cast<std::int32_t>(bits_of(x[i])));
    best = now > best ? now : best;
  }
  return of_bits(static_cast<std::uint32_t>(in_order(best)));
}

SOTTOVOCE_INLINE float shift_by_peak(const float* x, float* y, std::ptrdiff_t count) {
  const float peak = largest(x, count);
  double total = 0.0;
  constexpr std::ptrdiff_t kBlock = 64;  // exponentials as vectors, their sum in order
  float powers[kBlock];
  for (std::ptrdiff_t start = 0; start < count; start += kBlock) {
    const std::ptrdiff_t size = count - start < kBlock ? count - start : kBlock;
#pragma GCC ivdep
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      const float shifted = x[start + i] - peak;
      y[start + i] = shifted;
      powers[i] = exp_of(shifted);
    }
    for (std::ptrdiff_t i = 0; i < size; ++i) total += static_cast<double>(powers[i]);
  }
  return log_of(static_cast<float>(total));
}

// N rows at once: each sum is in order, and waits for itself alone.
template <int N>
SOTTOVOCE_INLINE void sum_rows(const float* x, std::ptrdiff_t stride, std::ptrdiff_t count, float* peak,
                               float* log_total) {
  constexpr std::ptrdiff_t kBlock = 64;
  double total[N] = {}, powers[N][kBlock];
  for (int n = 0; n < N; ++n) peak[n] = largest(x + n * stride, count);
  for (std::ptrdiff_t start = 0; start < count; start += kBlock) {
    const std::ptrdiff_t size = count - start < kBlock ? count - start : kBlock;
    for (int n = 0; n < N; ++n) {
      const float* row = x + n * stride + start;
#pragma GCC ivdep
      for (std::ptrdiff_t i = 0; i < size; ++i) powers[n][i] = static_cast<double>(exp_of(row[i] - peak[n]));
    }
    for (std::ptrdiff_t i = 0; i < size; ++i) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) total[n] += powers[n][i];
    }
  }
  for (int n = 0; n < N; ++n) log_total[n] = log_of(static_cast<float>(total[n]));
}

void log_totals(const float* x, std::ptrdiff_t stride, std::ptrdiff_t count, int rows, float* peak, float* log_total) {
  int n = 0;
  for (; n + 8 <= rows; n += 8) sum_rows<8>(x + n * stride, stride, count, peak + n, log_total + n);
  for (; n < rows; ++n) sum_rows<1>(x + n * stride, stride, count, peak + n, log_total + n);
}

void log_softmax(const float* x, float* y, std::ptrdiff_t count) {
  const float log_total = shift_by_peak(x, y, count);
#pragma GCC ivdep
  for (std::ptrdiff_t i = 0; i < count; ++i) y[i] -= log_total;
}

// The peak is shifted to 0; another entry ties with it where the subtraction rounds to the same number.
std::ptrdiff_t log_softmax_argmax(float* x, std::ptrdiff_t count, float* log_probability) {
  const float log_total = shift_by_peak(x, x, count);
  const float best = 0.0f - log_total;
  *log_probability = best;
  std::ptrdiff_t at = 0;
  while (at + 1 < count && x[at] - log_total != best) ++at;
  return at;
}

void lstm_cell(const float* __restrict recurrent, const float* __restrict projected, const float* __restrict bias,
               std::ptrdiff_t units, float* __restrict c, float* __restrict h) {
  for (std::ptrdiff_t u = 0; u < units; ++u) {
    const std::ptrdiff_t f = units + u, g = 2 * units + u, o = 3 * units + u;
    const float input_gate = sigmoid_of((recurrent[u] + projected[u]) + bias[u]);
    const float forget_gate = sigmoid_of((recurrent[f] + projected[f]) + bias[f]);
    const float candidate = tanh_of((recurrent[g] + projected[g]) + bias[g]);
    const float output_gate = sigmoid_of((recurrent[o] + projected[o]) + bias[o]);
    const float state = forget_gate * c[u] + input_gate * candidate;
    c[u] = state;
    h[u] = tanh_of(state) * output_gate;
  }
}

std::uint64_t read(const std::uint64_t* words, std::ptrdiff_t count) {
  const std::ptrdiff_t half = count / 2;
  std::uint64_t all = 0;
  for (std::ptrdiff_t i = 0; i < half; ++i) all ^= words[i] ^ words[half + i];
  return count % 2 == 0 ? all : all ^ words[count - 1];
}
