// AVX-512 with VNNI but without VBMI (Cascade Lake): lookups of sixteen entries, joined under a mask.
#include <immintrin.h>

#include "common.hpp"

#define SOTTOVOCE_NEGATES_LEVELS 0
#define SOTTOVOCE_WIDEST_LOOKUP 6
#define SOTTOVOCE_SIGNS_APART 0  // no faster here: the second lookup is masked

namespace sottovoce {
namespace {

constexpr std::uint8_t kLevelOffset = 128;
constexpr int kWidth = 64;
constexpr int streams(int bits) { return bits == 5 || bits == 6 ? 1 : 2; }
constexpr int kBatch = 8;
constexpr int chains(int n) { return n == 1 ? 4 : n == 2 ? 2 : 1; }

using Vector = __m512i;
using Sum = __m512i;
using Table16 = __m512i;

SOTTOVOCE_INLINE Sum zero() { return _mm512_setzero_si512(); }
SOTTOVOCE_INLINE Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
SOTTOVOCE_INLINE void store(std::int32_t* to, Sum sum) { _mm512_storeu_si512(to, sum); }

template <Form>
SOTTOVOCE_INLINE Sum dot(Sum sum, Vector levels, const std::int8_t* q, const std::uint8_t*) {
  int four;
  __builtin_memcpy(&four, q, 4);
  return _mm512_dpbusd_epi32(sum, levels, _mm512_set1_epi32(four));
}

SOTTOVOCE_INLINE Vector load(const std::uint8_t* codes) { return _mm512_load_si512(codes); }
SOTTOVOCE_INLINE Table16 table(const std::uint8_t* t) {
  return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(t)));
}
SOTTOVOCE_INLINE Vector bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
SOTTOVOCE_INLINE Vector and_(Vector v, int mask) { return _mm512_and_si512(v, bytes(mask)); }
SOTTOVOCE_INLINE Vector or_(Vector a, Vector b) { return _mm512_or_si512(a, b); }
SOTTOVOCE_INLINE Vector low4(Vector v) { return and_(v, 0x0f); }
SOTTOVOCE_INLINE Vector high4(Vector v) { return and_(_mm512_srli_epi16(v, 4), 0x0f); }
SOTTOVOCE_INLINE Vector middle4(Vector v) { return and_(_mm512_srli_epi16(v, 2), 0x0f); }
SOTTOVOCE_INLINE Vector top2(Vector v) { return and_(_mm512_srli_epi16(v, 6), 0x03); }
SOTTOVOCE_INLINE Vector look_up(Table16 table, Vector index) { return _mm512_shuffle_epi8(table, index); }

struct Table32 {
  Table16 low, high;
  SOTTOVOCE_INLINE explicit Table32(const std::uint8_t* t) : low(table(t)), high(table(t + 16)) {}
  template <int Shift>
  SOTTOVOCE_INLINE Vector look_up(Vector nibble, Vector plane) const {
    const __mmask64 upper = _mm512_test_epi8_mask(plane, bytes(1 << Shift));
    return _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(low, nibble), upper, high, nibble);
  }
};

struct Table64 {
  Table32 low, high;
  SOTTOVOCE_INLINE explicit Table64(const std::uint8_t* t) : low(t), high(t + 32) {}
  template <int Shift>
  SOTTOVOCE_INLINE Vector look_up(Vector nibble, Vector plane) const {
    const __mmask64 upper = _mm512_test_epi8_mask(plane, bytes(2 << Shift));
    return _mm512_mask_blend_epi8(upper, low.template look_up<Shift>(nibble, plane),
                                  high.template look_up<Shift>(nibble, plane));
  }
};

#include "elementwise.inl"
#include "accelerator.inl"
#include "nibble_decoders.inl"
#include "products.inl"
#include "nibble_tables.inl"
#include "table.inl"

}  // namespace

const Kernels& avx512_vnni_kernels() {
  static const Kernels kernels = make_kernels("avx512-vnni", Layout::nibble);
  return kernels;
}

}  // namespace sottovoce
