// Rows times weights: for few rows by the bandwidth of memory, for many on tensor cores.
#pragma once

namespace ingot {

// Few rows of floats. A block of WARPS warps takes 16 outputs and ROWS rows; each warp every WARPS-th sixteen inputs.
// A lane has four outputs and two of the sixteen.
template <int WARPS, int ROWS, int INPUTS, int OUTPUTS, class X, class Weights, bool HAS_BIAS>
INGOT_DEVICE void multiply_few(const float* x, Weights weights, const float* bias, float* out, int num_rows) {
  INGOT_SHARED float parts[WARPS][ROWS][BLOCK];
  int block = block_x(), first_row = block_y() * ROWS;
  int first_output = lane_index() % 4 * 4, first_input = lane_index() / 4 * 2;
  float sums[ROWS][4] = {};
#pragma unroll 4
  for (int input = warp_index() * 16 + first_input; input < INPUTS; input += WARPS * 16) {
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
      const float* own = X::at(x, first_row + m) + input;
      float value = own[0], next = has_next ? own[1] : 0.0f;
      for (int j = 0; j < 4; ++j)
        sums[m][j] = fused_multiply_add(next, next_weight[j], fused_multiply_add(value, weight[j], sums[m][j]));
    }
  }
  for (int m = 0; m < ROWS; ++m)
    for (int j = 0; j < 4; ++j) {
      float sum = sums[m][j];
      for (int mask = 4; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
      if (lane_index() < 4) parts[warp_index()][m][first_output + j] = sum;
    }
  block_barrier();
  for (int i = thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int m = i / BLOCK, output = block * BLOCK + i % BLOCK;
    float sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][m][i % BLOCK];
    if constexpr (HAS_BIAS) sum += bias[output];
    if (first_row + m < num_rows && output < OUTPUTS) out[(long long)(first_row + m) * OUTPUTS + output] = sum;
  }
}

// Few rows of int8 codes with scales for ROW_GROUP elements. A block takes 16 outputs, a warp every WARPS-th span,
// a lane four outputs and one four of inputs. With scales in two levels the sums are whole numbers, so exact.
template <int WARPS, int ROWS, int OUTPUTS, int ROW_GROUP, class Weights, bool HAS_BIAS>
INGOT_DEVICE void multiply_few_codes(const signed char* codes, const float* row_scales, Weights weights,
                                     const float* bias, float* out, int num_rows) {
  constexpr int INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::TWO_LEVEL && ROW_GROUP == INPUTS;
  INGOT_SHARED float parts[WARPS][ROWS][BLOCK];
  INGOT_SHARED int whole_parts[WARPS][ROWS][BLOCK];
  int block = block_x(), first_row = block_y() * ROWS;
  int first_output = lane_index() % 4 * 4, four = lane_index() / 4;
  float sums[ROWS][4] = {};
  int whole[ROWS][4] = {};
#pragma unroll 4
  for (int span = warp_index(); span < INPUTS / SPAN; span += WARPS) {
    unsigned word[4];
    weights.fours(block, span, four, first_output, word);
#pragma unroll
    for (int m = 0; m < ROWS; ++m) {
      int row = first_row + m;
      if (row >= num_rows) break;
      unsigned x = reinterpret_cast<const unsigned*>(codes + (long long)row * INPUTS)[span * (SPAN / 4) + four];
      int away = dot_bytes(0x01010101u, x, 0) * -Weights::ZERO;
      for (int j = 0; j < 4; ++j) {
        int product = dot_bytes(word[j], x, away);
        int group = span * SPAN / Weights::GROUP;
        if constexpr (Weights::TWO_LEVEL) product *= int(weights.factor_of(block, group, first_output + j));
        if constexpr (IS_EXACT) {
          whole[m][j] += product;
        } else {
          float scale = row_scales[(long long)row * GROUPS + span * SPAN / ROW_GROUP];
          scale *= weights.scale_of(block, group, first_output + j);
          sums[m][j] = fused_multiply_add(float(product), scale, sums[m][j]);
        }
      }
    }
  }
  for (int m = 0; m < ROWS; ++m)
    for (int j = 0; j < 4; ++j) {
      float sum = sums[m][j];
      int whole_sum = whole[m][j];
      for (int mask = 4; mask < WARP; mask *= 2) {
        if constexpr (IS_EXACT) whole_sum += shuffle_xor(whole_sum, mask);
        else sum += shuffle_xor(sum, mask);
      }
      if (lane_index() < 4) {
        if constexpr (IS_EXACT) whole_parts[warp_index()][m][first_output + j] = whole_sum;
        else parts[warp_index()][m][first_output + j] = sum;
      }
    }
  block_barrier();
  for (int i = thread_index(); i < ROWS * BLOCK; i += WARPS * WARP) {
    int m = i / BLOCK, row = first_row + m, output = block * BLOCK + i % BLOCK;
    if (row >= num_rows || output >= OUTPUTS) continue;
    float sum = 0;
    if constexpr (IS_EXACT) {
      int total = 0;
      for (int warp = 0; warp < WARPS; ++warp) total += whole_parts[warp][m][i % BLOCK];
      sum = float(total) * (row_scales[row] * weights.scale_of(block, 0, i % BLOCK));
    } else {
      for (int warp = 0; warp < WARPS; ++warp) sum += parts[warp][m][i % BLOCK];
    }
    if constexpr (HAS_BIAS) sum += bias[output];
    out[(long long)row * OUTPUTS + output] = sum;
  }
}

