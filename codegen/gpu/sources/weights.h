// Weights as codegen/kernels/layout.py lays them: blocks of 16 outputs.
//
// A word of four codes of an output, or of a pair of halves, is just what a lane holds of the second factor of a
// tensor core's product, so tiles go from memory to registers as they are.
#pragma once

namespace ingot {

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
  // Four neighbouring outputs' weights of two neighbouring inputs, as they are stored: sixteen bytes at a time.
  struct Eight {
    CONSTANT bool ARE_WIDE = sizeof(typename Type::Stored) == 4;
    uint4 words, more;

    static INGOT_DEVICE unsigned word(uint4 four, int number) {
      return number == 0 ? four.x : number == 1 ? four.y : number == 2 ? four.z : four.w;
    }
    static INGOT_DEVICE float half_of(unsigned word, int which) { return Type::widen(which ? word >> 16 : word & 0xffff); }
    INGOT_DEVICE float first(int output) const {
      if constexpr (ARE_WIDE) return bits_to_float(word(words, output));
      else return PAIRED ? half_of(word(words, output), 0) : half_of(word(words, output / 2), output % 2);
    }
    INGOT_DEVICE float second(int output) const {
      if constexpr (ARE_WIDE) return bits_to_float(word(more, output));
      else return PAIRED ? half_of(word(words, output), 1) : half_of(word(words, 2 + output / 2), output % 2);
    }
  };
  INGOT_DEVICE Eight eight(int block, int input, int output) const {
    GLOBAL const typename Type::Stored* start = stored + place(block, input, output);
    bool has_second = PAIRED || INPUTS % 2 == 0 || input + 1 < INPUTS;
    Eight result;
    if constexpr (PAIRED) {
      result.words = *reinterpret_cast<GLOBAL const uint4*>(start);
    } else if constexpr (Eight::ARE_WIDE) {
      result.words = *reinterpret_cast<GLOBAL const uint4*>(start);
      result.more.x = result.more.y = result.more.z = result.more.w = 0;
      if (has_second) result.more = *reinterpret_cast<GLOBAL const uint4*>(start + BLOCK);
    } else {
      uint2 low = *reinterpret_cast<GLOBAL const uint2*>(start), high;
      high.x = high.y = 0;
      if (has_second) high = *reinterpret_cast<GLOBAL const uint2*>(start + BLOCK);
      result.words.x = low.x, result.words.y = low.y, result.words.z = high.x, result.words.w = high.y;
    }
    return result;
  }
  INGOT_DEVICE void eight(int block, int input, int output, OWN float (&first)[4], OWN float (&second)[4]) const {
    Eight found = eight(block, input, output);
    for (int j = 0; j < 4; ++j) first[j] = found.first(j), second[j] = found.second(j);
  }
  // The weights of two neighbouring inputs, the first even.
  INGOT_DEVICE unsigned pair(int block, int input, int output) const {
    if constexpr (PAIRED) return reinterpret_cast<GLOBAL const unsigned*>(stored)[place(block, input, output) / 2];
    return unsigned(stored[place(block, input, output)]) | unsigned(stored[place(block, input + 1, output)]) << 16;
  }
};

// Weights in a quantization format, see formats.h: codes in planes of 4, 2 and 1 bits (or whole bytes), what groups
// of them share, and whether rows are whole numbers of eight bits times one scale.
template <class Kind_, int INPUTS_, class Scales, class Offsets, bool IS_WHOLE_>
struct CodedWeights {
  using Kind = Kind_;
  CONSTANT int INPUTS = INPUTS_, GROUP = Scales::SIZE ? Scales::SIZE : INPUTS_;
  CONSTANT bool IS_WHOLE = IS_WHOLE_, HAS_OFFSETS = Offsets::ARE_THERE, HAS_FACTORS = Scales::HAS_FACTORS;
  GLOBAL const unsigned char* codes;
  Scales scales;
  Offsets offsets;

