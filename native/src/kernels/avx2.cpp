// AVX2, compiled twice: with AVX-VNNI's dot product, and without any. Then vpmaddubsw multiplies |q| by the level with
// q's sign transferred to it: 2 * 127 * 127 does not saturate; where a level is -128, which cannot be negated, |level|
// is multiplied by q with the level's sign instead (2 * 128 * 127 does not saturate either, because q is never -128).
//
// Vector instructions for 32 weights: lookup 2 at 4 bits, 5 at 5, 10 at 6 bits; the product 4 without AVX-VNNI, 1 with
// it. So codes of 6 bits are stored as levels, which need no lookup. Without AVX-VNNI 5 bits are bound by arithmetic;
// where sixteen magnitudes are all there are, signs apart take 7 in place of 9.
#include <immintrin.h>

#include "common.hpp"

#if defined(__AVXVNNI__)
#define SOTTOVOCE_NEGATES_LEVELS 0
#define SOTTOVOCE_SHORT_SUMS 0
#else
#define SOTTOVOCE_NEGATES_LEVELS 1
#define SOTTOVOCE_SHORT_SUMS 1
#endif
#define SOTTOVOCE_WIDEST_LOOKUP 5
#define SOTTOVOCE_SIGNS_APART 1

namespace sottovoce {
namespace {

constexpr std::uint8_t kLevelOffset = SOTTOVOCE_NEGATES_LEVELS ? 0 : 128;
constexpr int kWidth = 32;
constexpr int streams(int) { return 2; }
constexpr int kBatch = 4;
constexpr int chains(int n) { return n == 1 ? 2 : 1; }

using Vector = __m256i;
using Sum = __m256i;
using Table16 = __m256i;

SOTTOVOCE_INLINE Sum zero() { return _mm256_setzero_si256(); }
SOTTOVOCE_INLINE Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
SOTTOVOCE_INLINE void store(std::int32_t* to, Sum sum) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum); }

SOTTOVOCE_INLINE Vector four_bytes(const void* from) {
  int four;
  __builtin_memcpy(&four, from, 4);
  return _mm256_set1_epi32(four);
}

// Unsigned bytes times signed ones, added in fours.
#if defined(__AVXVNNI__)
SOTTOVOCE_INLINE Sum add_products(Sum sum, Vector unsigned_bytes, Vector signed_bytes) {
  return _mm256_dpbusd_avx_epi32(sum, unsigned_bytes, signed_bytes);
}
template <Form>
SOTTOVOCE_INLINE Sum dot(Sum sum, Vector levels, const std::int8_t* q, const std::uint8_t*) {
  return add_products(sum, levels, four_bytes(q));
}
#else
SOTTOVOCE_INLINE Sum add_products(Sum sum, Vector unsigned_bytes, Vector signed_bytes) {
  const Vector pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
template <Form F>
SOTTOVOCE_INLINE Sum dot(Sum sum, Vector levels, const std::int8_t* q, const std::uint8_t* magnitude) {
  if constexpr (F == Form::levels_with_minus_128) {
    return add_products(sum, _mm256_abs_epi8(levels), _mm256_sign_epi8(four_bytes(q), levels));
  } else {
    return add_products(sum, four_bytes(magnitude), _mm256_sign_epi8(levels, four_bytes(q)));
  }
}
#endif

SOTTOVOCE_INLINE Vector load(const std::uint8_t* codes) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(codes));
}
SOTTOVOCE_INLINE Table16 table(const std::uint8_t* t) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(t)));
}
SOTTOVOCE_INLINE Vector and_(Vector v, int mask) {
  return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
}
SOTTOVOCE_INLINE Vector or_(Vector a, Vector b) { return _mm256_or_si256(a, b); }
SOTTOVOCE_INLINE Vector low4(Vector v) { return and_(v, 0x0f); }
SOTTOVOCE_INLINE Vector high4(Vector v) { return and_(_mm256_srli_epi16(v, 4), 0x0f); }
SOTTOVOCE_INLINE Vector middle4(Vector v) { return and_(_mm256_srli_epi16(v, 2), 0x0f); }
SOTTOVOCE_INLINE Vector top2(Vector v) { return and_(_mm256_srli_epi16(v, 6), 0x03); }
SOTTOVOCE_INLINE Vector look_up(Table16 table, Vector index) { return _mm256_shuffle_epi8(table, index); }

