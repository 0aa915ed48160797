// Weights as codegen/kernels/layout.py lays them: blocks of 16 outputs.
//
// A word of four codes of an output, or of a pair of halves, is just what a lane holds of the second factor of a
// tensor core's product, so tiles go from memory to registers as they are.
#pragma once

namespace ingot {

CONSTANT int BLOCK = 16, SPAN = 32;

// float32 and float16: [block, input, 16]; bfloat16 PAIRED [block, pair, 16, 2], filled up to whole spans.
template <class Type, int INPUTS, bool PAIRED = false>
struct FloatWeights {
  CONSTANT bool IS_PAIRED = PAIRED;
  using Element = Type;
  GLOBAL const typename Type::Stored* stored;

  INGOT_DEVICE int64 place(int block, int input, int output) const {
    constexpr int STRIDE = PAIRED ? (INPUTS + SPAN - 1) / SPAN * SPAN : INPUTS;
    int64 row = (int64)block * STRIDE;
    if constexpr (PAIRED) return ((row + input) / 2 * BLOCK + output) * 2 + input % 2;
    return (row + input) * BLOCK + output;
  }
  INGOT_DEVICE float at(int block, int input, int output) const {
    return Type::widen(stored[place(block, input, output)]);
  }
  // Four neighbouring outputs' weights of two neighbouring inputs, the first even: sixteen bytes at a time.
  INGOT_DEVICE void eight(int block, int input, int output, OWN float (&first)[4], OWN float (&second)[4]) const {
    GLOBAL const typename Type::Stored* start = stored + place(block, input, output);
    if constexpr (PAIRED) {
      uint4 words = *reinterpret_cast<GLOBAL const uint4*>(start);
      const unsigned pairs[4] = {words.x, words.y, words.z, words.w};
      for (int j = 0; j < 4; ++j) {
        first[j] = Type::widen(pairs[j] & 0xffff);
        second[j] = Type::widen(pairs[j] >> 16);
      }
    } else if constexpr (sizeof(typename Type::Stored) == 4) {
      float4 low = *reinterpret_cast<GLOBAL const float4*>(start);
      float4 high = *reinterpret_cast<GLOBAL const float4*>(start + BLOCK);
      first[0] = low.x, first[1] = low.y, first[2] = low.z, first[3] = low.w;
      second[0] = high.x, second[1] = high.y, second[2] = high.z, second[3] = high.w;
    } else {
      uint2 low = *reinterpret_cast<GLOBAL const uint2*>(start);
      uint2 high = *reinterpret_cast<GLOBAL const uint2*>(start + BLOCK);
      const unsigned words[4] = {low.x, low.y, high.x, high.y};
      for (int j = 0; j < 2; ++j) {
        first[2 * j] = Type::widen(words[j] & 0xffff), first[2 * j + 1] = Type::widen(words[j] >> 16);
        second[2 * j] = Type::widen(words[2 + j] & 0xffff), second[2 * j + 1] = Type::widen(words[2 + j] >> 16);
      }
    }
  }
  // The weights of two neighbouring inputs, the first even.
  INGOT_DEVICE unsigned pair(int block, int input, int output) const {
    if constexpr (PAIRED) return reinterpret_cast<GLOBAL const unsigned*>(stored)[place(block, input, output) / 2];
    return unsigned(stored[place(block, input, output)]) | unsigned(stored[place(block, input + 1, output)]) << 16;
  }
};

// Codes of BITS bits in planes of 4, 2 and 1 bits (or whole bytes), and scales [block, group, 16]. A weight is
// (code - ZERO) * scale; where groups are TWO_LEVEL their scales are whole numbers times one of the row.
template <int BITS_, int ZERO_, int INPUTS_, int GROUP_, class Scale, bool TWO_LEVEL_ = false>
struct CodedWeights {
  CONSTANT int BITS = BITS_, ZERO = ZERO_, INPUTS = INPUTS_, GROUP = GROUP_;
  CONSTANT bool TWO_LEVEL = TWO_LEVEL_;
  GLOBAL const unsigned char* codes;
  GLOBAL const typename Scale::Stored* scales;  // of groups, or with TWO_LEVEL of rows
  GLOBAL const signed char* factors;            // of groups with TWO_LEVEL

