// Products over panels, the same on every path. Included inside a path's unnamed namespace, which has defined
//   Vector     kWidth bytes of levels, four columns of each of kWidth / 4 rows
//   Sum        int32 of each of those rows; zero(), add(Sum, Sum), store(int32_t*, Sum)
//   dot        Sum dot<Form>(Sum, levels, q, magnitude), q being the four activations
//   Decoder    Decoder<StoredBits>(tables).level<I>(codes): code vector I of a chunk, looked up; pure, so that the
//              compiler shares what two code vectors have in common. Where SOTTOVOCE_SIGNS_APART, SignedDecoder too,
//              for 5 bits: its levels are magnitudes beside signs, of a type of their own, which dot takes as well
//   SOTTOVOCE_WIDEST_LOOKUP  bits, 5 or 6: codes of more are stored as levels
//   streams    1 or 2, by width, as measured: two streams help loops that are short and bound by memory
//   kBatch     most activations vectors that one pass over a panel serves; chains(n) sums in flight for each
// No function here may be one of the standard library: their inline copies could be shared with other paths.

constexpr int kParts = kVectorBytes / kWidth;

template <int Bits, Form>
struct DecoderFor {
  using Type = Decoder<Bits>;
};
#if SOTTOVOCE_SIGNS_APART
template <>
struct DecoderFor<5, Form::signs_apart> {
  using Type = SignedDecoder;
};
#endif
template <int Bits, Form F>
using DecoderOf = typename DecoderFor<Bits, F>::Type;

// Sums of N vectors with P panels side by side, `apart` bytes from one to the next.
template <int Bits, int N, int P, Form F>
struct PanelSums {
  static constexpr int kChains = chains(N * P);
  Sum sums[P][N][kParts][kChains];

  template <int I>
  SOTTOVOCE_INLINE void multiply(const DecoderOf<Bits, F>& decoder, const std::uint8_t* codes, std::ptrdiff_t apart,
                                 const ActivationsView& x, std::ptrdiff_t column) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        const auto levels = decoder.template level<I>(codes + p * apart + part * kWidth);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const std::ptrdiff_t at = n * x.stride + column + 4 * I;
          Sum& sum = sums[p][n][part][I % kChains];
          sum = dot<F>(sum, levels, x.q + at, x.magnitude + at);
        }
      }
    }
  }

#if SOTTOVOCE_SHORT_SUMS
  template <int I>
  SOTTOVOCE_INLINE void multiply_two(const SignedDecoder& decoder, const std::uint8_t* codes, std::ptrdiff_t apart,
                                     const std::int8_t* q) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        const std::uint8_t* from = codes + p * apart + part * kWidth;
        Sum& sum = sums[p][0][part][I / 2 % kChains];
        sum = dot_two(sum, decoder.template level<I>(from), decoder.template level<I + 1>(from), q + 4 * I);
      }
    }
  }
#endif

  // Loops whose arithmetic takes as long as the memory, and whose reads come from two places of the code (short and long
  // chunks), are left behind by the processor's own prefetching.
  static SOTTOVOCE_INLINE void prefetch(const std::uint8_t* codes, std::ptrdiff_t apart) {
    constexpr int kChunksAhead = 16;
    constexpr std::ptrdiff_t kChunkBytes = Bits * kVectorBytes;
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int line = 0; line < Bits; ++line) {
        __builtin_prefetch(codes + p * apart + kChunksAhead * kChunkBytes + line * kVectorBytes);
      }
    }
  }

  // short_chunks: null, or for each chunk whether its products may be added two code vectors at a time.
  SOTTOVOCE_INLINE void run(const DecoderOf<Bits, F>& decoder, const std::uint8_t* codes, std::ptrdiff_t apart,
                            const ActivationsView& x, int chunks, const bool* short_chunks = nullptr) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
        for (int part = 0; part < kParts; ++part)
