// Weights as the first factor of tensor cores' products, straight from memory to registers.
//
// A block of 16 outputs is the 16 rows of a factor, the even ones first: row g is output 2 g, row g + 8 its neighbour.
// So lane (g, i) = (lane / 4, lane % 4) finds both side by side, and a warp reads 256 bytes that are neighbours. A chunk is
// what 128 bytes of a row meet, and is four products' steps.
#pragma once

namespace ingot {

CONSTANT int STEPS = 4;

#if INGOT_WARPGROUPS
template <int SIZE>
INGOT_DEVICE void multiply_by_group(BFloat16, float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
  group_multiply_bfloat16(d, a, matrix);
}
template <int SIZE>
INGOT_DEVICE void multiply_by_group(Float16, float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
  group_multiply_half(d, a, matrix);
}
#endif

// Halves: a step is 16 inputs.
template <class Type, int INPUTS, class Weights>
struct HalfFragments {
  using Sum = float;
  CONSTANT bool HAVE_REST = false;
  CONSTANT int CHUNKS = (INPUTS + 63) / 64;
  struct Raw {
    uint2 words[STEPS][2];
  };

  static INGOT_DEVICE void load(const Weights& weights, int block, int chunk, int lane, Raw& raw) {
    constexpr int STORED = Weights::IS_PAIRED ? (INPUTS + SPAN - 1) / SPAN * SPAN : INPUTS;
    int input = chunk * 64 + lane % 4 * 2;
    const unsigned short* start = weights.stored + weights.place(block, input, lane / 4 * 2);
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned short* own = start + (step * 16 + half * 8) * BLOCK;
        uint2& words = raw.words[step][half];
        if (STORED % 64 != 0 && input + step * 16 + half * 8 >= STORED) {
          words.x = words.y = 0;
        } else if constexpr (Weights::IS_PAIRED) {
          words = *reinterpret_cast<const uint2*>(own);
        } else {  // of one input each
          words.x = *reinterpret_cast<const unsigned*>(own);
          words.y = *reinterpret_cast<const unsigned*>(own + BLOCK);
        }
      }
  }
  static INGOT_DEVICE void decode(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
      for (int half = 0; half < 2; ++half) {
        uint2 words = raw.words[step][half];
        if constexpr (Weights::IS_PAIRED) {
          a[step][half * 2] = words.x, a[step][half * 2 + 1] = words.y;
        } else {
          a[step][half * 2] = words.x & 0xffffu | words.y << 16;
          a[step][half * 2 + 1] = words.x >> 16 | words.y & 0xffff0000u;
        }
      }
  }
  static INGOT_DEVICE void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_tiles<Type>(d, a, b);
  }
#if INGOT_WARPGROUPS
  template <int SIZE>
  static INGOT_DEVICE void multiply_group(float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
    multiply_by_group(Type(), d, a, matrix);
  }
#endif
};

// The codes of SPANS_AT_ONCE spans as they are stored: a lane's are fours 2 i and 2 i + 1 of a span, of both outputs.
template <class Weights, int SPANS_AT_ONCE>
struct StoredCodes {
  CONSTANT int BITS = Weights::Kind::BITS, SPANS = (Weights::INPUTS + SPAN - 1) / SPAN;
  CONSTANT int WORDS = BITS == 8 ? 2 : (BITS >> 2 & 1) + (BITS >> 1 & 1) + (BITS & 1);
  uint2 words[SPANS_AT_ONCE][WORDS];

  INGOT_DEVICE void load(const Weights& weights, int block, int chunk, int lane) {
    int group = lane / 4, inside = lane % 4;
    const uint2* start = reinterpret_cast<const uint2*>(weights.span_at(block, chunk * SPANS_AT_ONCE)) + group;
#pragma unroll
    for (int number = 0; number < SPANS_AT_ONCE; ++number) {
      int span = chunk * SPANS_AT_ONCE + number, word = 0;
      if (SPANS % SPANS_AT_ONCE != 0 && span >= SPANS) span = SPANS - 1;  // which meets zeros
      const uint2* own = start + (span - chunk * SPANS_AT_ONCE) * (BITS * BLOCK / 2);
      // A vector is 16 outputs' words, of which a lane takes two.
      if constexpr (BITS == 8) {
        words[number][0] = own[inside * BLOCK], words[number][1] = own[inside * BLOCK + BLOCK / 2];
      } else {
        if constexpr ((BITS & 4) != 0) words[number][word++] = own[inside * (BLOCK / 2)];
        if constexpr ((BITS & 2) != 0) words[number][word++] = own[((BITS & 4) + inside / 2) * (BLOCK / 2)];
        if constexpr ((BITS & 1) != 0) words[number][word++] = own[(BITS & 6) * (BLOCK / 2)];
      }
    }
  }
  // Four 2 i + odd of a span, of both outputs.
  INGOT_DEVICE void take(int number, int odd, int lane, unsigned (&codes)[2]) const {
    int inside = lane % 4, word = 0;
    codes[0] = codes[1] = 0;
    auto add = [&](uint2 pair, int shift, unsigned mask, int lowest) {
      codes[0] |= (pair.x >> shift & mask) << lowest, codes[1] |= (pair.y >> shift & mask) << lowest;
    };
    if constexpr (BITS == 8) {
      add(words[number][odd], 0, 0xffffffffu, 0);
    } else {
      if constexpr ((BITS & 4) != 0) add(words[number][word++], odd * 4, 0x0f0f0f0fu, 0);
      if constexpr ((BITS & 2) != 0) add(words[number][word++], (inside % 2 * 2 + odd) * 2, 0x03030303u, BITS & 4);
      if constexpr ((BITS & 1) != 0) add(words[number][word++], inside * 2 + odd, 0x01010101u, BITS & 6);
    }
  }
};