// A warp's tile of results: ROW_TILES times 16 rows of COLUMN_TILES times 8 outputs, to be written where they exist.
template <int ROW_TILES, int COLUMN_TILES, int OUTPUTS, bool HAS_BIAS, class Value>
INGOT_DEVICE void write_tile(Value value, const float* bias, float* out, int first_row, int first_output, int num_rows) {
  for (int m = 0; m < ROW_TILES; ++m)
    for (int n = 0; n < COLUMN_TILES; ++n)
      for (int i = 0; i < 4; ++i) {
        int row = first_row + m * 16 + lane_index() / 4 + i / 2 * 8;
        int output = first_output + n * 8 + lane_index() % 4 * 2 + i % 2;
        if (row >= num_rows || output >= OUTPUTS) continue;
        float result = value(m, n, i, row, output);
        if constexpr (HAS_BIAS) result += bias[output];
        out[(long long)row * OUTPUTS + output] = result;
      }
}

// Many rows of floats times weights of half width on tensor cores. Rows are split into two halves each, whose
// products are added, so that they lose 2^-16 and not 2^-8; where rows ARE_ROUNDED one product is exact.
// A warp takes 32 rows and two blocks of outputs; a block of WARPS warps as many blocks of outputs side by side.
template <int WARPS, int INPUTS, int OUTPUTS, class X, class Weights, bool HAS_BIAS, bool ARE_ROUNDED>
INGOT_DEVICE void multiply_many(const float* x, Weights weights, const float* bias, float* out, int num_rows) {
  constexpr int ROW_TILES = 2, COLUMN_TILES = 4, STEP = 16;
  using Type = typename Weights::Element;
  int first_row = block_y() * ROW_TILES * 16;
  int first_block = (block_x() * WARPS + warp_index()) * (COLUMN_TILES / 2);
  int group = lane_index() / 4, inside = lane_index() % 4;
  float sums[ROW_TILES][COLUMN_TILES][4] = {};
  auto pair_of = [&](int row, int input, unsigned& high, unsigned& low) {
    float first = 0, second = 0;
    if (row < num_rows) {
      const float* own = X::at(x, row);
      if (input < INPUTS) first = own[input];
      if (input + 1 < INPUTS) second = own[input + 1];
    }
    if constexpr (ARE_ROUNDED) high = pack_pair<Type>(first, second);
    else split_pair<Type>(first, second, high, low);
  };
  for (int start = 0; start < INPUTS; start += STEP) {
    unsigned high[ROW_TILES][4], low[ROW_TILES][4];
    for (int m = 0; m < ROW_TILES; ++m)
      for (int i = 0; i < 4; ++i)
        pair_of(first_row + m * 16 + group + i % 2 * 8, start + inside * 2 + i / 2 * 8, high[m][i], low[m][i]);
    for (int n = 0; n < COLUMN_TILES; ++n) {
      int block = first_block + n / 2, output = n % 2 * 8 + group;
      unsigned b[2] = {};
      for (int half = 0; half < 2; ++half) {
        int input = start + inside * 2 + half * 8;
        if (block * BLOCK < OUTPUTS && input < INPUTS) b[half] = weights.pair(block, input, output);
      }
      for (int m = 0; m < ROW_TILES; ++m) {
        if constexpr (!ARE_ROUNDED) Type::multiply(sums[m][n], low[m], b);
        Type::multiply(sums[m][n], high[m], b);
      }
    }
  }
  write_tile<ROW_TILES, COLUMN_TILES, OUTPUTS, HAS_BIAS>(
      [&](int m, int n, int i, int, int) { return sums[m][n][i]; }, bias, out, first_row, first_block * BLOCK, num_rows);
}