  INGOT_DEVICE GLOBAL const unsigned char* span_at(int block, int span) const {
    constexpr int SPANS = (INPUTS + SPAN - 1) / SPAN;
    return codes + ((int64)block * SPANS + span) * (SPAN * BLOCK * Kind::BITS / 8);
  }
  // The codes of four neighbouring inputs (number four of a span) of an output, a byte each.
  INGOT_DEVICE unsigned four(int block, int span, int four, int output) const {
    GLOBAL const unsigned* words = reinterpret_cast<GLOBAL const unsigned*>(span_at(block, span));
    if constexpr (Kind::BITS == 8) return words[four * BLOCK + output];
    return plane<4>(words, four, output) | plane<2>(words, four, output) | plane<1>(words, four, output);
  }
  // What the plane of WIDTH bits adds to the codes; nothing where codes have none. Wider planes come first.
  template <int WIDTH>
  static INGOT_DEVICE unsigned plane(GLOBAL const unsigned* words, int four, int output) {
    if constexpr ((Kind::BITS & WIDTH) == 0) return 0;
    constexpr int PER_VECTOR = 8 / WIDTH, LOWEST = Kind::BITS & ~(2 * WIDTH - 1);
    constexpr unsigned MASK = 0x01010101u * ((1 << WIDTH) - 1);
    int vector = LOWEST + four / PER_VECTOR, slot = four % PER_VECTOR;
    return (words[vector * BLOCK + output] >> slot * WIDTH & MASK) << LOWEST;
  }
  // The same of four neighbouring outputs, from as few loads as planes are.
  INGOT_DEVICE void fours(int block, int span, int four, int output, OWN unsigned (&result)[4]) const {
    GLOBAL const unsigned char* start = span_at(block, span);
    for (int j = 0; j < 4; ++j) result[j] = 0;
    add_planes<8>(start, four, output, result);
    add_planes<4>(start, four, output, result);
    add_planes<2>(start, four, output, result);
    add_planes<1>(start, four, output, result);
  }
  template <int WIDTH>
  static INGOT_DEVICE void add_planes(
      GLOBAL const unsigned char* start, int four, int output, OWN unsigned (&result)[4]) {
    if constexpr ((Kind::BITS & WIDTH) != 0) {
      constexpr int PER_VECTOR = 8 / WIDTH, LOWEST = Kind::BITS & ~(2 * WIDTH - 1);
      constexpr unsigned MASK = 0x01010101u * ((1 << WIDTH) - 1);
      int vector = LOWEST + four / PER_VECTOR, shift = four % PER_VECTOR * WIDTH;
      uint4 words = *reinterpret_cast<GLOBAL const uint4*>(start + (vector * BLOCK + output) * 4);
      const unsigned all[4] = {words.x, words.y, words.z, words.w};
      for (int j = 0; j < 4; ++j) result[j] |= (all[j] >> shift & MASK) << LOWEST;
    }
  }
  // One output's as signed bytes; of whole rows times the group's factor, which still fits.
  INGOT_DEVICE unsigned signed_four(int block, int span, int number, int output) const {
    unsigned unsigned_codes = four(block, span, number, output);
    if constexpr (IS_WHOLE && HAS_FACTORS) {
      // A factor below zero is one above for codes counted from the other end, which is all bits turned.
      int factor = scales.factor(block, span * SPAN + number * 4, output);
      unsigned size = factor < 0 ? -factor : factor, turned = factor < 0 ? (1u << Kind::BITS) - 1 : 0;
      unsigned zero = factor < 0 ? Kind::ZERO - 1 : Kind::ZERO;
      return subtract_bytes((unsigned_codes ^ turned * 0x01010101u) * size, zero * size * 0x01010101u);
    }
    return Kind::signed_bytes(unsigned_codes);
  }
  // What a row's exact sum gives: its scale, times the sum less what offsets take off each of its codes.
  INGOT_DEVICE float of_sums(int block, int output, float sum, int row_sum, float row_scale) const {
    if constexpr (HAS_OFFSETS) sum = fused_multiply_add(zero(1, offsets.at(block, 0, output)), float(row_sum), sum);
    return sum * (row_scale * scales.of_row(block, output));
  }
  static INGOT_DEVICE float zero(float scale, float offset) { return Offsets::zero(scale, offset); }
  // What is added for each input whose code stands for zero.
  INGOT_DEVICE float zero_of(int block, int input, int output) const {
    if constexpr (!HAS_OFFSETS) return 0;
    return Offsets::zero(scales.at(block, input, output), offsets.at(block, input, output));
  }
  INGOT_DEVICE float at(int block, int input, int output) const {
    float value = Kind::value(four(block, input / SPAN, input % SPAN / 4, output) >> input % 4 * 8 & 255);
    return Offsets::moved(value, scales.at(block, input, output), offsets.at(block, input, output));
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
