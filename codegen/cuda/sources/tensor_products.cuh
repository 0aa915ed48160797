// Many rows times weights on tensor cores.
#pragma once

namespace ingot {

// d[16, 8] += a[16, 16] b[16, 8] of numbers of half width.
template <class Type>
INGOT_DEVICE void multiply_tiles(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
template <>
INGOT_DEVICE void multiply_tiles<Float16>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_half(d, a, b);
}
template <>
INGOT_DEVICE void multiply_tiles<BFloat16>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_bfloat16(d, a, b);
}

// Two neighbours in a word, the first in the low half.
template <class Type>
INGOT_DEVICE unsigned pack_pair(float first, float second) {
  return unsigned(Type::narrow(first)) | unsigned(Type::narrow(second)) << 16;
}

// Two floats as the nearest pair, and what rounding took off as another: together they are nearly exact.
template <class Type>
INGOT_DEVICE void split_pair(float first, float second, unsigned& high, unsigned& low) {
  high = pack_pair<Type>(first, second);
  low = pack_pair<Type>(first - Type::widen(high & 0xffff), second - Type::widen(high >> 16));
}

// Two floats that bfloat16 holds, the first in the low half.
INGOT_DEVICE unsigned pack_exact(float first, float second) {
  return float_to_bits(first) >> 16 | (float_to_bits(second) & 0xffff0000u);
}

// A warp's tile of results: ROW_TILES times 16 rows of COLUMN_TILES times 8 outputs, to be written where they exist.
template <int ROW_TILES, int COLUMN_TILES, int OUTPUTS, bool HAS_BIAS, class Tile, class Value>
INGOT_DEVICE void write_tile(Here here, Tile tile, Value value, const float* bias, float* out, int first_block) {
#pragma unroll
  for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n)
      for (int i = 0; i < 4; ++i) {
        int row = tile.first_row + m * 16 + here.lane() / 4 + i / 2 * 8;
        int output = first_block * BLOCK + n * 8 + here.lane() % 4 * 2 + i % 2;
        if (row >= tile.end_row || output >= OUTPUTS) continue;
        float result = value(m, n, i, output);
        if constexpr (HAS_BIAS) result += bias[tile.first_block() * BLOCK + output];
        out[((int64)tile.target(row) * Tile::PIECES + tile.piece()) * OUTPUTS + output] = result;
      }
}

