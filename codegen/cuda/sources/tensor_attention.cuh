// Attention on tensor cores.
#pragma once

namespace ingot {

// A tile's keys in the order in which a lane has four neighbours of its scores, and so of what weighs values: column
// `column` of the product's half `half` is the key of this number.
INGOT_DEVICE int key_of(int half, int column) { return column / 2 * 4 + half * 2 + column % 2; }

// What attention on tensor cores does with 16 keys and values of floats from an offset of a head's page on. Elements
// of queries are in an order in which a lane has four neighbours, too.
template <class Shape, class Element>
struct FloatTiles {
  using Number = Element;
  CONSTANT int STEPS = (Shape::DIM + 15) / 16, COLUMNS = (Shape::VALUE_DIM + 7) / 8;
  CONSTANT bool IS_WIDE = Shape::DIM % 32 == 0;  // a lane has eight neighbours, for two steps
  const typename Element::Stored* keys;
  const typename Element::Stored* values;

  // Which element of a query is the first of word i of a step.
  static INGOT_DEVICE int element_of(int step, int inside, int i) {
    if constexpr (IS_WIDE) return step / 2 * 32 + inside * 8 + step % 2 * 4 + i / 2 * 2;
    return step * 16 + inside * 4 + i / 2 * 2;
  }
  // Adds products of queries in two halves.
  INGOT_DEVICE void score(float (&scores)[2][4], const unsigned (&high)[STEPS][4], const unsigned (&low)[STEPS][4],
                          int64 head, int offset, int group, int inside) const {
    for (int half = 0; half < 2; ++half) {
      const unsigned* key =
          reinterpret_cast<const unsigned*>(keys + (head * Shape::PAGE_SIZE + offset + key_of(half, group)) * Shape::DIM);
      uint4 eight;
      for (int step = 0; step < STEPS; ++step) {
        int element = element_of(step, inside, 0);
        unsigned b[2] = {};
        if constexpr (IS_WIDE) {
          if (step % 2 == 0) eight = *reinterpret_cast<const uint4*>(key + element / 2);
          b[0] = step % 2 ? eight.z : eight.x, b[1] = step % 2 ? eight.w : eight.y;
        } else if constexpr (Shape::DIM % 4 == 0) {
          if (element < Shape::DIM) {
            uint2 four = *reinterpret_cast<const uint2*>(key + element / 2);
            b[0] = four.x, b[1] = four.y;
          }
        } else {
          for (int i = 0; i < 2; ++i)
            if (element + i * 2 < Shape::DIM) b[i] = key[element / 2 + i];
        }
        multiply_tiles<Element>(scores[half], low[step], b);
        multiply_tiles<Element>(scores[half], high[step], b);
      }
    }
  }

