// What a quantization format declares (ir/quantization/format.py), as types: what its codes stand for, and what is
// known of groups of them.
#pragma once

namespace ingot {

CONSTANT int BLOCK = 16, SPAN = 32;  // outputs, and inputs, that lie together

// --- Numbers of eight bits and less, as scales and offsets are, and codes can be.

// Floats of eight bits are those of sixteen but for the exponent's bias and bits that are missing.
struct E4M3 {
  using Stored = unsigned char;
  static INGOT_DEVICE float widen(unsigned bits) { return widen_half((bits & 0x80) << 8 | (bits & 0x7f) << 7) * 256.0f; }
  // The nearest, an even one of two as near, of numbers up to 448.
  static INGOT_DEVICE Stored narrow(float value) {
    unsigned bits = float_to_bits(value), size = bits & 0x7fffffffu, code;
    if (size < 0x3c800000u) code = nearest_integer(magnitude(value) * 512.0f);  // less than 2^-6 there are 2^-9 between two
    else code = (size + 0x7ffffu + (size >> 20 & 1) >> 20) - (120 << 3);
    return code | (bits >> 31 << 7);
  }
};
struct E5M2 {
  using Stored = unsigned char;
  static INGOT_DEVICE float widen(unsigned bits) { return widen_half(bits << 8); }
};

// 2^(byte - BIAS); what would be less than any normal number is zero.
template <int BIAS>
struct PowerOfTwo {
  using Stored = unsigned char;
  static INGOT_DEVICE float widen(unsigned exponent) {
    return bits_to_float((exponent > BIAS - 127 ? exponent - (BIAS - 127) : 0) << 23);
  }
};

struct SignedByte {
  using Stored = signed char;
  static INGOT_DEVICE float widen(int number) { return float(number); }
};
struct UnsignedByte {
  using Stored = unsigned char;
  static INGOT_DEVICE float widen(int number) { return float(number); }
};
struct LowHalf {
  using Stored = unsigned char;
  static INGOT_DEVICE float widen(int two) { return float(two & 15); }
};
struct HighHalf {
  using Stored = unsigned char;
  static INGOT_DEVICE float widen(int two) { return float(two >> 4); }
};

// --- What codes stand for: one as a float, and four, a byte each, as products of bytes take them: ZERO more than
// they are where they have no sign.

// Whole numbers, stored from 0 on.
template <int BITS_, int ZERO_>
struct WholeCodes {
  CONSTANT int BITS = BITS_, ZERO = ZERO_;
  CONSTANT bool IS_HALF = true;  // whether bfloat16 holds every value
  // 2^23 plus a code has the code in its lowest bits.
  static INGOT_DEVICE float value(unsigned code) { return bits_to_float(0x4b000000u | code) - float((1 << 23) + ZERO); }
  static INGOT_DEVICE unsigned unsigned_bytes(unsigned codes) { return codes; }
  static INGOT_DEVICE unsigned signed_bytes(unsigned codes) { return subtract_bytes(codes, ZERO * 0x01010101u); }
};

// The bytes of a table of sixteen at four places.
INGOT_DEVICE unsigned look_up_bytes(unsigned w0, unsigned w1, unsigned w2, unsigned w3, unsigned places) {
  unsigned inside = places & 0x07070707u;
  inside |= inside >> 4;
  unsigned selector = (inside & 0xffu) | (inside >> 8 & 0xff00u);
  unsigned above = (places >> 3 & 0x01010101u) * 255u;
  return (permute_bytes(w0, w1, selector) & ~above) | (permute_bytes(w2, w3, selector) & above);
}

// Places in a table of whole numbers, ZERO more than they are.
template <int BITS_, int ZERO_, unsigned W0, unsigned W1, unsigned W2, unsigned W3>
struct WholeBook {
  CONSTANT int BITS = BITS_, ZERO = ZERO_;
  CONSTANT bool IS_HALF = true;
  static INGOT_DEVICE float value(unsigned code) { return WholeCodes<8, ZERO>::value(unsigned_bytes(code) & 255u); }
  static INGOT_DEVICE unsigned unsigned_bytes(unsigned codes) { return look_up_bytes(W0, W1, W2, W3, codes); }
  static INGOT_DEVICE unsigned signed_bytes(unsigned codes) {
    constexpr unsigned ZEROS = ZERO * 0x01010101u;
    return look_up_bytes(subtract_bytes(W0, ZEROS), subtract_bytes(W1, ZEROS), subtract_bytes(W2, ZEROS),
                         subtract_bytes(W3, ZEROS), codes);
  }
};

// Places in a table of floats, whose bits are given.
template <int BITS_, unsigned... WORDS>
struct FloatBook {
  CONSTANT int BITS = BITS_, ZERO = 0;
  CONSTANT bool IS_HALF = false;
  static INGOT_DEVICE float value(unsigned code) {
    TABLE unsigned words[] = {WORDS...};
    return bits_to_float(words[code]);
  }
};

// Floats of eight bits.
template <class Type>
struct FloatCodes {
  CONSTANT int BITS = 8, ZERO = 0;
  CONSTANT bool IS_HALF = true;
  static INGOT_DEVICE float value(unsigned code) { return Type::widen(code); }
};

// --- Scales and offsets: a number for SIZE inputs of an output (0: all of them), [block, group, 16].

// Four neighbouring numbers.
INGOT_DEVICE void load_four(GLOBAL const float* from, OWN float (&four)[4]) {
  float4 words = *reinterpret_cast<GLOBAL const float4*>(from);
  four[0] = words.x, four[1] = words.y, four[2] = words.z, four[3] = words.w;
}
INGOT_DEVICE void load_four(GLOBAL const unsigned short* from, OWN unsigned short (&four)[4]) {
  uint2 words = *reinterpret_cast<GLOBAL const uint2*>(from);
  four[0] = words.x & 0xffffu, four[1] = words.x >> 16, four[2] = words.y & 0xffffu, four[3] = words.y >> 16;
}
INGOT_DEVICE void load_four(GLOBAL const unsigned char* from, OWN unsigned char (&four)[4]) {
  unsigned word = *reinterpret_cast<GLOBAL const unsigned*>(from);
  for (int j = 0; j < 4; ++j) four[j] = word >> 8 * j & 255;
}
INGOT_DEVICE void load_four(GLOBAL const signed char* from, OWN signed char (&four)[4]) {
  unsigned word = *reinterpret_cast<GLOBAL const unsigned*>(from);
  for (int j = 0; j < 4; ++j) four[j] = (signed char)(word >> 8 * j & 255);
}

template <class Type, int INPUTS, int SIZE_>
struct Numbers {
  CONSTANT int SIZE = SIZE_, COUNT = SIZE_ ? INPUTS / (SIZE_ ? SIZE_ : 1) : 1;
  CONSTANT bool HAS_FACTORS = false;
  GLOBAL const typename Type::Stored* stored;