// Many rows of floats times weights of half width on tensor cores. Rows are split into two halves each, whose
// products are added, so that they lose 2^-16 and not 2^-8; where rows ARE_ROUNDED one product is exact.
// A warp takes 32 rows and two blocks of outputs; a block of WARPS warps as many blocks of outputs side by side.
template <int WARPS, int INPUTS, int OUTPUTS, class X, class Weights, bool HAS_BIAS, bool ARE_ROUNDED, class Tile>
INGOT_DEVICE void multiply_many(Here here, Tile tile, const float* x, Weights weights, const float* bias, float* out) {
  constexpr int ROW_TILES = 2, COLUMN_TILES = 4, STEP = 16;
  using Type = typename Weights::Element;
  int first_block = (here.block_x() * WARPS + here.warp()) * (COLUMN_TILES / 2);
  int group = here.lane() / 4, inside = here.lane() % 4;
  float sums[ROW_TILES][COLUMN_TILES][4] = {};
  int sources[ROW_TILES][2];
  for (int m = 0; m < ROW_TILES; ++m)
    for (int side = 0; side < 2; ++side) sources[m][side] = tile.source(tile.first_row + m * 16 + group + side * 8);
  auto pair_of = [&](int m, int side, int input, unsigned& high, unsigned& low) {
    float first = 0, second = 0;
    if (tile.first_row + m * 16 + group + side * 8 < tile.end_row) {
      const float* own = X::at(x, sources[m][side]) + tile.piece() * INPUTS;
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
        pair_of(m, i % 2, start + inside * 2 + i / 2 * 8, high[m][i], low[m][i]);
    for (int n = 0; n < COLUMN_TILES; ++n) {
      int block = first_block + n / 2, output = n % 2 * 8 + group;
      unsigned b[2] = {};
      for (int half = 0; half < 2; ++half) {
        int input = start + inside * 2 + half * 8;
        if (block * BLOCK < OUTPUTS && input < INPUTS) b[half] = weights.pair(tile.first_block() + block, input, output);
      }
      for (int m = 0; m < ROW_TILES; ++m) {
        if constexpr (!ARE_ROUNDED) multiply_tiles<Type>(sums[m][n], low[m], b);
        multiply_tiles<Type>(sums[m][n], high[m], b);
      }
    }
  }
  write_tile<ROW_TILES, COLUMN_TILES, OUTPUTS, HAS_BIAS>(
      here, tile, [&](int m, int n, int i, int) { return sums[m][n][i]; }, bias, out, first_block);
}

// Many rows of floats times weights in a format: codes become bfloat16, exactly or in two halves as rows do, and a
// group's products are scaled together. Inputs are multiplied in an order in which a lane has four neighbours.
template <int WARPS, int OUTPUTS, class X, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_many_decoded(
    Here here, Tile tile, const float* x, Weights weights, const float* bias, float* out) {
  using Kind = typename Weights::Kind;
  constexpr int ROW_TILES = 2, COLUMN_TILES = 4, INPUTS = Weights::INPUTS, STEP = 16;
  constexpr int SCALED = Weights::GROUP % SPAN == 0 || Weights::GROUP == INPUTS ? SPAN : STEP;
  constexpr unsigned ONES = 0x3f803f80;
  int first_block = (here.block_x() * WARPS + here.warp()) * (COLUMN_TILES / 2);
  int group = here.lane() / 4, inside = here.lane() % 4;
  int sources[ROW_TILES][2];
  for (int m = 0; m < ROW_TILES; ++m)
    for (int side = 0; side < 2; ++side) sources[m][side] = tile.source(tile.first_row + m * 16 + group + side * 8);
  float sums[ROW_TILES][COLUMN_TILES][4] = {};
  for (int start = 0; start < INPUTS; start += SCALED) {
    unsigned high[SCALED / STEP][ROW_TILES][4], low[SCALED / STEP][ROW_TILES][4];
    float row_sums[ROW_TILES][4] = {};
    for (int step = 0; step < SCALED / STEP; ++step)
      for (int m = 0; m < ROW_TILES; ++m) {
        for (int i = 0; i < 4; ++i) {
          int input = start + step * STEP + inside * 4 + i / 2 * 2;
          bool is_row = tile.first_row + m * 16 + group + i % 2 * 8 < tile.end_row;
          const float* own = X::at(x, sources[m][i % 2]) + tile.piece() * INPUTS + input;
          float pair[2] = {};
          for (int e = 0; e < 2; ++e)
            if (is_row && (INPUTS % SCALED == 0 || input + e < INPUTS)) pair[e] = own[e];
          split_pair<BFloat16>(pair[0], pair[1], high[step][m][i], low[step][m][i]);
        }
        if constexpr (Weights::HAS_OFFSETS) {
          const unsigned ones[2] = {ONES, ONES};
          multiply_bfloat16(row_sums[m], low[step][m], ones);
          multiply_bfloat16(row_sums[m], high[step][m], ones);
        }
      }
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n) {
      int block = tile.first_block() + first_block + n / 2, output = n % 2 * 8 + group;
      if ((first_block + n / 2) * BLOCK >= OUTPUTS) break;
      float products[ROW_TILES][4] = {};
#pragma unroll
      for (int step = 0; step < SCALED / STEP; ++step) {
        int input = start + step * STEP;
        unsigned codes = weights.four(block, input / SPAN, input % SPAN / 4 + inside, output);
        unsigned b[2], rest[2];
        for (int half = 0; half < 2; ++half)
          split_pair<BFloat16>(Kind::value(codes >> 16 * half & 255), Kind::value(codes >> (16 * half + 8) & 255),
                               b[half], rest[half]);
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) {
          if constexpr (!Kind::IS_HALF) multiply_bfloat16(products[m], high[step][m], rest);
          multiply_bfloat16(products[m], low[step][m], b);
          multiply_bfloat16(products[m], high[step][m], b);
        }
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        int column = n % 2 * 8 + inside * 2 + j;
        float scale = weights.scales.at(block, start, column), zero = weights.zero_of(block, start, column);
        for (int m = 0; m < ROW_TILES; ++m)
          for (int side = 0; side < 2; ++side) {
            int i = side * 2 + j;
            sums[m][n][i] = fused_multiply_add(products[m][i], scale, sums[m][n][i]);
            if constexpr (Weights::HAS_OFFSETS)
              sums[m][n][i] = fused_multiply_add(row_sums[m][i], zero, sums[m][n][i]);
          }
      }
    }
  }
  write_tile<ROW_TILES, COLUMN_TILES, OUTPUTS, HAS_BIAS>(
      here, tile, [&](int m, int n, int i, int) { return sums[m][n][i]; }, bias, out, first_block);
}

