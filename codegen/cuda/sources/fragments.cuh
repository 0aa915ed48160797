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

// Codes as signed bytes, in formats whose rows are whole numbers times their groups' factor, which still fits: a step is
// a span.
template <class Weights>
struct CodeFragments {
  using Sum = int;
  using Kind = typename Weights::Kind;
  CONSTANT bool HAS_FACTORS = Weights::IS_WHOLE && Weights::HAS_FACTORS;
  CONSTANT int BITS = Kind::BITS, SPANS = Weights::INPUTS / SPAN, CHUNKS = (SPANS + STEPS - 1) / STEPS;
  CONSTANT int WORDS = BITS == 8 ? 2 : (BITS >> 2 & 1) + (BITS >> 1 & 1) + (BITS & 1);
  struct Raw {
    uint2 words[STEPS][WORDS];
    int factors[STEPS][2];
  };

  static INGOT_DEVICE void load(const Weights& weights, int block, int chunk, int lane, Raw& raw) {
    int group = lane / 4, inside = lane % 4;
    const uint2* start = reinterpret_cast<const uint2*>(weights.span_at(block, chunk * STEPS)) + group;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      int span = chunk * STEPS + step, word = 0;
      if (SPANS % STEPS != 0 && span >= SPANS) span = SPANS - 1;  // which meets zeros
      const uint2* own = start + (span - chunk * STEPS) * (BITS * BLOCK / 2);
      // A vector is 16 outputs' words, of which a lane takes two.
      if constexpr (BITS == 8) {
        raw.words[step][0] = own[inside * BLOCK], raw.words[step][1] = own[inside * BLOCK + BLOCK / 2];
      } else {
        if constexpr ((BITS & 4) != 0) raw.words[step][word++] = own[inside * (BLOCK / 2)];
        if constexpr ((BITS & 2) != 0) raw.words[step][word++] = own[((BITS & 4) + inside / 2) * (BLOCK / 2)];
        if constexpr ((BITS & 1) != 0) raw.words[step][word++] = own[(BITS & 6) * (BLOCK / 2)];
      }
      if constexpr (HAS_FACTORS)
        for (int j = 0; j < 2; ++j) raw.factors[step][j] = weights.scales.factor(block, span * SPAN, group * 2 + j);
    }
  }
  static INGOT_DEVICE void decode(const Raw& raw, int lane, unsigned (&a)[STEPS][4]) {
    int inside = lane % 4;
#pragma unroll
    for (int step = 0; step < STEPS; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned codes[2] = {};  // of four inside * 2 + half, of both outputs
        auto add = [&](uint2 words, int shift, unsigned mask, int lowest) {
          codes[0] |= (words.x >> shift & mask) << lowest, codes[1] |= (words.y >> shift & mask) << lowest;
        };
        int word = 0;
        if constexpr (BITS == 8) {
          add(raw.words[step][half], 0, 0xffffffffu, 0);
        } else {
          if constexpr ((BITS & 4) != 0) add(raw.words[step][word++], half * 4, 0x0f0f0f0fu, 0);
          if constexpr ((BITS & 2) != 0) add(raw.words[step][word++], (inside % 2 * 2 + half) * 2, 0x03030303u, BITS & 4);
          if constexpr ((BITS & 1) != 0) add(raw.words[step][word++], inside * 2 + half, 0x01010101u, BITS & 6);
        }
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

}  // namespace ingot
