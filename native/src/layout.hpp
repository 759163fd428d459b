// Where the bits of a code lie in a chunk.
//
// A chunk of 16 rows x 32 columns holds eight code vectors of 64 codes: code vector i is columns 4 i .. 4 i + 3, row r
// at bytes 4 r .. 4 r + 3. At b bits a chunk is b vectors of 64 bytes, so no bit is lost; a field says which bits of
// code vector i lie in which bits of which vector.
//
// Layout::sextet is for vpermb, which looks at the low six bits of a byte and forgets the rest: most codes are an index
// as they lie there, and a table that ignores foreign bits takes the place of a mask. Layout::nibble is for lookups of
// sixteen entries (vpshufb, tbl). Up to four bits they are the same.
#pragma once

#include <cstddef>

#include "kernels.hpp"

namespace sottovoce {

struct Field {
  int code;      // code vector, 0 .. 7
  int code_bit;  // lowest bit of the field in the code
  int width;     // bits
  int vector;    // stored vector
  int bit;       // lowest bit of the field in the vector's bytes
};

struct FieldList {
  Field fields[24] = {};
  int count = 0;

  constexpr void add(int code, int code_bit, int width, int vector, int bit) {
    fields[count++] = Field{code, code_bit, width, vector, bit};
  }
};

// Bits that a code takes in tiles: codes wider than a path looks up are stored as the level itself, as 8 bits are. That
// goes for 7 bits everywhere: looking 128 levels up costs more time than the eighth bit (measured with vpermi2b: 0.97
// ms against 0.83 ms for 42 million weights).
constexpr int stored_bits(int bits, int widest_lookup) { return bits > widest_lookup ? 8 : bits; }

// For stored bits, which are never 7.
constexpr FieldList fields_of(Layout layout, int bits) {
  FieldList list;
  if (bits == 1 || bits == 2 || bits == 4 || bits == 8) {
    for (int i = 0; i < 8; ++i) list.add(i, 0, bits, i * bits / 8, i * bits % 8);
  } else if (bits == 3) {
    for (int i = 0; i < 6; ++i) list.add(i, 0, 3, i / 2, i % 2 * 3);
    list.add(6, 0, 2, 0, 6);
    list.add(6, 2, 1, 1, 6);
    list.add(7, 0, 1, 1, 7);
    list.add(7, 1, 2, 2, 6);
  } else if (layout == Layout::nibble) {
    // Upper bits come first: every lookup needs them, and so memory is read in one direction. With them last, compilers
    // read the end of a chunk before its beginning, and prefetching could fail: 5 bits on AVX2 took up to three times
    // as long, depending on the order of instructions.
    const int high = bits - 4;
    for (int i = 0; i < 8; ++i) list.add(i, 4, high, i * high / 8, i * high % 8);
    for (int i = 0; i < 8; ++i) list.add(i, 0, 4, high + i / 2, i % 2 * 4);
  } else {
    for (int i = 0; i < bits; ++i) list.add(i, 0, bits, i, 0);
    if (bits == 5) {
      list.add(5, 0, 3, 0, 5);
      list.add(5, 3, 2, 1, 5);
      list.add(6, 0, 3, 2, 5);
      list.add(6, 3, 1, 3, 5);
      list.add(6, 4, 1, 3, 7);
      list.add(7, 0, 3, 4, 5);
      list.add(7, 3, 1, 3, 6);
      list.add(7, 4, 1, 1, 7);
    } else {
      for (int j = 0; j < 6; ++j) list.add(6 + j / 3, j % 3 * 2, 2, j, 6);
    }
  }
  return list;
}

}  // namespace sottovoce
