// Decoders of Layout::nibble, over lookups of sixteen entries. Included inside a path's unnamed namespace, which has
// defined Vector, load(p), table(p) (16 bytes, repeated), low4(v) = v & 15, high4(v) = v >> 4 in each byte,
// middle4(v) = v >> 2 & 15, top2(v) = v >> 6, or_(a, b), and_(a, byte), look_up(table, index) for indices below 16,
// Table32, where signs can be apart SignedLevels{magnitudes, negative<Bit>(plane)}, and, where 6 bits are looked up,
// Table64: look_up<Shift>(nibble, plane), whose bits 4 up are the plane's bits
// from Shift on.

template <int Bits>
struct Decoder;

template <>
struct Decoder<1> {
  Table16 of_bit[4];
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t)
      : of_bit{table(t), table(t + 16), table(t + 32), table(t + 48)} {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    const Vector v = load(codes);
    return look_up(of_bit[I % 4], I < 4 ? low4(v) : high4(v));
  }
};

template <>
struct Decoder<2> {
  Table16 low, high;
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : low(table(t)), high(table(t + 16)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    const Vector v = load(codes + I / 4 * kVectorBytes);
    return look_up(I % 2 == 0 ? low : high, I % 4 < 2 ? low4(v) : high4(v));
  }
};

template <>
struct Decoder<3> {
  Table16 low, high, last;  // the code at index bits 0-2, at 1-3, at 3, 0, 1
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : low(table(t)), high(table(t + 16)), last(table(t + 32)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    if constexpr (I < 6) {
      const Vector v = load(codes + I / 2 * kVectorBytes);
      return I % 2 == 0 ? look_up(low, low4(v)) : look_up(high, middle4(v));
    } else {
      const Vector both = or_(top2(load(codes)), and_(high4(load(codes + kVectorBytes)), 0x0c));
      if constexpr (I == 6) return look_up(low, both);
      else return look_up(last, or_(top2(load(codes + 2 * kVectorBytes)), and_(both, 0x08)));
    }
  }
};

template <int I>
SOTTOVOCE_INLINE Vector nibble(const std::uint8_t* codes) {
  const Vector v = load(codes + I / 2 * kVectorBytes);
  return I % 2 == 0 ? low4(v) : high4(v);
}

template <>
struct Decoder<4> {
  Table16 levels;
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : levels(table(t)) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    return look_up(levels, nibble<I>(codes));
  }
};

template <>
struct Decoder<5> {
  Table32 levels;
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : levels(t) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    return levels.template look_up<I>(nibble<I>(codes + kVectorBytes), load(codes));
  }
};

#if SOTTOVOCE_SIGNS_APART
struct SignedDecoder {
  Table16 magnitudes;
  SOTTOVOCE_INLINE explicit SignedDecoder(const std::uint8_t* t) : magnitudes(table(t)) {}
  template <int I>
  SOTTOVOCE_INLINE SignedLevels level(const std::uint8_t* codes) const {
    return {look_up(magnitudes, nibble<I>(codes + kVectorBytes)), negative<I>(load(codes))};
  }
};
#endif

#if SOTTOVOCE_WIDEST_LOOKUP >= 6
template <>
struct Decoder<6> {
  Table64 levels;
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t* t) : levels(t) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    return levels.template look_up<I % 4 * 2>(nibble<I>(codes + 2 * kVectorBytes), load(codes + I / 4 * kVectorBytes));
  }
};
#endif

template <>
struct Decoder<8> {
  SOTTOVOCE_INLINE explicit Decoder(const std::uint8_t*) {}
  template <int I>
  SOTTOVOCE_INLINE Vector level(const std::uint8_t* codes) const {
    return load(codes + I * kVectorBytes);
  }
};
