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

// Few rows of floats. A block of WARPS warps takes 16 outputs and ROWS rows; each warp every WARPS-th sixteen inputs.
// A lane has four outputs and two of the sixteen.
template <int WARPS, int ROWS, int INPUTS, int OUTPUTS, class X, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_few(Here here, SHARED float (&parts)[WARPS][ROWS][BLOCK], Tile tile, GLOBAL const float* x,
                               Weights weights, GLOBAL const float* bias, GLOBAL float* out) {
  int stored = tile.first_block() + here.block_x();
  int first_output = here.lane() % 4 * 4, first_input = here.lane() / 4 * 2;
  int sources[ROWS];
  for (int m = 0; m < ROWS; ++m) sources[m] = tile.source(tile.first_row + m);
  float sums[ROWS][4] = {};
#pragma unroll 4
  for (int input = here.warp() * 16 + first_input; input < INPUTS; input += WARPS * 16) {
    float weight[4], next_weight[4];
    bool has_next = INPUTS % 2 == 0 || input + 1 < INPUTS;
    if (has_next) {
      weights.eight(stored, input, first_output, weight, next_weight);
    } else {
      for (int j = 0; j < 4; ++j) weight[j] = weights.at(stored, input, first_output + j), next_weight[j] = 0;
    }
#pragma unroll
    for (int m = 0; m < ROWS; ++m) {
      if (tile.first_row + m >= tile.end_row) break;
      GLOBAL const float* own = X::at(x, sources[m]) + tile.piece() * INPUTS + input;
      float value = own[0], next = has_next ? own[1] : 0.0f;
      for (int j = 0; j < 4; ++j)
        sums[m][j] = fused_multiply_add(next, next_weight[j], fused_multiply_add(value, weight[j], sums[m][j]));
    }
  }
  for (int m = 0; m < ROWS; ++m)
    for (int j = 0; j < 4; ++j) {
      float sum = sums[m][j];
      for (int mask = 4; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
      if (here.lane() < 4) parts[here.warp()][m][first_output + j] = sum;
    }
  block_barrier();
  for (int i = here.thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int m = i / BLOCK, row = tile.first_row + m, output = here.block_x() * BLOCK + i % BLOCK;
    if (row >= tile.end_row || output >= OUTPUTS) continue;
    float sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][m][i % BLOCK];
    if constexpr (HAS_BIAS) sum += bias[stored * BLOCK + i % BLOCK];
    out[((int64)tile.target(row) * Tile::PIECES + tile.piece()) * OUTPUTS + output] = sum;
  }
}

// Few rows of int8 codes with scales for ROW_GROUP elements. A block takes 16 outputs, a warp every WARPS-th span,
// a lane four outputs and one four of inputs. With scales in two levels, and one for a row, sums are whole numbers,
// so exact: Sum is int then, and else float.
template <int WARPS, int ROWS, int OUTPUTS, int ROW_GROUP, class Sum, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_few_codes(Here here, SHARED Sum (&parts)[WARPS][ROWS][BLOCK], Tile tile,
                                     GLOBAL const signed char* codes, GLOBAL const float* row_scales, Weights weights,
                                     GLOBAL const float* bias, GLOBAL float* out) {
  constexpr int INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::TWO_LEVEL && ROW_GROUP == INPUTS;
  int stored = tile.first_block() + here.block_x();
  int first_output = here.lane() % 4 * 4, four = here.lane() / 4;
  int64 sources[ROWS];  // among pieces
  for (int m = 0; m < ROWS; ++m)
    sources[m] = (int64)tile.source(tile.first_row + m) * Tile::PIECES + tile.piece();
  Sum sums[ROWS][4] = {};
#pragma unroll 4
  for (int span = here.warp(); span < INPUTS / SPAN; span += WARPS) {
    unsigned word[4];
    weights.fours(stored, span, four, first_output, word);
#pragma unroll
    for (int m = 0; m < ROWS; ++m) {
      if (tile.first_row + m >= tile.end_row) break;
      unsigned x = reinterpret_cast<GLOBAL const unsigned*>(codes + sources[m] * INPUTS)[span * (SPAN / 4) + four];
      int away = dot_bytes(0x01010101u, x, 0) * -Weights::ZERO;
      for (int j = 0; j < 4; ++j) {
        int product = dot_bytes(word[j], x, away);
        int group = span * SPAN / Weights::GROUP;
        if constexpr (Weights::TWO_LEVEL) product *= int(weights.factor_of(stored, group, first_output + j));
        if constexpr (IS_EXACT) {
          sums[m][j] += product;
        } else {
          float scale = row_scales[sources[m] * GROUPS + span * SPAN / ROW_GROUP];
          scale *= weights.scale_of(stored, group, first_output + j);
          sums[m][j] = fused_multiply_add(float(product), scale, sums[m][j]);
        }
      }
    }
  }
  for (int m = 0; m < ROWS; ++m)
    for (int j = 0; j < 4; ++j) {
      Sum sum = sums[m][j];
      for (int mask = 4; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
      if (here.lane() < 4) parts[here.warp()][m][first_output + j] = sum;
    }
  block_barrier();
  for (int i = here.thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int m = i / BLOCK, row = tile.first_row + m, output = here.block_x() * BLOCK + i % BLOCK;
    if (row >= tile.end_row || output >= OUTPUTS) continue;
    Sum sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][m][i % BLOCK];
    float result = float(sum);
    if constexpr (IS_EXACT) {
      int64 source = (int64)tile.source(row) * Tile::PIECES + tile.piece();
      result *= row_scales[source] * weights.scale_of(stored, 0, i % BLOCK);
    }
    if constexpr (HAS_BIAS) result += bias[stored * BLOCK + i % BLOCK];
    out[((int64)tile.target(row) * Tile::PIECES + tile.piece()) * OUTPUTS + output] = result;
  }
}

}  // namespace ingot
