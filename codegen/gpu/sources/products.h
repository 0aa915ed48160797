// Few rows times weights: bound by reading the weights.
#pragma once

namespace ingot {

// Few rows of floats. A block of WARPS warps takes 16 outputs and ROWS rows; each warp every WARPS-th sixteen inputs.
// A lane has four outputs and two of the sixteen.
template <int WARPS, int ROWS, int INPUTS, int OUTPUTS, class X, class Weights, bool HAS_BIAS>
INGOT_DEVICE void multiply_few(Here here, SHARED float (&parts)[WARPS][ROWS][BLOCK], GLOBAL const float* x,
                               Weights weights, GLOBAL const float* bias, GLOBAL float* out, int num_rows) {
  int block = here.block_x(), first_row = here.block_y() * ROWS;
  int first_output = here.lane() % 4 * 4, first_input = here.lane() / 4 * 2;
  float sums[ROWS][4] = {};
#pragma unroll 4
  for (int input = here.warp() * 16 + first_input; input < INPUTS; input += WARPS * 16) {
    float weight[4], next_weight[4];
    bool has_next = INPUTS % 2 == 0 || input + 1 < INPUTS;
    if (has_next) {
      weights.eight(block, input, first_output, weight, next_weight);
    } else {
      for (int j = 0; j < 4; ++j) weight[j] = weights.at(block, input, first_output + j), next_weight[j] = 0;
    }
#pragma unroll
    for (int m = 0; m < ROWS; ++m) {
      if (first_row + m >= num_rows) break;
      GLOBAL const float* own = X::at(x, first_row + m) + input;
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
    int m = i / BLOCK, output = block * BLOCK + i % BLOCK;
    float sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][m][i % BLOCK];
    if constexpr (HAS_BIAS) sum += bias[output];
    if (first_row + m < num_rows && output < OUTPUTS) out[(int64)(first_row + m) * OUTPUTS + output] = sum;
  }
}

// Few rows of int8 codes with scales for ROW_GROUP elements. A block takes 16 outputs, a warp every WARPS-th span,
// a lane four outputs and one four of inputs. With scales in two levels, and one for a row, sums are whole numbers,
// so exact: Sum is int then, and else float.
template <int WARPS, int ROWS, int OUTPUTS, int ROW_GROUP, class Sum, class Weights, bool HAS_BIAS>
INGOT_DEVICE void multiply_few_codes(Here here, SHARED Sum (&parts)[WARPS][ROWS][BLOCK], GLOBAL const signed char* codes,
                                     GLOBAL const float* row_scales, Weights weights, GLOBAL const float* bias,
                                     GLOBAL float* out, int num_rows) {
  constexpr int INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::TWO_LEVEL && ROW_GROUP == INPUTS;
  int block = here.block_x(), first_row = here.block_y() * ROWS;
  int first_output = here.lane() % 4 * 4, four = here.lane() / 4;
  Sum sums[ROWS][4] = {};
#pragma unroll 4
  for (int span = here.warp(); span < INPUTS / SPAN; span += WARPS) {
    unsigned word[4];
    weights.fours(block, span, four, first_output, word);
#pragma unroll
    for (int m = 0; m < ROWS; ++m) {
      int row = first_row + m;
      if (row >= num_rows) break;
      unsigned x = reinterpret_cast<GLOBAL const unsigned*>(codes + (int64)row * INPUTS)[span * (SPAN / 4) + four];
      int away = dot_bytes(0x01010101u, x, 0) * -Weights::ZERO;
      for (int j = 0; j < 4; ++j) {
        int product = dot_bytes(word[j], x, away);
        int group = span * SPAN / Weights::GROUP;
        if constexpr (Weights::TWO_LEVEL) product *= int(weights.factor_of(block, group, first_output + j));
        if constexpr (IS_EXACT) {
          sums[m][j] += product;
        } else {
          float scale = row_scales[(int64)row * GROUPS + span * SPAN / ROW_GROUP];
          scale *= weights.scale_of(block, group, first_output + j);
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
    int m = i / BLOCK, row = first_row + m, output = block * BLOCK + i % BLOCK;
    if (row >= num_rows || output >= OUTPUTS) continue;
    Sum sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][m][i % BLOCK];
    float result = float(sum);
    if constexpr (IS_EXACT) result *= row_scales[row] * weights.scale_of(block, 0, i % BLOCK);
    if constexpr (HAS_BIAS) result += bias[output];
    out[(int64)row * OUTPUTS + output] = result;
  }
}

}  // namespace ingot