// Many rows of codes on tensor cores: a span of 32 inputs is one product of theirs. Where scales are of groups the
// sums of each span are scaled apart; with scales in two levels and one a row, once at the end.
template <int WARPS, int OUTPUTS, int ROW_GROUP, class Weights, bool HAS_BIAS>
INGOT_DEVICE void multiply_many_codes(const signed char* codes, const float* row_scales, Weights weights,
                                      const float* bias, float* out, int num_rows) {
  constexpr int ROW_TILES = 2, COLUMN_TILES = 4, INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::TWO_LEVEL && ROW_GROUP == INPUTS;
  int first_row = block_y() * ROW_TILES * 16;
  int first_block = (block_x() * WARPS + warp_index()) * (COLUMN_TILES / 2);
  int group = lane_index() / 4, inside = lane_index() % 4;
  int whole[ROW_TILES][COLUMN_TILES][4] = {};
  float sums[ROW_TILES][COLUMN_TILES][4] = {};
  for (int span = 0; span < INPUTS / SPAN; ++span) {
    unsigned a[ROW_TILES][4];
    for (int m = 0; m < ROW_TILES; ++m)
      for (int i = 0; i < 4; ++i) {
        int row = first_row + m * 16 + group + i % 2 * 8;
        const unsigned* own = reinterpret_cast<const unsigned*>(codes + (long long)row * INPUTS + span * SPAN);
        a[m][i] = row < num_rows ? own[inside + i / 2 * 4] : 0;
      }
    for (int n = 0; n < COLUMN_TILES; ++n) {
      int block = first_block + n / 2, output = n % 2 * 8 + group;
      if (block * BLOCK >= OUTPUTS) break;
      unsigned b[2];
      for (int half = 0; half < 2; ++half) b[half] = weights.signed_four(block, span, half * 4 + inside, output);
      for (int m = 0; m < ROW_TILES; ++m) {
        if constexpr (IS_EXACT) {
          multiply_int8(whole[m][n], a[m], b);
        } else {
          int products[4] = {};
          multiply_int8(products, a[m], b);
          for (int i = 0; i < 4; ++i) {
            int row = first_row + m * 16 + group + i / 2 * 8;
            if (row >= num_rows) continue;
            float scale = row_scales[(long long)row * GROUPS + span * SPAN / ROW_GROUP];
            scale *= weights.scale_of(block, span * SPAN / Weights::GROUP, n % 2 * 8 + inside * 2 + i % 2);
            sums[m][n][i] = fused_multiply_add(float(products[i]), scale, sums[m][n][i]);
          }
        }
      }
    }
  }
  write_tile<ROW_TILES, COLUMN_TILES, OUTPUTS, HAS_BIAS>(
      [&](int m, int n, int i, int row, int output) {
        if constexpr (!IS_EXACT) return sums[m][n][i];
        return float(whole[m][n][i]) * (row_scales[row] * weights.scale_of(output / BLOCK, 0, output % BLOCK));
      },
      bias, out, first_row, first_block * BLOCK, num_rows);
}

}  // namespace ingot