  // The codes of four neighbouring inputs (number four of a span) of an output, a byte each.
  INGOT_DEVICE unsigned four(int block, int span, int four, int output) const {
    constexpr int SPANS = (INPUTS + SPAN - 1) / SPAN;
    GLOBAL const unsigned* words =
        reinterpret_cast<GLOBAL const unsigned*>(codes + ((int64)block * SPANS + span) * (SPAN * BLOCK * BITS / 8));
    if constexpr (BITS == 8) return words[four * BLOCK + output];
    return plane<4>(words, four, output) | plane<2>(words, four, output) | plane<1>(words, four, output);
  }
  // What the plane of WIDTH bits adds to the codes; nothing where codes have none. Wider planes come first.
  template <int WIDTH>
  static INGOT_DEVICE unsigned plane(GLOBAL const unsigned* words, int four, int output) {
    if constexpr ((BITS & WIDTH) == 0) return 0;
    constexpr int PER_VECTOR = 8 / WIDTH, LOWEST = BITS & ~(2 * WIDTH - 1);
    constexpr unsigned MASK = 0x01010101u * ((1 << WIDTH) - 1);
    int vector = LOWEST + four / PER_VECTOR, slot = four % PER_VECTOR;
    return (words[vector * BLOCK + output] >> slot * WIDTH & MASK) << LOWEST;
  }
  // The same of four neighbouring outputs, from as few loads as planes are.
  INGOT_DEVICE void fours(int block, int span, int four, int output, OWN unsigned (&result)[4]) const {
    constexpr int SPANS = (INPUTS + SPAN - 1) / SPAN;
    GLOBAL const unsigned char* start = codes + ((int64)block * SPANS + span) * (SPAN * BLOCK * BITS / 8);
    for (int j = 0; j < 4; ++j) result[j] = 0;
    add_planes<8>(start, four, output, result);
    add_planes<4>(start, four, output, result);
    add_planes<2>(start, four, output, result);
    add_planes<1>(start, four, output, result);
  }
  template <int WIDTH>
  static INGOT_DEVICE void add_planes(
      GLOBAL const unsigned char* start, int four, int output, OWN unsigned (&result)[4]) {
    if constexpr ((BITS & WIDTH) != 0) {
      constexpr int PER_VECTOR = 8 / WIDTH, LOWEST = BITS & ~(2 * WIDTH - 1);
      constexpr unsigned MASK = 0x01010101u * ((1 << WIDTH) - 1);
      int vector = LOWEST + four / PER_VECTOR, shift = four % PER_VECTOR * WIDTH;
      uint4 words = *reinterpret_cast<GLOBAL const uint4*>(start + (vector * BLOCK + output) * 4);
      const unsigned all[4] = {words.x, words.y, words.z, words.w};
      for (int j = 0; j < 4; ++j) result[j] |= (all[j] >> shift & MASK) << LOWEST;
    }
  }
  // One output's as signed bytes; with TWO_LEVEL times the group's factor, which still fits.
  INGOT_DEVICE unsigned signed_four(int block, int span, int number, int output) const {
    unsigned unsigned_codes = four(block, span, number, output);
    if constexpr (TWO_LEVEL) {
      // A factor below zero is one above for codes counted from the other end, which is all bits turned.
      int factor = factor_of(block, span * SPAN / GROUP, output);
      unsigned size = factor < 0 ? -factor : factor, turned = factor < 0 ? (1u << BITS) - 1 : 0;
      unsigned zero = factor < 0 ? ZERO - 1 : ZERO;
      return subtract_bytes((unsigned_codes ^ turned * 0x01010101u) * size, zero * size * 0x01010101u);
    }
    return subtract_bytes(unsigned_codes, ZERO * 0x01010101u);
  }
  INGOT_DEVICE float scale_of(int block, int group, int output) const {
    constexpr int GROUPS = TWO_LEVEL ? 1 : INPUTS / GROUP;
    return Scale::widen(scales[((int64)block * GROUPS + (TWO_LEVEL ? 0 : group)) * BLOCK + output]);
  }
  INGOT_DEVICE int factor_of(int block, int group, int output) const {
    return factors[((int64)block * (INPUTS / GROUP) + group) * BLOCK + output];
  }
  INGOT_DEVICE float at(int block, int input, int output) const {
    int code = int(four(block, input / SPAN, input % SPAN / 4, output) >> input % 4 * 8 & 255) - ZERO;
    if constexpr (TWO_LEVEL) code *= factor_of(block, input / GROUP, output);
    return float(code) * scale_of(block, input / GROUP, output);
  }
};

// Rows of a table of such weights by number.
template <int THREADS, int WIDTH, class Weights>
INGOT_DEVICE void embedding(Here here, Weights table, GLOBAL const int* token_ids, GLOBAL float* out) {
  int token = token_ids[here.block_x()];
  for (int i = here.thread_index(); i < WIDTH; i += THREADS)
    out[(int64)here.block_x() * WIDTH + i] = table.at(token / BLOCK, i, token % BLOCK);
}

}  // namespace ingot