#pragma GCC unroll 4
          for (int k = 0; k < kChains; ++k) sums[p][n][part][k] = zero();
    for (std::ptrdiff_t column = 0; column < static_cast<std::ptrdiff_t>(chunks) * kChunkColumns;
         column += kChunkColumns, codes += Bits * kVectorBytes) {
      if constexpr (F == Form::signs_apart && N == 1) prefetch(codes, apart);
#if SOTTOVOCE_SHORT_SUMS
      if constexpr (F == Form::signs_apart && N == 1) {
        if (short_chunks != nullptr && short_chunks[column / kChunkColumns]) {
          multiply_two<0>(decoder, codes, apart, x.q + column);
          multiply_two<2>(decoder, codes, apart, x.q + column);
          multiply_two<4>(decoder, codes, apart, x.q + column);
          multiply_two<6>(decoder, codes, apart, x.q + column);
          continue;
        }
      }
#endif
      multiply<0>(decoder, codes, apart, x, column);
      multiply<1>(decoder, codes, apart, x, column);
      multiply<2>(decoder, codes, apart, x, column);
      multiply<3>(decoder, codes, apart, x, column);
      multiply<4>(decoder, codes, apart, x, column);
      multiply<5>(decoder, codes, apart, x, column);
      multiply<6>(decoder, codes, apart, x, column);
      multiply<7>(decoder, codes, apart, x, column);
    }
  }

  SOTTOVOCE_INLINE void finish(const BandView& band, const ActivationsView& x, int panel, int panels_apart, float* out,
                               std::ptrdiff_t out_stride) const {
    for (int p = 0; p < P; ++p) {
      finish_panel(band, x, sums[p], (panel + p * panels_apart) * kPanelRows, out, out_stride);
    }
  }

  static SOTTOVOCE_INLINE void finish_panel(const BandView& band, const ActivationsView& x,
                                            const Sum (&sums)[N][kParts][kChains], int first_row, float* out,
                                            std::ptrdiff_t out_stride) {
    const int rows = band.rows - first_row < kPanelRows ? band.rows - first_row : kPanelRows;
    const float* row_scale = band.row_scale + first_row;
    for (int n = 0; n < N; ++n) {
      alignas(64) std::int32_t total[kPanelRows];
      for (int part = 0; part < kParts; ++part) {
        Sum sum = sums[n][part][0];
        for (int k = 1; k < kChains; ++k) sum = add(sum, sums[n][part][k]);
        store(total + part * (kWidth / 4), sum);
      }
      const std::int32_t offset = (F == Form::signs_apart ? 0 : kLevelOffset) * x.sum[n];
      const float scale = x.scale[n];
      float* y = out + n * out_stride + first_row;
      if (rows == kPanelRows) {
        for (int r = 0; r < kPanelRows; ++r) y[r] = static_cast<float>(total[r] - offset) * (row_scale[r] * scale);
      } else {
        for (int r = 0; r < rows; ++r) y[r] = static_cast<float>(total[r] - offset) * (row_scale[r] * scale);
      }
    }
  }
};

constexpr std::ptrdiff_t bytes_of_panels(const BandView& band, int bits, int panels) {
  return static_cast<std::ptrdiff_t>(panels) * band.chunks * bits * kVectorBytes;
}

template <int Bits, Form F, int N>
SOTTOVOCE_INLINE void serve(const BandView& band, const DecoderOf<Bits, F>& decoder, const ActivationsView& x, int panel,
                            float* out, std::ptrdiff_t out_stride, const bool* short_chunks = nullptr) {
  PanelSums<Bits, N, 1, F> sums;
  sums.run(decoder, band.tiles + bytes_of_panels(band, Bits, panel), 0, x, band.chunks, short_chunks);
  sums.finish(band, x, panel, 0, out, out_stride);
}

