// Few rows times weights: bound by reading the weights.
#pragma once

namespace ingot {

// Which rows a block multiplies: from first_row to end_row. A tile says in which place each is found and written, with
// which block of weights its matrix begins, and which of the PIECES of a row, each of a matrix of its own, it takes.
struct RowsInOrder {
  CONSTANT int PIECES = 1;
  int first_row, end_row;

  INGOT_DEVICE int source(int row) const { return row; }
  INGOT_DEVICE int target(int row) const { return row; }
  INGOT_DEVICE int first_block() const { return 0; }
  INGOT_DEVICE int piece() const { return 0; }
};

// What the lanes of each warp have of four neighbouring outputs, added up, is left where all warps find it.
template <int WARPS, int ROWS, int WIDTH, class Sum>
INGOT_DEVICE void leave_parts(Here here, SHARED Sum (&parts)[WARPS][ROWS][WIDTH], OWN const Sum (&sums)[ROWS][4]) {
  for (int m = 0; m < ROWS; ++m)
    for (int j = 0; j < 4; ++j) {
      Sum sum = sums[m][j];
      for (int mask = 4; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
      if (here.lane() < 4) parts[here.warp()][m][here.lane() * 4 + j] = sum;
    }
  block_barrier();
}

// The same of sums that are each row's, in the last column.
template <int WARPS, int ROWS, int WIDTH, class Sum>
INGOT_DEVICE void leave_row_parts(Here here, SHARED Sum (&parts)[WARPS][ROWS][WIDTH], OWN const Sum (&sums)[ROWS]) {
  for (int m = 0; m < ROWS; ++m) {
    Sum sum = sums[m];
    for (int mask = 4; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
    if (here.lane() == 0) parts[here.warp()][m][WIDTH - 1] = sum;
  }
}

// The warps' parts of a row's column, in their order.
template <int WARPS, int ROWS, int WIDTH, class Sum>
INGOT_DEVICE Sum join_parts(SHARED const Sum (&parts)[WARPS][ROWS][WIDTH], int row, int column) {
  Sum sum = 0;
  for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][row][column];
  return sum;
}

// The rows that a block multiplies: the last again where it has less than ROWS, so that none is asked for on the way.
template <int ROWS, class Tile>
INGOT_DEVICE int row_of(Tile tile, int m) {
  return ROWS == 1 || tile.first_row + m < tile.end_row ? tile.first_row + m : tile.end_row - 1;
}

// A row's floats for input and the next, the first even; zero past the last.
template <int INPUTS, class X>
INGOT_DEVICE float2 pair_at(GLOBAL const float* row, int input) {
  if constexpr (INPUTS % 2 == 0 && X::STRIDE % 2 == 0 && X::OFFSET % 2 == 0)
    return *reinterpret_cast<GLOBAL const float2*>(row + input);
  float2 pair;
  pair.x = row[input], pair.y = INPUTS % 2 == 0 || input + 1 < INPUTS ? row[input + 1] : 0.0f;
  return pair;
}

// Few rows of floats. A block of WARPS warps takes 16 outputs and ROWS rows; each warp every WARPS-th sixteen inputs.
// A lane has four outputs and two of the sixteen.
template <int WARPS, int ROWS, int INPUTS, int OUTPUTS, class X, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_few(Here here, SHARED float (&parts)[WARPS][ROWS][BLOCK], Tile tile, GLOBAL const float* x,
                               Weights weights, GLOBAL const float* bias, GLOBAL float* out) {
  // Weights are asked for AHEAD steps before they are used, the first of them before the rows are there.
  constexpr int AHEAD = ROWS == 1 ? 8 : 4, STEP = WARPS * 16;
  int stored = tile.first_block() + here.block_x();
  int first_output = here.lane() % 4 * 4, start = here.warp() * 16 + here.lane() / 4 * 2;
  typename Weights::Eight weight[AHEAD];
#pragma unroll
  for (int step = 0; step < AHEAD; ++step)
    if (start + step * STEP < INPUTS) weight[step] = weights.eight(stored, start + step * STEP, first_output);
  wait_for_launch_before();
  if (tile.first_row >= tile.end_row) return;
  GLOBAL const float* rows[ROWS];
  for (int m = 0; m < ROWS; ++m) rows[m] = X::at(x, tile.source(row_of<ROWS>(tile, m))) + tile.piece() * INPUTS;
  float sums[ROWS][4] = {};
  for (; start < INPUTS; start += AHEAD * STEP) {
    float2 value[AHEAD][ROWS];
#pragma unroll
    for (int step = 0; step < AHEAD; ++step)
#pragma unroll
      for (int m = 0; m < ROWS; ++m)
        if (start + step * STEP < INPUTS) value[step][m] = pair_at<INPUTS, X>(rows[m], start + step * STEP);
#pragma unroll
    for (int step = 0; step < AHEAD; ++step) {
      if (INPUTS % (AHEAD * STEP) != 0 && start + step * STEP >= INPUTS) break;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float first = weight[step].first(j), second = weight[step].second(j);
#pragma unroll
        for (int m = 0; m < ROWS; ++m) {
          sums[m][j] = fused_multiply_add(X::read(value[step][m].x), first, sums[m][j]);
          sums[m][j] = fused_multiply_add(X::read(value[step][m].y), second, sums[m][j]);
        }
      }
      int next = start + (AHEAD + step) * STEP;
      if (next < INPUTS) weight[step] = weights.eight(stored, next, first_output);
    }
  }
  leave_parts(here, parts, sums);
  for (int i = here.thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int row = tile.first_row + i / BLOCK, output = here.block_x() * BLOCK + i % BLOCK;
    if (row >= tile.end_row || output >= OUTPUTS) continue;
    float result = join_parts(parts, i / BLOCK, i % BLOCK);
    if constexpr (HAS_BIAS) result += bias[stored * BLOCK + i % BLOCK];
    out[((int64)tile.target(row) * Tile::PIECES + tile.piece()) * OUTPUTS + output] = result;
  }
}

// Four neighbours of a row of INPUTS; zeros past its end.
template <int INPUTS, class X>
INGOT_DEVICE void four_at(GLOBAL const float* row, int input, OWN float (&four)[4]) {
  if constexpr (X::STRIDE % 4 == 0 && X::OFFSET % 4 == 0 && INPUTS % SPAN == 0) {
    load_four(row + input, four);
  } else {
    for (int e = 0; e < 4; ++e) four[e] = INPUTS % SPAN == 0 || input + e < INPUTS ? row[input + e] : 0.0f;
  }
}

// Few rows of floats times weights in a format. A block takes 16 outputs, a warp every WARPS-th span, a lane four
// outputs and one four of inputs, which share a scale. Codes and scales are asked for AHEAD spans before they are used.
template <int WARPS, int ROWS, int OUTPUTS, class X, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_few_decoded(Here here, SHARED float (&parts)[WARPS][ROWS][BLOCK], Tile tile,
                                       GLOBAL const float* x, Weights weights, GLOBAL const float* bias,
                                       GLOBAL float* out) {
  constexpr int INPUTS = Weights::INPUTS, SPANS = (INPUTS + SPAN - 1) / SPAN, AHEAD = ROWS == 1 ? 8 : 4;
  int stored = tile.first_block() + here.block_x();
  int first_output = here.lane() % 4 * 4, four = here.lane() / 4;
  unsigned codes[AHEAD][4];
  float scale[AHEAD][4];
#pragma unroll
  for (int step = 0; step < AHEAD; ++step) {
    int span = here.warp() + step * WARPS, input = span * SPAN + four * 4;
    if (span >= SPANS) break;
    weights.fours(stored, span, four, first_output, codes[step]);
    weights.scales.four(stored, INPUTS % SPAN == 0 || input < INPUTS ? input : 0, first_output, scale[step]);
  }
  wait_for_launch_before();
  if (tile.first_row >= tile.end_row) return;
  GLOBAL const float* rows[ROWS];
  for (int m = 0; m < ROWS; ++m) rows[m] = X::at(x, tile.source(row_of<ROWS>(tile, m))) + tile.piece() * INPUTS;
  float sums[ROWS][4] = {};
  for (int start = here.warp(); start < SPANS; start += AHEAD * WARPS) {
#pragma unroll
    for (int step = 0; step < AHEAD; ++step) {
      int span = start + step * WARPS, input = span * SPAN + four * 4, known = input;
      if (span >= SPANS) break;
      if (INPUTS % SPAN != 0 && input >= INPUTS) known = 0;  // rows are zeros here
      float offset[4];
      weights.offsets.four(stored, known, first_output, offset);
      float weight[4][4];
      for (int j = 0; j < 4; ++j)
        for (int e = 0; e < 4; ++e) weight[j][e] = Weights::Kind::value(codes[step][j] >> 8 * e & 255);
#pragma unroll
      for (int m = 0; m < ROWS; ++m) {
        float value[4];
        four_at<INPUTS, X>(rows[m], input, value);
        float row_sum = value[0] + value[1] + (value[2] + value[3]);
        for (int j = 0; j < 4; ++j) {
          float product = 0;
          for (int e = 0; e < 4; ++e) product = fused_multiply_add(value[e], weight[j][e], product);
          sums[m][j] = fused_multiply_add(product, scale[step][j], sums[m][j]);
          if constexpr (Weights::HAS_OFFSETS)
            sums[m][j] = fused_multiply_add(row_sum, Weights::zero(scale[step][j], offset[j]), sums[m][j]);
        }
      }
      int next = span + AHEAD * WARPS, next_input = next * SPAN + four * 4;
      if (next >= SPANS) continue;
      weights.fours(stored, next, four, first_output, codes[step]);
      weights.scales.four(stored, INPUTS % SPAN == 0 || next_input < INPUTS ? next_input : 0, first_output, scale[step]);
    }
  }
  leave_parts(here, parts, sums);
  for (int i = here.thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int row = tile.first_row + i / BLOCK, output = here.block_x() * BLOCK + i % BLOCK;
    if (row >= tile.end_row || output >= OUTPUTS) continue;
    float result = join_parts(parts, i / BLOCK, i % BLOCK);
    if constexpr (HAS_BIAS) result += bias[stored * BLOCK + i % BLOCK];
    out[((int64)tile.target(row) * Tile::PIECES + tile.piece()) * OUTPUTS + output] = result;
  }
}

// Few rows of int8 codes with scales for ROW_GROUP elements, laid over lanes alike. Where rows of weights are whole
// numbers times one scale and so are these, sums are whole numbers, so exact: Sum is int then, and else float. Where
// there are offsets then, the sums of rows' codes lie in one more column of parts.
template <int WARPS, int ROWS, int OUTPUTS, int ROW_GROUP, class Sum, int WIDTH, class Weights, bool HAS_BIAS,
          class Tile>
INGOT_DEVICE void multiply_few_codes(Here here, SHARED Sum (&parts)[WARPS][ROWS][WIDTH], Tile tile,
                                     GLOBAL const signed char* codes, GLOBAL const float* row_scales, Weights weights,
                                     GLOBAL const float* bias, GLOBAL float* out) {
  using Kind = typename Weights::Kind;
  constexpr int INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::IS_WHOLE && ROW_GROUP == INPUTS;
  constexpr int AHEAD = ROWS == 1 ? 8 : 4, SPANS = INPUTS / SPAN;
  int stored = tile.first_block() + here.block_x();
  int first_output = here.lane() % 4 * 4, four = here.lane() / 4;
  unsigned word[AHEAD][4];
  int factor[AHEAD][4];
  float scale[AHEAD][4];
#pragma unroll
  for (int step = 0; step < AHEAD; ++step) {
    int span = here.warp() + step * WARPS;
    if (span >= SPANS) break;
    weights.fours(stored, span, four, first_output, word[step]);
    if constexpr (IS_EXACT) weights.scales.factors(stored, span * SPAN + four * 4, first_output, factor[step]);
    else weights.scales.four(stored, span * SPAN + four * 4, first_output, scale[step]);
  }
  wait_for_launch_before();
  if (tile.first_row >= tile.end_row) return;
  int64 sources[ROWS];  // among pieces
  for (int m = 0; m < ROWS; ++m) sources[m] = (int64)tile.source(row_of<ROWS>(tile, m)) * Tile::PIECES + tile.piece();
  Sum sums[ROWS][4] = {}, row_sums[ROWS] = {};
  for (int start = here.warp(); start < SPANS; start += AHEAD * WARPS) {
    unsigned x[AHEAD][ROWS];
#pragma unroll
    for (int step = 0; step < AHEAD; ++step)
#pragma unroll
      for (int m = 0; m < ROWS; ++m) {
        GLOBAL const unsigned* own = reinterpret_cast<GLOBAL const unsigned*>(codes + sources[m] * INPUTS);
        int span = start + step * WARPS;
        x[step][m] = span < SPANS ? own[span * (SPAN / 4) + four] : 0;
      }
#pragma unroll
    for (int step = 0; step < AHEAD; ++step) {
      int span = start + step * WARPS, input = span * SPAN + four * 4;
      if (span >= SPANS) break;
      float zero[4];
      if constexpr (!IS_EXACT && Weights::HAS_OFFSETS) {
        weights.offsets.four(stored, input, first_output, zero);
        for (int j = 0; j < 4; ++j) zero[j] = Weights::zero(scale[step][j], zero[j]);
      }
      for (int j = 0; j < 4; ++j) word[step][j] = Kind::unsigned_bytes(word[step][j]);
#pragma unroll
      for (int m = 0; m < ROWS; ++m) {
        int row_sum = dot_bytes(0x01010101u, x[step][m], 0);
        for (int j = 0; j < 4; ++j) {
          int product = dot_bytes(word[step][j], x[step][m], row_sum * -Kind::ZERO);
          if constexpr (IS_EXACT) {
            sums[m][j] += product * factor[step][j];
          } else {
            float row_scale = row_scales[sources[m] * GROUPS + span * SPAN / ROW_GROUP];
            float value = float(product) * scale[step][j];
            if constexpr (Weights::HAS_OFFSETS) value = fused_multiply_add(float(row_sum), zero[j], value);
            sums[m][j] = fused_multiply_add(value, row_scale, sums[m][j]);
          }
        }
        if constexpr (WIDTH > BLOCK) row_sums[m] += row_sum;
      }
      int next = span + AHEAD * WARPS;
      if (next >= SPANS) continue;
      weights.fours(stored, next, four, first_output, word[step]);
      if constexpr (IS_EXACT) weights.scales.factors(stored, next * SPAN + four * 4, first_output, factor[step]);
      else weights.scales.four(stored, next * SPAN + four * 4, first_output, scale[step]);
    }
  }
  if constexpr (WIDTH > BLOCK) leave_row_parts(here, parts, row_sums);
  leave_parts(here, parts, sums);
  for (int i = here.thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int row = tile.first_row + i / BLOCK, output = here.block_x() * BLOCK + i % BLOCK;
    if (row >= tile.end_row || output >= OUTPUTS) continue;
    int64 target = (int64)tile.target(row) * Tile::PIECES + tile.piece();
    float result = float(join_parts(parts, i / BLOCK, i % BLOCK));
    if constexpr (IS_EXACT) {
      int row_sum = 0;
      if constexpr (WIDTH > BLOCK) row_sum = join_parts(parts, i / BLOCK, BLOCK);
      int64 source = (int64)tile.source(row) * Tile::PIECES + tile.piece();
      result = weights.of_sums(stored, i % BLOCK, result, row_sum, row_scales[source]);
    }
    if constexpr (HAS_BIAS) result += bias[stored * BLOCK + i % BLOCK];
    out[target * OUTPUTS + output] = result;
  }
}

}  // namespace ingot