// Many rows of codes on tensor cores: a span of 32 inputs is one product of theirs, or two where groups are of 16.
// Where scales are of groups their sums are scaled apart; where rows of either are whole numbers times one scale, once
// at the end. What offsets need, the sums of rows' codes, are products with ones.
template <int WARPS, int OUTPUTS, int ROW_GROUP, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_many_codes(Here here, Tile tile, const signed char* codes, const float* row_scales,
                                      Weights weights, const float* bias, float* out) {
  constexpr int ROW_TILES = 2, COLUMN_TILES = 4, INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::IS_WHOLE && ROW_GROUP == INPUTS;
  constexpr int PARTS = IS_EXACT || Weights::GROUP % SPAN == 0 ? 1 : 2;  // of a span, which have their own scales
  int first_block = (here.block_x() * WARPS + here.warp()) * (COLUMN_TILES / 2);
  int group = here.lane() / 4, inside = here.lane() % 4;
  int64 sources[ROW_TILES][2];  // among pieces
  for (int m = 0; m < ROW_TILES; ++m)
    for (int side = 0; side < 2; ++side) {
      int row = tile.first_row + m * 16 + group + side * 8;
      sources[m][side] = (int64)tile.source(row) * Tile::PIECES + tile.piece();
    }
  int whole[ROW_TILES][COLUMN_TILES][4] = {}, row_sums[ROW_TILES][PARTS][4] = {};
  float sums[ROW_TILES][COLUMN_TILES][4] = {};
  for (int span = 0; span < INPUTS / SPAN; ++span) {
    unsigned a[ROW_TILES][4];
    for (int m = 0; m < ROW_TILES; ++m)
      for (int i = 0; i < 4; ++i) {
        const unsigned* own = reinterpret_cast<const unsigned*>(codes + sources[m][i % 2] * INPUTS + span * SPAN);
        a[m][i] = tile.first_row + m * 16 + group + i % 2 * 8 < tile.end_row ? own[inside + i / 2 * 4] : 0;
      }
    if constexpr (Weights::HAS_OFFSETS) {
      for (int m = 0; m < ROW_TILES; ++m)
        for (int part = 0; part < PARTS; ++part) {
          constexpr unsigned ONES = 0x01010101;
          const unsigned ones[2] = {part == 0 ? ONES : 0, part == PARTS - 1 ? ONES : 0};
          for (int i = 0; i < 4; ++i) row_sums[m][part][i] *= IS_EXACT;
          multiply_int8(row_sums[m][part], a[m], ones);
        }
    }
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n) {
      int block = tile.first_block() + first_block + n / 2, output = n % 2 * 8 + group;
      if ((first_block + n / 2) * BLOCK >= OUTPUTS) break;
      unsigned b[2];
      for (int half = 0; half < 2; ++half) b[half] = weights.signed_four(block, span, half * 4 + inside, output);
      if constexpr (IS_EXACT) {
        for (int m = 0; m < ROW_TILES; ++m) multiply_int8(whole[m][n], a[m], b);
      }
#pragma unroll
      for (int part = 0; part < (IS_EXACT ? 0 : PARTS); ++part) {
        const unsigned own[2] = {part == 0 ? b[0] : 0, part == PARTS - 1 ? b[1] : 0};
        int products[ROW_TILES][4] = {}, input = span * SPAN + part * 16;
        for (int m = 0; m < ROW_TILES; ++m) multiply_int8(products[m], a[m], own);
        for (int j = 0; j < 2; ++j) {
          int column = n % 2 * 8 + inside * 2 + j;
          float scale = weights.scales.at(block, input, column), zero = weights.zero_of(block, input, column);
          for (int m = 0; m < ROW_TILES; ++m)
            for (int side = 0; side < 2; ++side) {
              int i = side * 2 + j;
              if (tile.first_row + m * 16 + group + side * 8 >= tile.end_row) continue;
              float row_scale = row_scales[sources[m][side] * GROUPS + span * SPAN / ROW_GROUP];
              float value = float(products[m][i]) * scale;
              if constexpr (Weights::HAS_OFFSETS) value = fused_multiply_add(float(row_sums[m][part][i]), zero, value);
              sums[m][n][i] = fused_multiply_add(value, row_scale, sums[m][n][i]);
            }
        }
      }
    }
  }
  write_tile<ROW_TILES, COLUMN_TILES, OUTPUTS, HAS_BIAS>(
      here, tile, [&](int m, int n, int i, int output) {
        if constexpr (!IS_EXACT) return sums[m][n][i];
        int block = tile.first_block() + output / BLOCK;
        float sum = float(whole[m][n][i]), row_scale = row_scales[sources[m][i / 2]];
        return weights.of_sums(block, output % BLOCK, sum, row_sums[m][0][i], row_scale);
      },
      bias, out, first_block);
}

}  // namespace ingot
