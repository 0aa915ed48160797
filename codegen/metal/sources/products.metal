// Many rows times weights, on matrices of simdgroups.
//
// A threadgroup of four simdgroups computes a tile of 32 rows and 64 outputs, 32 inputs at a time: all threads put both
// factors into shared memory, as float32 or, where they are small whole numbers, as float16; then each simdgroup takes
// 16 rows and 32 outputs of them. Sums are float32 and have one order, however many rows there are.
#pragma once

namespace ingot {

CONSTANT int SIDE = 8;  // of a simdgroup's matrix
CONSTANT int TILE_ROWS = 32, TILE_OUTPUTS = 64, TILE_THREADS = 128;
CONSTANT int ROW_STRIDE = SPAN + 4, OUTPUT_STRIDE = TILE_OUTPUTS + 4;  // so that rows begin in different banks
CONSTANT int TILE_FLOATS = TILE_ROWS * ROW_STRIDE + SPAN * OUTPUT_STRIDE;

// Rows of floats, as they are. Where rows have several pieces, each of a matrix of its own, one of them is taken.
template <class X, int INPUTS_>
struct FloatRows {
  using Factor = float;
  using Sum = float;
  CONSTANT int INPUTS = INPUTS_;
  GLOBAL const float* x;

  template <int PIECES>
  INGOT_DEVICE float at(int row, int piece, int input) const { return X::at(x, row)[piece * INPUTS + input]; }
  template <int PIECES, class Weights>
  INGOT_DEVICE float finish(float sum, Weights, int, int, int, int) const { return sum; }
};

// Rows of codes times their scales, one for each GROUP elements.
template <int INPUTS_, int GROUP>
struct ScaledRows {
  using Factor = float;
  using Sum = float;
  CONSTANT int INPUTS = INPUTS_;
  GLOBAL const signed char* codes;
  GLOBAL const float* scales;

  template <int PIECES>
  INGOT_DEVICE float at(int row, int piece, int input) const {
    int64 place = (int64)row * PIECES + piece;
    return float(codes[place * INPUTS + input]) * scales[place * (INPUTS / GROUP) + input / GROUP];
  }
  template <int PIECES, class Weights>
  INGOT_DEVICE float finish(float sum, Weights, int, int, int, int) const { return sum; }
};

// Rows of codes with one scale each, for weights whose groups' scales are whole numbers times one of the row: sums of
// whole numbers, so exact, are scaled once.
template <int INPUTS_>
struct WholeRows {
  using Factor = half;
  using Sum = int;
  CONSTANT int INPUTS = INPUTS_;
  GLOBAL const signed char* codes;
  GLOBAL const float* scales;

  template <int PIECES>
  INGOT_DEVICE half at(int row, int piece, int input) const {
    return half(codes[((int64)row * PIECES + piece) * INPUTS + input]);
  }
  template <int PIECES, class Weights>
  INGOT_DEVICE float finish(int sum, Weights weights, int row, int piece, int block, int output) const {
    return float(sum) * (scales[(int64)row * PIECES + piece] * weights.scales.of_row(block, output));
  }
};

// A span of 64 outputs' weights as factors, element by element, of any weights that say what is at a place.
template <class Factor, class Weights, int INPUTS>
struct Spread {
  static INGOT_DEVICE void put(
      Here here, SHARED Factor* tile, Weights weights, int first_block, int blocks_left, int first_input) {
    for (int i = here.thread_index(); i < SPAN * TILE_OUTPUTS; i += TILE_THREADS) {
      int input = i / TILE_OUTPUTS, output = i % TILE_OUTPUTS, block = first_block + output / BLOCK;
      bool is_there = output / BLOCK < blocks_left && first_input + input < INPUTS;
      tile[input * OUTPUT_STRIDE + output] =
          is_there ? Factor(weights.at(block, first_input + input, output % BLOCK)) : Factor(0);
    }
  }
};

// Of weights in floats: two inputs and four outputs at a time.
template <class Type, int INPUTS, bool PAIRED>
struct Spread<float, FloatWeights<Type, INPUTS, PAIRED>, INPUTS> {
  static INGOT_DEVICE void put(Here here, SHARED float* tile, FloatWeights<Type, INPUTS, PAIRED> weights,
                               int first_block, int blocks_left, int first_input) {
    constexpr int FOURS = TILE_OUTPUTS / 4;
    for (int i = here.thread_index(); i < SPAN / 2 * FOURS; i += TILE_THREADS) {
      int input = i / FOURS * 2, output = i % FOURS * 4, block = first_block + output / BLOCK;
      float first[4] = {}, second[4] = {};
      bool is_there = output / BLOCK < blocks_left;
      if (is_there && first_input + input + 1 < INPUTS) {
        weights.eight(block, first_input + input, output % BLOCK, first, second);
      } else if (is_there && first_input + input < INPUTS) {
        for (int j = 0; j < 4; ++j) first[j] = weights.at(block, first_input + input, output % BLOCK + j);
      }
      for (int j = 0; j < 4; ++j) {
        tile[input * OUTPUT_STRIDE + output + j] = first[j];
        tile[(input + 1) * OUTPUT_STRIDE + output + j] = second[j];
      }
    }
  }
};

// Of codes: four inputs, which share a scale, and four outputs for each thread. Factors that are half are whole numbers.
template <class Factor, class Kind, int INPUTS, class Scales, class Offsets, bool IS_WHOLE>
struct Spread<Factor, CodedWeights<Kind, INPUTS, Scales, Offsets, IS_WHOLE>, INPUTS> {
  using Weights = CodedWeights<Kind, INPUTS, Scales, Offsets, IS_WHOLE>;