// Codes as signed bytes; where rows are whole numbers times their groups' factor, times that, which still fits. A step
// is a span.
template <class Weights>
struct CodeFragments {
  using Sum = int;
  CONSTANT bool HAVE_REST = false;
  using Kind = typename Weights::Kind;
  CONSTANT bool HAS_FACTORS = Weights::IS_WHOLE && Weights::HAS_FACTORS;
  CONSTANT int INPUTS = Weights::INPUTS, STEP_INPUTS = SPAN, CHUNKS = (INPUTS / SPAN + STEPS - 1) / STEPS;
  struct Raw {
    StoredCodes<Weights, STEPS> codes;
    int factors[STEPS][2];
  };

  static INGOT_DEVICE void load(const Weights& weights, int block, int chunk, int lane, Raw& raw) {
    raw.codes.load(weights, block, chunk, lane);
    if constexpr (HAS_FACTORS)
      for (int step = 0; step < STEPS; ++step) {
        int input = (chunk * STEPS + step) * SPAN;
        if (INPUTS % (STEPS * SPAN) != 0 && input >= INPUTS) input = 0;
        for (int j = 0; j < 2; ++j) raw.factors[step][j] = weights.scales.factor(block, input, lane / 4 * 2 + j);
      }
  }
  static INGOT_DEVICE void decode(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned codes[2];
        raw.codes.take(step, half, lane, codes);
        for (int j = 0; j < 2; ++j) {
          unsigned bytes = Kind::signed_bytes(codes[j]);
          a[step][half * 2 + j] = HAS_FACTORS ? times(bytes, raw.factors[step][j]) : bytes;
        }
      }
  }
  // Signed bytes times a factor: two at a time in halves of a word, as numbers from 0 on, where 8192 more keep them from
  // borrowing.
  static INGOT_DEVICE unsigned times(unsigned bytes, int factor) {
    unsigned raised = bytes ^ 0x80808080u, more = unsigned(0x2000 - 128 * factor) * 0x10001u;
    unsigned even = (raised & 0x00ff00ffu) * factor + more, odd = (raised >> 8 & 0x00ff00ffu) * factor + more;
    return even & 0x00ff00ffu | (odd & 0x00ff00ffu) << 8;
  }
  static INGOT_DEVICE void multiply(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_int8(d, a, b);
  }
#if INGOT_WARPGROUPS
  template <int SIZE>
  static INGOT_DEVICE void multiply_group(int (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
    group_multiply_int8(d, a, matrix);
  }
#endif
};

// Codes as bfloat16: a step is half a span, the even fours or the odd ones (tile_rows FOR_CODES). Where it does not hold
// what they stand for, they HAVE_REST, which is multiplied, too.
template <class Weights>
struct DecodedFragments {
  using Sum = float;
  using Kind = typename Weights::Kind;
  CONSTANT bool HAVE_REST = !Kind::IS_HALF;
  CONSTANT int INPUTS = Weights::INPUTS, STEP_INPUTS = SPAN / 2, CHUNKS = (INPUTS + 63) / 64;
  using Raw = StoredCodes<Weights, 2>;

  static INGOT_DEVICE void load(const Weights& weights, int block, int chunk, int lane, Raw& raw) {
    raw.load(weights, block, chunk, lane);
  }
  static INGOT_DEVICE void decode(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) { take<false>(raw, lane, a); }
  static INGOT_DEVICE void decode_rest(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) { take<true>(raw, lane, a); }
  template <bool REST>
  static INGOT_DEVICE void take(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      unsigned codes[2];
      raw.take(step / 2, step % 2, lane, codes);
      for (int half = 0; half < 2; ++half)
        for (int j = 0; j < 2; ++j) {
          unsigned pair = codes[j] >> half * 16, high, low;
          float first = Kind::value(pair & 255), second = Kind::value(pair >> 8 & 255);
          if constexpr (!HAVE_REST) high = low = pack_exact(first, second);
          else split_pair<BFloat16>(first, second, high, low);
          a[step][half * 2 + j] = REST ? low : high;
        }
    }
  }
  static INGOT_DEVICE void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_bfloat16(d, a, b);
  }
#if INGOT_WARPGROUPS
  template <int SIZE>
  static INGOT_DEVICE void multiply_group(float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
    group_multiply_bfloat16(d, a, matrix);
  }
#endif
};

// Floats of eight bits, as they are stored: a step is a span.
template <class Weights>
struct Float8Fragments {
  using Sum = float;
  CONSTANT bool HAVE_REST = false;
  CONSTANT int INPUTS = Weights::INPUTS, STEP_INPUTS = SPAN, CHUNKS = (INPUTS / SPAN + STEPS - 1) / STEPS;
  using Raw = StoredCodes<Weights, STEPS>;

  static INGOT_DEVICE void load(const Weights& weights, int block, int chunk, int lane, Raw& raw) {
    raw.load(weights, block, chunk, lane);
  }
  static INGOT_DEVICE void decode(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
      for (int half = 0; half < 2; ++half) {
        unsigned codes[2];
        raw.take(step, half, lane, codes);
        a[step][half * 2] = codes[0], a[step][half * 2 + 1] = codes[1];
      }
  }
  static INGOT_DEVICE void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_float8(d, a, b);
  }
#if INGOT_WARPGROUPS
  template <int SIZE>
  static INGOT_DEVICE void multiply_group(float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
    group_multiply_float8(d, a, matrix);
  }
#endif
};

}  // namespace ingot
