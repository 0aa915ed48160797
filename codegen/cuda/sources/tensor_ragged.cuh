// Attention within whole sequences on tensor cores.
#pragma once

namespace ingot {

// Rows of DIM columns of KEYS tokens in shared memory, as bfloat16 and what that took off as another: 16 bytes more a
// row keep the rows of a matrix in other banks.
template <int KEYS, int DIM>
struct SplitRows {
  CONSTANT int WIDTH = (DIM + 15) / 16 * 16, ROW = WIDTH / 8 + 1;
  using Words = uint4[2][KEYS][ROW];

  template <int THREADS, class View>
  static INGOT_DEVICE void load(Here here, Words& into, const float* rows, int begin, int start, int length, int head) {
    for (int i = here.thread_index(); i < KEYS * (WIDTH / 4); i += THREADS) {
      int key = i / (WIDTH / 4), column = i % (WIDTH / 4) * 4;
      float4 value = start + key < length ? four_of<View, DIM>(rows, begin + start + key, head, column) : four_zeros();
      uint2 high, low;
      split_pair<BFloat16>(value.x, value.y, high.x, low.x);
      split_pair<BFloat16>(value.z, value.w, high.y, low.y);
      reinterpret_cast<uint2*>(into[0][key])[column / 4] = high;
      reinterpret_cast<uint2*>(into[1][key])[column / 4] = low;
    }
  }
  // Where a lane finds its row of four matrices of eight rows and columns: two of either half, side by side, or
  // BELOW each other.
  template <bool BELOW>
  static INGOT_DEVICE const unsigned char* matrix_row(Here here, const Words& words, int key, int column) {
    int matrix = here.lane() / 8, second = matrix % 2 * 8;
    int row = key + here.lane() % 8 + (BELOW ? second : 0), first = column + (BELOW ? 0 : second);
    return reinterpret_cast<const unsigned char*>(words[matrix / 2][row]) + first * 2;
  }
};

// Adds the product of two factors in halves, but for that of both lower halves; b has the higher one's words first.
INGOT_DEVICE void multiply_split(float (&d)[4], const unsigned (&high)[4], const unsigned (&low)[4],
                                 const unsigned (&b)[4]) {
  const unsigned upper[2] = {b[0], b[1]}, lower[2] = {b[2], b[3]};
  multiply_bfloat16(d, high, lower);
  multiply_bfloat16(d, low, upper);
  multiply_bfloat16(d, high, upper);
}

// (FlashAttention's way: Dao, 2023.) A block takes a head of 16 tokens a warp, and KEYS keys and values at a time.
template <int WARPS, int KEYS, class Shape, class Q, class K, class V>
INGOT_DEVICE void attend_whole_tiles(Here here, typename SplitRows<KEYS, Shape::DIM>::Words& key_rows,
                                     typename SplitRows<KEYS, Shape::DIM>::Words& value_rows, const float* q,
                                     const float* k, const float* v, const int* sequence_starts, int num_sequences,
                                     float scale, float* out) {
  using Tiles = SplitRows<KEYS, Shape::DIM>;
  constexpr int THREADS = WARPS * WARP, STEPS = Tiles::WIDTH / 16, COLUMNS = Tiles::WIDTH / 8, DIM = Shape::DIM;
  static_assert(Shape::QUERIES == WARPS * 16, "a warp takes 16 tokens");
  int head = here.block_y(), kv_head = head / Shape::GROUP, group = here.lane() / 4, inside = here.lane() % 4;
  Tile tile = tile_of<Shape::QUERIES>(sequence_starts, num_sequences, here.block_x());
  if (tile.sequence == num_sequences) return;
  int begin = sequence_starts[tile.sequence], length = sequence_starts[tile.sequence + 1] - begin;
  int first = tile.number * Shape::QUERIES;
  int last = first + Shape::QUERIES < length ? first + Shape::QUERIES - 1 : length - 1;
  int own = first + here.warp() * 16 + group;  // and eight further

  unsigned high[STEPS][4], low[STEPS][4];
#pragma unroll
  for (int step = 0; step < STEPS; ++step)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int line = own + i % 2 * 8, element = step * 16 + inside * 2 + i / 2 * 8;
      float pair[2] = {};
      for (int j = 0; j < 2; ++j)
        if (line <= last && element + j < DIM) pair[j] = Q::at(q, begin + line)[head * DIM + element + j];
      split_pair<BFloat16>(pair[0], pair[1], high[step][i], low[step][i]);
    }

