// AVX-512 with VBMI and VNNI (Ice Lake, Zen 4 and later).
//
// vpermb looks up 64 entries and ignores the two upper bits of an index, so a code that lies in the low six bits of a
// byte needs neither shift nor mask: its table ignores the foreign bits. Vector instructions for 512 weights, beside
// the 8 dot products: 1 bit 9, 2 bits 10, 3 bits 13, 4 bits 12, 5 bits 17, 6 bits 18, 8 bits none.
#include <immintrin.h>

#include "common.hpp"

#define SOTTOVOCE_NEGATES_LEVELS 0
#define SOTTOVOCE_WIDEST_LOOKUP 6
#define SOTTOVOCE_SIGNS_APART 0

namespace sottovoce {
namespace {

constexpr std::uint8_t kLevelOffset = 128;  // vpdpbusd wants one unsigned side: levels + 128
constexpr int kWidth = 64;
constexpr int streams(int) { return 2; }
constexpr int kBatch = 8;
constexpr int chains(int n) { return n == 1 ? 4 : n == 2 ? 2 : 1; }

using Vector = __m512i;
using Sum = __m512i;

SOTTOVOCE_INLINE Sum zero() { return _mm512_setzero_si512(); }
SOTTOVOCE_INLINE Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
SOTTOVOCE_INLINE void store(std::int32_t* to, Sum sum) { _mm512_storeu_si512(to, sum); }

template <Form>
SOTTOVOCE_INLINE Sum dot(Sum sum, Vector levels, const std::int8_t* q, const std::uint8_t*) {
  int four;
  __builtin_memcpy(&four, q, 4);
  return _mm512_dpbusd_epi32(sum, levels, _mm512_set1_epi32(four));
}

SOTTOVOCE_INLINE Vector load(const std::uint8_t* codes, int vector) {
  return _mm512_load_si512(codes + vector * kVectorBytes);
}
SOTTOVOCE_INLINE Vector look_up(Vector table, Vector index) { return _mm512_permutexvar_epi8(index, table); }

// Shifts 16-bit lanes: what crosses from the neighbouring byte lands in bits that no table or blend reads.
template <int Bits>
SOTTOVOCE_INLINE Vector right(Vector v) {
  return _mm512_srli_epi16(v, Bits);
}

// Bits of `low` where the mask is set, of `high` elsewhere.
template <int Mask>
SOTTOVOCE_INLINE Vector blend(Vector low, Vector high) {
  return _mm512_ternarylogic_epi64(_mm512_set1_epi8(static_cast<char>(Mask)), low, high, 0xca);
}

template <int Bits>
struct Decoder;

template <>
struct Decoder<1> {
  Vector of_bit[6];
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) {
    for (int k = 0; k < 6; ++k) of_bit[k] = load(t, k);
  }
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    const Vector v = load(codes, 0);
    if constexpr (I < 6) return look_up(of_bit[I], v);
    else return look_up(of_bit[I - 4], right<4>(v));
  }
};

template <>
struct Decoder<2> {
  Vector of_field[3];
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : of_field{load(t, 0), load(t, 1), load(t, 2)} {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    const Vector v = load(codes, I / 4);
    if constexpr (I % 4 < 3) return look_up(of_field[I % 4], v);
    else return look_up(of_field[0], right<6>(v));
  }
};

template <>
struct Decoder<3> {
  Vector low, high;  // the code at index bits 0-2, and at bits 3-5
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : low(load(t, 0)), high(load(t, 1)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    if constexpr (I < 6) {
      return look_up(I % 2 == 0 ? low : high, load(codes, I / 2));
    } else {  // the two upper bits of each vector: codes 6 and 7
      const Vector four = blend<0x03>(right<6>(load(codes, 0)), right<4>(load(codes, 1)));
      return look_up(I == 6 ? low : high, blend<0x0f>(four, right<2>(load(codes, 2))));
    }
  }
};

template <>
struct Decoder<4> {
  Vector levels;
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : levels(load(t, 0)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    const Vector v = load(codes, I / 2);
    if constexpr (I % 2 == 0) return look_up(levels, v);
    else return look_up(levels, right<4>(v));
  }
};

template <>
struct Decoder<5> {
  Vector plain, skip4, skip3;  // the code at index bits 0-4; at 0-3, 5; at 0-2, 4, 5
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : plain(load(t, 0)), skip4(load(t, 1)), skip3(load(t, 2)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    if constexpr (I < 5) return look_up(plain, load(codes, I));
    // The three upper bits of vectors 0 and 1, and of 2 and 3: codes 5 and 6, each with one bit of code 7 to spare.
    const Vector five = blend<0x07>(right<5>(load(codes, 0)), right<2>(load(codes, 1)));
    const Vector six = blend<0x07>(right<5>(load(codes, 2)), right<2>(load(codes, 3)));
    if constexpr (I == 5) return look_up(plain, five);
    if constexpr (I == 6) return look_up(skip4, six);
    return look_up(skip3, blend<0x07>(right<5>(load(codes, 4)), blend<0x20>(five, six)));
  }
};

template <>
struct Decoder<6> {
  Vector levels;
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : levels(load(t, 0)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    if constexpr (I < 6) {
      return look_up(levels, load(codes, I));
    } else {
      constexpr int from = I == 6 ? 0 : 3;
      const Vector four = blend<0x03>(right<6>(load(codes, from)), right<4>(load(codes, from + 1)));
      return look_up(levels, blend<0x0f>(four, right<2>(load(codes, from + 2))));
    }
  }
};

template <>
struct Decoder<8> {
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t*) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    return load(codes, I);
  }
};

#include "elementwise.inl"
#include "accelerator.inl"
#include "products.inl"

void make_tables(int stored_bits, const std::uint8_t* levels, std::uint8_t* tables) {
  switch (stored_bits) {
    case 1:
      index_table(levels, 64, {0}, tables);
      index_table(levels, 64, {1}, tables + 64);
      index_table(levels, 64, {2}, tables + 128);
      index_table(levels, 64, {3}, tables + 192);
      index_table(levels, 64, {4}, tables + 256);
      index_table(levels, 64, {5}, tables + 320);
      break;
    case 2:
      index_table(levels, 64, {0, 1}, tables);
      index_table(levels, 64, {2, 3}, tables + 64);
      index_table(levels, 64, {4, 5}, tables + 128);
      break;
    case 3:
      index_table(levels, 64, {0, 1, 2}, tables);
      index_table(levels, 64, {3, 4, 5}, tables + 64);
      break;
    case 4: index_table(levels, 64, {0, 1, 2, 3}, tables); break;
    case 5:
      index_table(levels, 64, {0, 1, 2, 3, 4}, tables);
      index_table(levels, 64, {0, 1, 2, 3, 5}, tables + 64);
      index_table(levels, 64, {0, 1, 2, 4, 5}, tables + 128);
      break;
    case 6: index_table(levels, 64, {0, 1, 2, 3, 4, 5}, tables); break;
    default: break;  // tiles hold the levels themselves
  }
}

#include "table.inl"

}  // namespace

const Kernels& avx512_vbmi_vnni_kernels() {
  static const Kernels kernels = make_kernels("avx512-vbmi-vnni", Layout::sextet);
  return kernels;
}

}  // namespace sottovoce