  static INGOT_DEVICE void put(
      Here here, SHARED Factor* tile, Weights weights, int first_block, int blocks_left, int first_input) {
    constexpr int FOURS = TILE_OUTPUTS / 4;
    int output = here.thread_index() % FOURS * 4, four = here.thread_index() / FOURS;
    int block = first_block + output / BLOCK, input = first_input + four * 4;
    Factor found[4][4] = {};
    if (output / BLOCK < blocks_left && input < INPUTS) {
      unsigned codes[4];
      weights.fours(block, first_input / SPAN, four, output % BLOCK, codes);
      decode(weights, block, input, output % BLOCK, codes, found);
    }
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 4; ++i) tile[(four * 4 + i) * OUTPUT_STRIDE + output + j] = found[j][i];
  }
  static INGOT_DEVICE void decode(
      Weights weights, int block, int input, int output, OWN unsigned (&codes)[4], OWN float (&found)[4][4]) {
    float scale[4], offset[4];
    weights.scales.four(block, input, output, scale);
    weights.offsets.four(block, input, output, offset);
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 4; ++i)
        found[j][i] = Offsets::moved(Kind::value(codes[j] >> 8 * i & 255), scale[j], offset[j]);
  }
  static INGOT_DEVICE void decode(
      Weights weights, int block, int input, int output, OWN unsigned (&codes)[4], OWN half (&found)[4][4]) {
    int factor[4];
    weights.scales.factors(block, input, output, factor);
    for (int j = 0; j < 4; ++j) {
      unsigned whole = Kind::unsigned_bytes(codes[j]);
      for (int i = 0; i < 4; ++i) found[j][i] = half((int(whole >> 8 * i & 255) - Kind::ZERO) * factor[j]);
    }
  }
};

static_assert(SPAN / 4 * (TILE_OUTPUTS / 4) == TILE_THREADS, "each thread puts one four of codes of four outputs");