  // Adds values, of the first num_keys that are there, by weights laid as scores are.
  INGOT_DEVICE void weigh(float (&result)[COLUMNS][4], const float (&weights)[2][4], int64 head, int offset,
                          int num_keys, int group, int inside) const {
    unsigned high[4], low[4];
    for (int i = 0; i < 4; ++i) split_pair<Element>(weights[i / 2][i % 2 * 2], weights[i / 2][i % 2 * 2 + 1], high[i], low[i]);
    for (int column = 0; column < COLUMNS; ++column) {
      int element = column * 8 + group;
      unsigned b[2] = {};
      if (element < Shape::VALUE_DIM) {
        int64 place = (head * Shape::VALUE_DIM + element) * Shape::PAGE_SIZE + offset + inside * 4;
        uint2 four = *reinterpret_cast<const uint2*>(values + place);
        b[0] = four.x, b[1] = four.y;
      }
      // What lies past the end was never written, and may be no number.
      for (int i = 0; i < 2; ++i) {
        int key = inside * 4 + i * 2;
        if (key >= num_keys) b[i] = 0;
        if (key + 1 >= num_keys) b[i] &= 0xffffu;
      }
      multiply_tiles<Element>(result[column], low, b);
      multiply_tiles<Element>(result[column], high, b);
    }
  }
};

// On tensor cores (FlashAttention's way: Dao, 2023; pieces of the context apart: Dao et al., 2023).
//
// A warp has 16 lines at a time, a line being a head of a token, and all lines of a block share a KV head and a sequence.
// Of a block's PIECE keys of the context (0: all) its warps take 16 in turn; what they found is joined at the end. But
// where a sequence has many tokens each warp has lines of its own and goes through all their keys, which are read once
// for the block's warps as long as they are in the first cache. Queries and weights are split into two halves, so that
// only the cache, which is a type as FloatTiles, is of half width or less.
template <class Shape, class Cache, class Q, int WARPS, int PIECE>
INGOT_DEVICE void attend_tiles(Here here, float (&joined)[WARPS][16][(Shape::VALUE_DIM + 7) / 8 * 8],
                               float (&most_of)[WARPS][16], float (&total_of)[WARPS][16], const float* q,
                               Cache cache, Batch batch, Scores scores, float* out, float* piece_sums, int num_rows) {
  constexpr int LINES = 16, HEADS_AT_ONCE = Shape::GROUP < LINES ? Shape::GROUP : LINES;
  constexpr int PARTS = (Shape::GROUP + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE, TOKENS = LINES / HEADS_AT_ONCE;
  constexpr int STEPS = (Shape::DIM + 15) / 16, COLUMNS = (Shape::VALUE_DIM + 7) / 8;
  constexpr int MOST_TOKENS = PIECE ? TOKENS : TOKENS * WARPS;
  int kv_head = here.block_y() / PARTS, first_head = here.block_y() % PARTS * HEADS_AT_ONCE;
  int group = here.lane() / 4, inside = here.lane() % 4;

  // The tile's sequence and first token: tiles are counted through the sequences.
  int sequence = 0, tile = here.block_x();
  for (; sequence < batch.num_sequences; ++sequence) {
    int tokens = batch.sequence_starts[sequence + 1] - batch.sequence_starts[sequence];
    int tiles = (tokens + MOST_TOKENS - 1) / MOST_TOKENS;
    if (tile < tiles) break;
    tile -= tiles;
  }
  if (sequence == batch.num_sequences) return;
  int first_of_block = batch.sequence_starts[sequence] + tile * MOST_TOKENS;
  int end_row = batch.sequence_starts[sequence + 1];
  bool are_apart = !PIECE && end_row - first_of_block > TOKENS;
  int first_row = are_apart ? first_of_block + here.warp() * TOKENS : first_of_block;
  int before = batch.context_lengths[sequence] - end_row;  // a row's position is before + row
  int last_row = first_row + TOKENS < end_row ? first_row + TOKENS - 1 : end_row - 1;
  const int* pages = batch.page_table + (int64)sequence * batch.table_width;

  auto row_of = [&](int line) { return first_row + line / HEADS_AT_ONCE; };
  auto head_of = [&](int line) { return first_head + line % HEADS_AT_ONCE; };  // among its KV head's
  auto is_line = [&](int line) {
    return line < TOKENS * HEADS_AT_ONCE && row_of(line) < end_row && head_of(line) < Shape::GROUP;
  };

  int first_key = 0, end_key = before + last_row + 1;
  if (Shape::WINDOW && before + first_row + 1 > Shape::WINDOW) first_key = (before + first_row + 1 - Shape::WINDOW) / 16 * 16;
  if (first_row >= end_row) first_key = end_key = 0;
  if (PIECE) {
    int start = here.block_z() * PIECE;
    if (start > first_key) first_key = start;
    if (start + PIECE < end_key) end_key = start + PIECE;
  }

  unsigned high[STEPS][4], low[STEPS][4];
  for (int step = 0; step < STEPS; ++step)
    for (int i = 0; i < 4; ++i) {
      int line = group + i % 2 * 8, element = Cache::element_of(step, inside, i);
      float pair[2] = {};
      for (int j = 0; j < 2; ++j)
        if (is_line(line) && element + j < Shape::DIM)
          pair[j] = Q::at(q, row_of(line))[(kv_head * Shape::GROUP + head_of(line)) * Shape::DIM + element + j];
      split_pair<typename Cache::Number>(pair[0], pair[1], high[step][i], low[step][i]);
    }

  float most[2] = {NEVER, NEVER}, total[2] = {}, result[COLUMNS][4] = {};
  int own_keys = are_apart ? 0 : here.warp() * 16, next_keys = are_apart ? 16 : WARPS * 16;
  for (int start = first_key + own_keys; start < end_key; start += next_keys) {
    int64 page = (int64)pages[start / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
    int offset = start % Shape::PAGE_SIZE;
    float tile_scores[2][4] = {};
    cache.score(tile_scores, high, low, page, offset, group, inside);
    for (int side = 0; side < 2; ++side) {
      int line = group + side * 8;
      float largest = NEVER;
      for (int half = 0; half < 2; ++half)
        for (int j = 0; j < 2; ++j) {
          int key = start + key_of(half, inside * 2 + j), own = is_line(line) ? before + row_of(line) : -1;
          float& score = tile_scores[half][side * 2 + j];
          score = key < end_key ? scores.template of<Shape>(score, kv_head * Shape::GROUP + head_of(line), own, key) : NEVER;
          largest = larger(largest, score);
        }
      largest = larger(largest, shuffle_xor(largest, 1));
      largest = larger(largest, shuffle_xor(largest, 2));
      float now = larger(most[side], largest), kept = exponential(most[side] - now), sum = 0;
      for (int half = 0; half < 2; ++half)
        for (int j = 0; j < 2; ++j) {
          float& score = tile_scores[half][side * 2 + j];
          score = score > NEVER ? exponential(score - now) : 0.0f;
          sum += score;
        }
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      total[side] = total[side] * kept + sum;
      most[side] = now;
      for (int column = 0; column < COLUMNS; ++column)
        for (int j = 0; j < 2; ++j) result[column][side * 2 + j] *= kept;
    }
    cache.weigh(result, tile_scores, page, offset, end_key - start, group, inside);
  }

  for (int side = 0; side < 2; ++side) {
    int line = group + side * 8;
    most_of[here.warp()][line] = most[side];
    total_of[here.warp()][line] = total[side];
    for (int column = 0; column < COLUMNS; ++column)
      for (int j = 0; j < 2; ++j) joined[here.warp()][line][column * 8 + inside * 2 + j] = result[column][side * 2 + j];
  }
  block_barrier();
  int num_results = (are_apart ? WARPS : 1) * LINES * Shape::VALUE_DIM;
  for (int i = here.thread_index(); i < num_results; i += WARPS * WARP) {
    int line = i / Shape::VALUE_DIM % LINES, element = i % Shape::VALUE_DIM, owner = i / (LINES * Shape::VALUE_DIM);
    int first_warp = are_apart ? owner : 0, end_warp = are_apart ? owner + 1 : WARPS;
    first_row = first_of_block + owner * TOKENS;  // whose lines are asked for now
    if (!is_line(line)) continue;
    int head = kv_head * Shape::GROUP + head_of(line);
    float largest = Shape::HAS_SINKS && !PIECE ? scores.sinks[head] : NEVER, sum = 0, weight = 0;
    for (int warp = first_warp; warp < end_warp; ++warp) largest = larger(largest, most_of[warp][line]);
    for (int warp = first_warp; warp < end_warp; ++warp) {
      float kept = exponential(most_of[warp][line] - largest);
      sum = fused_multiply_add(joined[warp][line][element], kept, sum);
      weight = fused_multiply_add(total_of[warp][line], kept, weight);
    }
    int64 place = (int64)row_of(line) * Shape::HEADS + head;
    if constexpr (PIECE != 0) {
      float* piece = piece_sums + (here.block_z() * (int64)num_rows * Shape::HEADS + place) * (Shape::VALUE_DIM + 2);
      piece[element] = sum;
      if (element == 0) {
        piece[Shape::VALUE_DIM] = largest;
        piece[Shape::VALUE_DIM + 1] = weight;
      }
    } else {
      if (Shape::HAS_SINKS) weight += exponential(scores.sinks[head] - largest);
      out[place * Shape::VALUE_DIM + element] = divide(sum, weight);
    }
  }
}

}  // namespace ingot