  int start = 0, end = Shape::CAUSAL ? last + 1 : length;
  if (Shape::WINDOW && first + 1 > Shape::WINDOW) start = (first + 1 - Shape::WINDOW) / KEYS * KEYS;
  if (Shape::WINDOW && last + Shape::WINDOW < end) end = last + Shape::WINDOW;
  float most[2] = {NEVER, NEVER}, total[2] = {}, result[COLUMNS][4] = {};
  for (; start < end; start += KEYS) {
    block_barrier();
    Tiles::template load<THREADS, K>(here, key_rows, k, begin, start, length, kv_head);
    Tiles::template load<THREADS, V>(here, value_rows, v, begin, start, length, kv_head);
    block_barrier();
    float scores[KEYS / 8][4] = {};
#pragma unroll
    for (int eight = 0; eight < KEYS / 8; ++eight)
#pragma unroll
      for (int step = 0; step < STEPS; ++step) {
        unsigned b[4];
        load_matrices(b, Tiles::template matrix_row<false>(here, key_rows, eight * 8, step * 16));
        multiply_split(scores[eight], high[step], low[step], b);
      }
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      float largest = NEVER;
#pragma unroll
      for (int eight = 0; eight < KEYS / 8; ++eight)
        for (int j = 0; j < 2; ++j) {
          float& score = scores[eight][side * 2 + j];
          bool is_seen = Shape::sees(own + side * 8, start + eight * 8 + inside * 2 + j, length);
          score = is_seen ? score * scale : NEVER;
          largest = larger(largest, score);
        }
      largest = larger(largest, shuffle_xor(largest, 1));
      largest = larger(largest, shuffle_xor(largest, 2));
      float now = larger(most[side], largest), kept = exponential(most[side] - now), sum = 0;
#pragma unroll
      for (int eight = 0; eight < KEYS / 8; ++eight)
        for (int j = 0; j < 2; ++j) {
          float& score = scores[eight][side * 2 + j];
          score = score > NEVER ? exponential(score - now) : 0.0f;
          sum += score;
        }
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      total[side] = total[side] * kept + sum;
      most[side] = now;
#pragma unroll
      for (int column = 0; column < COLUMNS; ++column)
        for (int j = 0; j < 2; ++j) result[column][side * 2 + j] *= kept;
    }
#pragma unroll
    for (int step = 0; step < KEYS / 16; ++step) {
      unsigned high_weights[4], low_weights[4];
      for (int i = 0; i < 4; ++i) {
        const float* pair = &scores[step * 2 + i / 2][i % 2 * 2];
        split_pair<BFloat16>(pair[0], pair[1], high_weights[i], low_weights[i]);
      }
#pragma unroll
      for (int column = 0; column < COLUMNS; ++column) {
        unsigned b[4];
        load_turned_matrices(b, Tiles::template matrix_row<true>(here, value_rows, step * 16, column * 8));
        multiply_split(result[column], high_weights, low_weights, b);
      }
    }
  }
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    int line = own + side * 8;
    if (line > last) continue;
#pragma unroll
    for (int column = 0; column < COLUMNS; ++column)
      for (int j = 0; j < 2; ++j) {
        int element = column * 8 + inside * 2 + j;
        if (element < DIM)
          out[((int64)(begin + line) * Shape::HEADS + head) * DIM + element] =
              divide(result[column][side * 2 + j], total[side]);
      }
  }
}

}  // namespace ingot
