// Arm NEON, compiled twice: with the dot product instructions (sdot), and with multiplications widened by sadalp, where
// two products make 2 * 128 * 127 at most and fit int16.
#include <arm_neon.h>

#include "common.hpp"

#define SOTTOVOCE_NEGATES_LEVELS 0
#define SOTTOVOCE_WIDEST_LOOKUP 6
#define SOTTOVOCE_SIGNS_APART 0

namespace sottovoce {
namespace {

constexpr std::uint8_t kLevelOffset = 0;
constexpr int kWidth = 16;
constexpr int streams(int bits) { return bits == 8 ? 2 : 1; }
constexpr int kBatch = 4;
constexpr int chains(int) { return 1; }

using Vector = uint8x16_t;
using Sum = int32x4_t;
using Table16 = uint8x16_t;

SOTTOVOCE_INLINE Sum zero() { return vdupq_n_s32(0); }
SOTTOVOCE_INLINE Sum add(Sum a, Sum b) { return vaddq_s32(a, b); }
SOTTOVOCE_INLINE void store(std::int32_t* to, Sum sum) { vst1q_s32(to, sum); }

template <Form>
SOTTOVOCE_INLINE Sum dot(Sum sum, Vector levels, const std::int8_t* q, const std::uint8_t*) {
  std::int32_t bits;
  __builtin_memcpy(&bits, q, 4);
  const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(bits));
  const int8x16_t signed_levels = vreinterpretq_s8_u8(levels);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum, signed_levels, four);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(signed_levels), vget_low_s8(four));
  const int16x8_t high = vmull_high_s8(signed_levels, four);
  return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

SOTTOVOCE_INLINE Vector load(const std::uint8_t* codes) { return vld1q_u8(codes); }
SOTTOVOCE_INLINE Table16 table(const std::uint8_t* t) { return vld1q_u8(t); }
SOTTOVOCE_INLINE Vector and_(Vector v, int mask) { return vandq_u8(v, vdupq_n_u8(static_cast<std::uint8_t>(mask))); }
SOTTOVOCE_INLINE Vector or_(Vector a, Vector b) { return vorrq_u8(a, b); }
SOTTOVOCE_INLINE Vector low4(Vector v) { return and_(v, 0x0f); }
SOTTOVOCE_INLINE Vector high4(Vector v) { return vshrq_n_u8(v, 4); }
SOTTOVOCE_INLINE Vector middle4(Vector v) { return and_(vshrq_n_u8(v, 2), 0x0f); }
SOTTOVOCE_INLINE Vector top2(Vector v) { return vshrq_n_u8(v, 6); }
SOTTOVOCE_INLINE Vector look_up(Table16 table, Vector index) { return vqtbl1q_u8(table, index); }

// The plane's bits go above the nibble; what comes along above them is masked off.
template <int Shift>
SOTTOVOCE_INLINE Vector joined(Vector nibble, Vector plane, int mask) {
  if constexpr (Shift > 0) plane = vshrq_n_u8(plane, Shift);
  return and_(vsliq_n_u8(nibble, plane, 4), mask);
}

struct Table32 {
  uint8x16x2_t levels;
  SOTTOVOCE_INLINE explicit Table32(const std::uint8_t* t) : levels{vld1q_u8(t), vld1q_u8(t + 16)} {}
  template <int Shift>
  SOTTOVOCE_INLINE Vector look_up(Vector nibble, Vector plane) const {
    return vqtbl2q_u8(levels, joined<Shift>(nibble, plane, 0x1f));
  }
};

struct Table64 {
  uint8x16x4_t levels;
  SOTTOVOCE_INLINE explicit Table64(const std::uint8_t* t)
      : levels{vld1q_u8(t), vld1q_u8(t + 16), vld1q_u8(t + 32), vld1q_u8(t + 48)} {}
  template <int Shift>
  SOTTOVOCE_INLINE Vector look_up(Vector nibble, Vector plane) const {
    return vqtbl4q_u8(levels, joined<Shift>(nibble, plane, 0x3f));
  }
};

#include "elementwise.inl"
#include "accelerator.inl"
#include "nibble_decoders.inl"
#include "products.inl"
#include "nibble_tables.inl"
#include "table.inl"

}  // namespace

#if defined(__ARM_FEATURE_DOTPROD)
const Kernels& neon_dotprod_kernels() {
  static const Kernels kernels = make_kernels("neon-dotprod", Layout::nibble);
  return kernels;
}
#else
const Kernels& neon_kernels() {
  static const Kernels kernels = make_kernels("neon", Layout::nibble);
  return kernels;
}
#endif

}  // namespace sottovoce