// vpblendvb chooses by the upper bit of each byte.
template <int Bit>
SOTTOVOCE_INLINE Vector upper_bit(Vector plane) {
  return Bit == 7 ? plane : _mm256_slli_epi16(plane, 7 - Bit);
}

struct SignedLevels {
  Vector magnitudes, negative;  // negative: the upper bit of each byte
};
template <int Bit>
SOTTOVOCE_INLINE Vector negative(Vector plane) { return upper_bit<Bit>(plane); }
SOTTOVOCE_INLINE Vector with_signs(const std::int8_t* q, Vector negative) {
  const Vector four = four_bytes(q);
  return _mm256_blendv_epi8(four, _mm256_sub_epi8(_mm256_setzero_si256(), four), negative);
}
template <Form>
SOTTOVOCE_INLINE Sum dot(Sum sum, SignedLevels levels, const std::int8_t* q, const std::uint8_t*) {
  return add_products(sum, levels.magnitudes, with_signs(q, levels.negative));
}

#if SOTTOVOCE_SHORT_SUMS
// Two code vectors, whose products stay int16 until they are added: where ShortChunks says that they fit.
SOTTOVOCE_INLINE Sum dot_two(Sum sum, SignedLevels a, SignedLevels b, const std::int8_t* q) {
  const Vector pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a.magnitudes, with_signs(q, a.negative)),
                                        _mm256_maddubs_epi16(b.magnitudes, with_signs(q + 4, b.negative)));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// A chunk fits if no |q| of columns c, c + 1, c + 4, c + 5 (c = 0, 2, 8, 10, ...) add up to more than 32,767 over the
// greatest magnitude: 258 at 127. A vector's largest |q| is 127, and most are far smaller.
struct ShortChunks {
  bool fits[kMaxColumns / kChunkColumns];

  const bool* find(const BandView& band, const ActivationsView& x) {
    int greatest = 1;
    for (int i = 0; i < 16; ++i) greatest = band.tables[i] > greatest ? band.tables[i] : greatest;
    const Vector most = _mm256_set1_epi16(static_cast<short>(32767 / greatest));
    for (int chunk = 0; chunk < band.chunks; ++chunk) {
      const auto* from = reinterpret_cast<const __m256i*>(x.magnitude + chunk * kChunkColumns);
      const Vector pairs = _mm256_maddubs_epi16(_mm256_loadu_si256(from), _mm256_set1_epi8(1));
      const Vector fours = _mm256_add_epi16(pairs, _mm256_srli_epi64(pairs, 32));
      const Vector more = _mm256_slli_epi64(_mm256_cmpgt_epi16(fours, most), 32);  // upper halves hold pairs only
      fits[chunk] = _mm256_testz_si256(more, more) != 0;
    }
    return fits;
  }
};
#endif

struct Table32 {
  Table16 low, high;
  SOTTOVOCE_INLINE explicit Table32(const std::uint8_t* t) : low(table(t)), high(table(t + 16)) {}
  template <int Shift>
  SOTTOVOCE_INLINE Vector look_up(Vector nibble, Vector plane) const {
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(low, nibble), _mm256_shuffle_epi8(high, nibble),
                              upper_bit<Shift>(plane));
  }
};

#include "elementwise.inl"
#include "accelerator.inl"
#include "nibble_decoders.inl"
#include "products.inl"
#include "nibble_tables.inl"
#include "table.inl"

}  // namespace

#if defined(__AVXVNNI__)
const Kernels& avx_vnni_kernels() {
  static const Kernels kernels = make_kernels("avx-vnni", Layout::nibble);
  return kernels;
}
#else
const Kernels& avx2_kernels() {
  static const Kernels kernels = make_kernels("avx2", Layout::nibble);
  return kernels;
}
#endif

}  // namespace sottovoce