template <class Rows, class Weights, int OUTPUTS, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_many(Here here, SHARED float (&shared)[TILE_FLOATS], Tile tile, Rows rows, Weights weights,
                                GLOBAL const float* bias, GLOBAL float* out) {
  using Factor = typename Rows::Factor;
  constexpr int INPUTS = Rows::INPUTS, BLOCKS = (OUTPUTS + BLOCK - 1) / BLOCK, PIECES = Tile::PIECES;
  constexpr int EACH = TILE_ROWS * TILE_OUTPUTS / TILE_THREADS, WARPS = TILE_THREADS / WARP, OWN_ROWS = TILE_ROWS / WARPS;
  // Codes times factors are at most 128 * 128, so 1024 products of them are whole numbers up to 2^24: exact in float32.
  constexpr int EXACT_INPUTS = 1024;
  SHARED Factor* left = reinterpret_cast<SHARED Factor*>(&shared[0]);
  SHARED Factor* right = left + TILE_ROWS * ROW_STRIDE;
  int first_output = here.block_x() * TILE_OUTPUTS, first_block = tile.first_block() + first_output / BLOCK;
  int blocks_left = BLOCKS - first_output / BLOCK;
  int own_row = here.warp() / 2 * 16, own_output = here.warp() % 2 * 32;
  int sources[OWN_ROWS];  // of rows that this thread puts into shared memory; -1 where there is none
  for (int k = 0; k < OWN_ROWS; ++k) {
    int row = tile.first_row + here.warp() + k * WARPS;
    sources[k] = row < tile.end_row ? tile.source(row) : -1;
  }
  typename Rows::Sum sums[EACH] = {};
  metal::simdgroup_matrix<float, SIDE, SIDE> results[2][4];
  for (int m = 0; m < 2; ++m)
    for (int n = 0; n < 4; ++n) results[m][n] = metal::make_filled_simdgroup_matrix<float, SIDE, SIDE>(0.0f);

  for (int start = 0; start < INPUTS; start += SPAN) {
    block_barrier();
    int input = start + here.lane();
    for (int k = 0; k < OWN_ROWS; ++k) {
      Factor value = Factor(0);
      if (sources[k] >= 0 && input < INPUTS)
        value = Factor(rows.template at<PIECES>(sources[k], tile.piece(), input));
      left[(here.warp() + k * WARPS) * ROW_STRIDE + here.lane()] = value;
    }
    Spread<Factor, Weights, INPUTS>::put(here, right, weights, first_block, blocks_left, start);
    block_barrier();
    for (int inner = 0; inner < SPAN; inner += SIDE) {
      metal::simdgroup_matrix<Factor, SIDE, SIDE> a[2], b[4];
      for (int m = 0; m < 2; ++m)
        metal::simdgroup_load(a[m], left + (own_row + m * SIDE) * ROW_STRIDE + inner, ROW_STRIDE);
      for (int n = 0; n < 4; ++n)
        metal::simdgroup_load(b[n], right + inner * OUTPUT_STRIDE + own_output + n * SIDE, OUTPUT_STRIDE);
      for (int m = 0; m < 2; ++m)
        for (int n = 0; n < 4; ++n) metal::simdgroup_multiply_accumulate(results[m][n], a[m], b[n], results[m][n]);
    }
    // Matrices are read by way of memory: which thread holds what of them is nobody's business.
    bool is_last = start + SPAN >= INPUTS;
    bool is_full = sizeof(Factor) == sizeof(half) && (start + SPAN) % EXACT_INPUTS == 0;
    if (is_last || is_full) {
      block_barrier();
      for (int m = 0; m < 2; ++m)
        for (int n = 0; n < 4; ++n) {
          SHARED float* corner = &shared[(own_row + m * SIDE) * OUTPUT_STRIDE + own_output + n * SIDE];
          metal::simdgroup_store(results[m][n], corner, OUTPUT_STRIDE);
          results[m][n] = metal::make_filled_simdgroup_matrix<float, SIDE, SIDE>(0.0f);
        }
      block_barrier();
      for (int k = 0; k < EACH; ++k) {
        int i = here.thread_index() + k * TILE_THREADS;
        sums[k] += typename Rows::Sum(shared[i / TILE_OUTPUTS * OUTPUT_STRIDE + i % TILE_OUTPUTS]);
      }
    }
  }
  for (int k = 0; k < EACH; ++k) {
    int i = here.thread_index() + k * TILE_THREADS;
    int row = tile.first_row + i / TILE_OUTPUTS, output = first_output + i % TILE_OUTPUTS;
    if (row >= tile.end_row || output >= OUTPUTS) continue;
    int block = tile.first_block() + output / BLOCK;
    float result =
        rows.template finish<PIECES>(sums[k], weights, tile.source(row), tile.piece(), block, output % BLOCK);
    if constexpr (HAS_BIAS) result += bias[block * BLOCK + output % BLOCK];
    out[((int64)tile.target(row) * PIECES + tile.piece()) * OUTPUTS + output] = result;
  }
}

}  // namespace ingot
