// Plain C++ for any processor: the same layout and the same sums, sixteen bytes at a time.
#include "common.hpp"

#define SOTTOVOCE_SEVEN_BITS 0
#define SOTTOVOCE_NEGATES_LEVELS 0

namespace sottovoce {
namespace {

constexpr std::uint8_t kLevelOffset = 0;
constexpr int kWidth = 16;
constexpr int kBatch = 4;
constexpr int chains(int) { return 1; }

struct Vector {
  std::uint8_t bytes[kWidth];
};
struct Sum {
  std::int32_t rows[4];
};
using Table16 = Vector;

SOTTOVOCE_INLINE Sum zero() { return Sum{}; }
SOTTOVOCE_INLINE Sum add(Sum a, Sum b) {
  for (int r = 0; r < 4; ++r) a.rows[r] += b.rows[r];
  return a;
}
SOTTOVOCE_INLINE void store(std::int32_t* to, Sum sum) { __builtin_memcpy(to, sum.rows, sizeof sum.rows); }

template <bool>
SOTTOVOCE_INLINE Sum dot(Sum sum, Vector levels, const std::int8_t* q, const std::uint8_t*) {
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) sum.rows[r] += static_cast<std::int8_t>(levels.bytes[4 * r + c]) * q[c];
  return sum;
}

template <class F>
SOTTOVOCE_INLINE Vector each(F f) {
  Vector v;
  for (int i = 0; i < kWidth; ++i) v.bytes[i] = static_cast<std::uint8_t>(f(i));
  return v;
}

SOTTOVOCE_INLINE Vector load(const std::uint8_t* codes) {
  Vector v;
  __builtin_memcpy(v.bytes, codes, kWidth);
  return v;
}
SOTTOVOCE_INLINE Table16 table(const std::uint8_t* t) { return load(t); }
SOTTOVOCE_INLINE Vector and_(Vector v, int mask) {
  return each([&](int i) { return v.bytes[i] & mask; });
}
SOTTOVOCE_INLINE Vector or_(Vector a, Vector b) {
  return each([&](int i) { return a.bytes[i] | b.bytes[i]; });
}
SOTTOVOCE_INLINE Vector low4(Vector v) { return and_(v, 0x0f); }
SOTTOVOCE_INLINE Vector high4(Vector v) {
  return each([&](int i) { return v.bytes[i] >> 4; });
}
SOTTOVOCE_INLINE Vector middle4(Vector v) {
  return each([&](int i) { return v.bytes[i] >> 2 & 15; });
}
SOTTOVOCE_INLINE Vector top2(Vector v) {
  return each([&](int i) { return v.bytes[i] >> 6; });
}
SOTTOVOCE_INLINE Vector look_up(const Table16& table, Vector index) {
  return each([&](int i) { return table.bytes[index.bytes[i]]; });
}

template <int PlaneBits>
struct WideTable {
  std::uint8_t levels[16 << PlaneBits];
  SOTTOVOCE_INLINE explicit WideTable(const std::uint8_t* t) { __builtin_memcpy(levels, t, sizeof levels); }
  template <int Shift>
  SOTTOVOCE_INLINE Vector look_up(Vector nibble, Vector plane) const {
    constexpr int mask = (1 << PlaneBits) - 1;
    return each([&](int i) { return levels[nibble.bytes[i] | (plane.bytes[i] >> Shift & mask) << 4]; });
  }
};
using Table32 = WideTable<1>;
using Table64 = WideTable<2>;

#include "elementwise.inl"
#include "nibble_decoders.inl"
#include "products.inl"
#include "nibble_tables.inl"
#include "table.inl"

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels kernels = make_kernels("portable", Layout::nibble);
  return kernels;
}

}  // namespace sottovoce