// One vector: where streams(Bits) is 2, both halves of the panels side by side, because two forward streams of reads
// keep more of the memory busy than one. (Two neighbouring panels do not: each stream would end where the other began.)
template <int Bits, Form F>
SOTTOVOCE_APART void one_vector(const BandView& band, const ActivationsView& x, float* out, int first, int last) {
  const DecoderOf<Bits, F> decoder(band.tables);
  const int half = streams(Bits) == 2 ? (last - first) / 2 : 0;
  const bool* short_chunks = nullptr;
#if SOTTOVOCE_SHORT_SUMS
  [[maybe_unused]] ShortChunks chunks;
  if constexpr (F == Form::signs_apart) short_chunks = chunks.find(band, x);
#endif
  for (int panel = first; panel < first + half; ++panel) {
    PanelSums<Bits, 1, 2, F> sums;
    sums.run(decoder, band.tiles + bytes_of_panels(band, Bits, panel), bytes_of_panels(band, Bits, half), x,
             band.chunks, short_chunks);
    sums.finish(band, x, panel, half, out, 0);
  }
  for (int panel = first + 2 * half; panel < last; ++panel) {
    serve<Bits, F, 1>(band, decoder, x, panel, out, 0, short_chunks);
  }
}

// Several vectors: the codes of a panel come from memory once, and are in the first-level cache for every later group.
template <int Bits, Form F>
SOTTOVOCE_APART void several_vectors(const BandView& band, const ActivationsView& x, float* out,
                                     std::ptrdiff_t out_stride, int first, int last) {
  const DecoderOf<Bits, F> decoder(band.tables);
  for (int panel = first; panel < last; ++panel) {
    ActivationsView rest = x;
    float* y = out;
    while (rest.n > 0) {
      int served = 1;
      if (kBatch >= 8 && rest.n >= 8) {
        serve<Bits, F, kBatch>(band, decoder, rest, panel, y, out_stride);
        served = kBatch;
      } else if (rest.n >= 4) {
        serve<Bits, F, 4>(band, decoder, rest, panel, y, out_stride);
        served = 4;
      } else if (rest.n >= 2) {
        serve<Bits, F, 2>(band, decoder, rest, panel, y, out_stride);
        served = 2;
      } else {
        serve<Bits, F, 1>(band, decoder, rest, panel, y, out_stride);
      }
      rest.q += served * rest.stride;
      rest.magnitude += served * rest.stride;
      rest.scale += served;
      rest.sum += served;
      rest.n -= served;
      y += served * out_stride;
    }
  }
}

template <int Bits, Form F>
void panels(const BandView& band, const ActivationsView& x, float* out, std::ptrdiff_t out_stride, int first,
            int last) {
  if (x.n == 1) return one_vector<Bits, F>(band, x, out, first, last);
  several_vectors<Bits, F>(band, x, out, out_stride, first, last);
}

template <Form F>
void product_of(const BandView& band, const ActivationsView& x, float* out, std::ptrdiff_t out_stride, int first,
                int last) {
  switch (band.stored_bits) {  // never between the widest lookup and 8, see layout.hpp
    case 1: return panels<1, F>(band, x, out, out_stride, first, last);
    case 2: return panels<2, F>(band, x, out, out_stride, first, last);
    case 3: return panels<3, F>(band, x, out, out_stride, first, last);
    case 4: return panels<4, F>(band, x, out, out_stride, first, last);
    case 5: return panels<5, F>(band, x, out, out_stride, first, last);
#if SOTTOVOCE_WIDEST_LOOKUP >= 6
    case 6: return panels<6, F>(band, x, out, out_stride, first, last);
#endif
    default: return panels<8, F>(band, x, out, out_stride, first, last);
  }
}

// Only a dot product that negates levels must know of -128.
void product(const BandView& band, const ActivationsView& x, float* out, std::ptrdiff_t out_stride, int first,
             int last) {
#if SOTTOVOCE_SIGNS_APART
  if (band.signs_apart) return panels<5, Form::signs_apart>(band, x, out, out_stride, first, last);
#endif
#if SOTTOVOCE_NEGATES_LEVELS
  if (band.has_minus_128) return product_of<Form::levels_with_minus_128>(band, x, out, out_stride, first, last);
#endif
  product_of<Form::levels>(band, x, out, out_stride, first, last);
}

// A lookup table of `size` entries whose index holds the code's bit k at bit positions[k]; other index bits are
// ignored.
template <int Count>
void index_table(const std::uint8_t* levels, int size, const int (&positions)[Count], std::uint8_t* table) {
  for (int index = 0; index < size; ++index) {
    int code = 0;
    for (int k = 0; k < Count; ++k) code |= (index >> positions[k] & 1) << k;
    table[index] = levels[code];
  }
}
