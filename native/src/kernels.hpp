// What one kernel path offers: plain functions over raw pointers, chosen once per matrix or layer.
//
// Translation units under kernels/ include nothing but this header, the decoders beside them and intrinsics: they are
// compiled with instructions that the machine may not have, so no inline function of theirs may be shared with others.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sottovoce {

inline constexpr int kMaxColumns = 65536;  // 65,536 * 127 * 255 < 2^31: an int32 accumulator cannot overflow
inline constexpr int kPanelRows = 16;     // a panel is 16 rows: one accumulator lane a row
inline constexpr int kChunkColumns = 32;  // a chunk is a panel's next 32 columns: eight vectors of 16 rows x 4 columns
inline constexpr int kVectorBytes = 64;
inline constexpr int kTableBytes = 512;  // most bytes of lookup tables that a path makes of one band's levels

// How codes lie in a chunk; see layout.hpp.
enum class Layout { sextet, nibble };

// A band as kernels read it: panels in order, chunks in order inside a panel, stored_bits vectors of 64 bytes a chunk.
struct BandView {
  const std::uint8_t* tiles;   // 64-byte aligned
  const std::uint8_t* tables;  // 64-byte aligned, as make_tables of the same path wrote them
  const float* row_scale;      // (rows,)
  int rows;
  int chunks;
  int stored_bits;
  bool has_minus_128;
  bool signs_apart;  // codes are an index of one of 16 magnitudes, which the tables hold, and above it a sign
};

// n vectors of int8 activations, each padded with zeros to whole chunks; never -128.
struct ActivationsView {
  const std::int8_t* q;           // (n, stride)
  const std::uint8_t* magnitude;  // |q|, same shape
  std::ptrdiff_t stride;
  const float* scale;       // (n,)
  const std::int32_t* sum;  // (n,) sums of q
  int n;
};

// How activations become int8, and what gates compute: sottovoce.runtime.rules, bit for bit.
struct Arithmetic {
  // One vector: x (columns,) -> q and magnitude (padded,), its scale, and the sum of q.
  void (*quantize)(const float* x, std::ptrdiff_t columns, std::ptrdiff_t padded, std::int8_t* q,
                   std::uint8_t* magnitude, float* scale, std::int32_t* sum);

  // x and y may be the same array.
  void (*tanh)(const float* x, float* y, std::ptrdiff_t count);
  void (*sigmoid)(const float* x, float* y, std::ptrdiff_t count);

  // Gates i, f, g, o (4 units,) = (recurrent + projected) + bias; c and h (units,) are overwritten.
  void (*lstm_cell)(const float* recurrent, const float* projected, const float* bias, std::ptrdiff_t units, float* c,
                    float* h);
};

struct Kernels {
  const char* name;
  Layout layout;
  std::uint8_t level_offset;  // what is added to levels in tables and tiles, to make them unsigned
  int widest_lookup;          // bits, 5 or 6: tiles hold the levels of wider codes, not the codes
  bool takes_signs_apart;     // at 5 bits a band with 16 magnitudes at most can have its signs apart

  // levels (256,) by code, offset added, zeros after the last one -> tables (kTableBytes,).
  void (*make_tables)(int stored_bits, const std::uint8_t* levels, std::uint8_t* tables);

  // Panels first .. last - 1: out[i * out_stride + row] = float32(sum q * level) * (row_scale * scale).
  void (*product)(const BandView& band, const ActivationsView& x, float* out, std::ptrdiff_t out_stride, int first,
                  int last);

  Arithmetic int8;         // sottovoce.runtime.arithmetic
  Arithmetic accelerator;  // sottovoce.runtime.accelerator

  // The polynomials of sottovoce.runtime.arithmetic, bit for bit; x and y may be the same array.
  void (*exp)(const float* x, float* y, std::ptrdiff_t count);
  void (*log)(const float* x, float* y, std::ptrdiff_t count);

  // y += x.
  void (*add)(const float* x, float* y, std::ptrdiff_t count);

  // One row: y (count,), which must not overlap x.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, double eps, float* y,
                     std::ptrdiff_t count);

  // Of each of rows, `stride` floats apart: its largest entry and the logarithm of the sum of exp(x - largest), (rows,).
  void (*log_totals)(const float* x, std::ptrdiff_t stride, std::ptrdiff_t count, int rows, float* peak,
                     float* log_total);

  // One row. log_softmax may work in place; argmax returns what argmax of its result would be, and that entry.
  void (*log_softmax)(const float* x, float* y, std::ptrdiff_t count);
  std::ptrdiff_t (*log_softmax_argmax)(float* x, std::ptrdiff_t count, float* log_probability);

  // Reads words (count,) in two forward streams, as products do, and returns their exclusive or: for measuring
  // bandwidth.
  std::uint64_t (*read)(const std::uint64_t* words, std::ptrdiff_t count);
};

const Kernels& portable_kernels();
#if defined(SOTTOVOCE_X86_64)
const Kernels& avx512_vbmi_vnni_kernels();
const Kernels& avx512_vnni_kernels();
const Kernels& avx_vnni_kernels();  // where the compiler knows it
const Kernels& avx2_kernels();
#elif defined(SOTTOVOCE_ARM64)
const Kernels& neon_dotprod_kernels();
const Kernels& neon_kernels();
#endif

}  // namespace sottovoce
