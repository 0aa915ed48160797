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

// A warp's tile of results: ROW_TILES times 16 rows of COLUMN_TILES times 8 outputs, to be written where they exist.
template <int ROW_TILES, int COLUMN_TILES, int OUTPUTS, bool HAS_BIAS, class Tile, class Value>
INGOT_DEVICE void write_tile(Here here, Tile tile, Value value, const float* bias, float* out, int first_block) {
  for (int m = 0; m < ROW_TILES; ++m)
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

// Many rows of codes on tensor cores: a span of 32 inputs is one product of theirs. Where scales are of groups the
// sums of each span are scaled apart; with scales in two levels and one a row, once at the end.
template <int WARPS, int OUTPUTS, int ROW_GROUP, class Weights, bool HAS_BIAS, class Tile>
INGOT_DEVICE void multiply_many_codes(Here here, Tile tile, const signed char* codes, const float* row_scales,
                                      Weights weights, const float* bias, float* out) {
  constexpr int ROW_TILES = 2, COLUMN_TILES = 4, INPUTS = Weights::INPUTS, GROUPS = INPUTS / ROW_GROUP;
  constexpr bool IS_EXACT = Weights::TWO_LEVEL && ROW_GROUP == INPUTS;
  int first_block = (here.block_x() * WARPS + here.warp()) * (COLUMN_TILES / 2);
  int group = here.lane() / 4, inside = here.lane() % 4;
  int64 sources[ROW_TILES][2];  // among pieces
  for (int m = 0; m < ROW_TILES; ++m)
    for (int side = 0; side < 2; ++side) {
      int row = tile.first_row + m * 16 + group + side * 8;
      sources[m][side] = (int64)tile.source(row) * Tile::PIECES + tile.piece();
    }
  int whole[ROW_TILES][COLUMN_TILES][4] = {};
  float sums[ROW_TILES][COLUMN_TILES][4] = {};
  for (int span = 0; span < INPUTS / SPAN; ++span) {
    unsigned a[ROW_TILES][4];
    for (int m = 0; m < ROW_TILES; ++m)
      for (int i = 0; i < 4; ++i) {
        const unsigned* own = reinterpret_cast<const unsigned*>(codes + sources[m][i % 2] * INPUTS + span * SPAN);
        a[m][i] = tile.first_row + m * 16 + group + i % 2 * 8 < tile.end_row ? own[inside + i / 2 * 4] : 0;
      }
    for (int n = 0; n < COLUMN_TILES; ++n) {
      int block = tile.first_block() + first_block + n / 2, output = n % 2 * 8 + group;
      if ((first_block + n / 2) * BLOCK >= OUTPUTS) break;
      unsigned b[2];
      for (int half = 0; half < 2; ++half) b[half] = weights.signed_four(block, span, half * 4 + inside, output);
      for (int m = 0; m < ROW_TILES; ++m) {
        if constexpr (IS_EXACT) {
          multiply_int8(whole[m][n], a[m], b);
        } else {
          int products[4] = {};
          multiply_int8(products, a[m], b);
          for (int i = 0; i < 4; ++i) {
            if (tile.first_row + m * 16 + group + i / 2 * 8 >= tile.end_row) continue;
            float scale = row_scales[sources[m][i / 2] * GROUPS + span * SPAN / ROW_GROUP];
            scale *= weights.scale_of(block, span * SPAN / Weights::GROUP, n % 2 * 8 + inside * 2 + i % 2);
            sums[m][n][i] = fused_multiply_add(float(products[i]), scale, sums[m][n][i]);
          }
        }
      }
    }
  }
  write_tile<ROW_TILES, COLUMN_TILES, OUTPUTS, HAS_BIAS>(
      here, tile, [&](int m, int n, int i, int output) {
        if constexpr (!IS_EXACT) return sums[m][n][i];
        float scale = weights.scale_of(tile.first_block() + output / BLOCK, 0, output % BLOCK);
        return float(whole[m][n][i]) * (row_scales[sources[m][i / 2]] * scale);
      },
      bias, out, first_block);
}

}  // namespace ingot