  INGOT_DEVICE int64 place(int block, int input, int output) const {
    int group = 0;
    if constexpr (SIZE != 0) group = input / SIZE;
    return ((int64)block * COUNT + group) * BLOCK + output;
  }
  INGOT_DEVICE float at(int block, int input, int output) const { return Type::widen(stored[place(block, input, output)]); }
  // Those of four neighbouring outputs, the first a multiple of four.
  INGOT_DEVICE void four(int block, int input, int output, OWN float (&numbers)[4]) const {
    typename Type::Stored found[4];
    load_four(stored + place(block, input, output), found);
    for (int j = 0; j < 4; ++j) numbers[j] = Type::widen(found[j]);
  }
  // Where rows are whole numbers times one scale: that scale, and the whole number that multiplies a code.
  INGOT_DEVICE float of_row(int block, int output) const { return at(block, 0, output); }
  INGOT_DEVICE int factor(int, int, int) const { return 1; }
  INGOT_DEVICE void factors(int, int, int, OWN int (&numbers)[4]) const {
    for (int j = 0; j < 4; ++j) numbers[j] = 1;
  }
};

// Small numbers times one of a larger group.
template <class Small, class Large>
struct Multiples {
  CONSTANT int SIZE = Small::SIZE;
  CONSTANT bool HAS_FACTORS = true;
  Small small;
  Large large;

  INGOT_DEVICE float at(int block, int input, int output) const {
    return large.at(block, input, output) * small.at(block, input, output);
  }
  INGOT_DEVICE void four(int block, int input, int output, OWN float (&numbers)[4]) const {
    float of_large[4];
    small.four(block, input, output, numbers);
    large.four(block, input, output, of_large);
    for (int j = 0; j < 4; ++j) numbers[j] *= of_large[j];
  }
  INGOT_DEVICE float of_row(int block, int output) const { return large.at(block, 0, output); }
  INGOT_DEVICE int factor(int block, int input, int output) const { return int(small.stored[small.place(block, input, output)]); }
  INGOT_DEVICE void factors(int block, int input, int output, OWN int (&numbers)[4]) const {
    float found[4];
    small.four(block, input, output, found);
    for (int j = 0; j < 4; ++j) numbers[j] = int(found[j]);
  }
};

// What an offset does: `moved` is a value scaled and moved, `zero` what value zero becomes.
struct NoOffsets {
  CONSTANT bool ARE_THERE = false;
  INGOT_DEVICE float at(int, int, int) const { return 0; }
  INGOT_DEVICE void four(int, int, int, OWN float (&numbers)[4]) const {
    for (int j = 0; j < 4; ++j) numbers[j] = 0;
  }
  static INGOT_DEVICE float moved(float value, float scale, float) { return value * scale; }
  static INGOT_DEVICE float zero(float, float) { return 0; }
};

// SIGN times the offset is added.
template <class Stored, int SIGN>
struct AddedOffsets {
  CONSTANT bool ARE_THERE = true;
  Stored stored;
  INGOT_DEVICE float at(int block, int input, int output) const { return stored.at(block, input, output); }
  INGOT_DEVICE void four(int block, int input, int output, OWN float (&numbers)[4]) const {
    stored.four(block, input, output, numbers);
  }
  static INGOT_DEVICE float moved(float value, float scale, float offset) { return value * scale + SIGN * offset; }
  static INGOT_DEVICE float zero(float, float offset) { return SIGN * offset; }
};

// The offset is taken off the code, which stands for ZERO less than it is.
template <class Stored, int ZERO>
struct ZeroPoints {
  CONSTANT bool ARE_THERE = true;
  Stored stored;
  INGOT_DEVICE float at(int block, int input, int output) const { return stored.at(block, input, output); }
  INGOT_DEVICE void four(int block, int input, int output, OWN float (&numbers)[4]) const {
    stored.four(block, input, output, numbers);
  }
  static INGOT_DEVICE float moved(float value, float scale, float offset) { return (value - (offset - ZERO)) * scale; }
  static INGOT_DEVICE float zero(float scale, float offset) { return (ZERO - offset) * scale; }
};

}  // namespace ingot
