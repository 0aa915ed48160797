// Attention on matrices of simdgroups (FlashAttention's way: Dao, 2023; pieces of the context apart: Dao et al., 2023).
#pragma once

namespace ingot {

// How attention is cut: a threadgroup of four simdgroups takes LINES lines, a line being a head of a token, that share a
// KV head and a sequence, and KEYS keys at a time. Both are multiples of 8; a lane scores a key of a line.
template <class Shape, int LINES_, int KEYS_>
struct AttentionTile {
  CONSTANT int LINES = LINES_, KEYS = KEYS_, WARPS = 4, THREADS = WARPS * WARP;
  CONSTANT int DIM = (Shape::DIM + SIDE - 1) / SIDE * SIDE, VALUE_DIM = (Shape::VALUE_DIM + SIDE - 1) / SIDE * SIDE;
  // Rows in shared memory are four elements longer than what they hold, so that they begin in different banks.
  CONSTANT int QUERY_STRIDE = DIM + 4, KEY_STRIDE = KEYS + 4, RESULT_STRIDE = VALUE_DIM + 4;
  CONSTANT int QUERY_FLOATS = LINES * QUERY_STRIDE, SCORE_FLOATS = LINES * KEY_STRIDE;
  // Keys, then values, and results at the end lie in one place.
  CONSTANT int KEY_FLOATS = KEYS * QUERY_STRIDE, VALUE_FLOATS = VALUE_DIM * KEY_STRIDE;
  CONSTANT int RESULT_FLOATS = LINES * RESULT_STRIDE;
  CONSTANT int CACHE_FLOATS = KEY_FLOATS > VALUE_FLOATS
                                  ? (KEY_FLOATS > RESULT_FLOATS ? KEY_FLOATS : RESULT_FLOATS)
                                  : (VALUE_FLOATS > RESULT_FLOATS ? VALUE_FLOATS : RESULT_FLOATS);
  CONSTANT int COLUMNS = (VALUE_DIM / SIDE + WARPS - 1) / WARPS;  // matrices of results side by side of a simdgroup
  CONSTANT int HEADS_AT_ONCE = Shape::GROUP < LINES ? Shape::GROUP : LINES;
  CONSTANT int PARTS = (Shape::GROUP + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE, TOKENS = LINES / HEADS_AT_ONCE;

  int first_row, end_row;  // of its sequence
  int before;              // a row's position is before + row
  int first_head;          // among its KV head's

  INGOT_DEVICE int row_of(int line) const { return first_row + line / HEADS_AT_ONCE; }
  INGOT_DEVICE int head_of(int line) const { return first_head + line % HEADS_AT_ONCE; }
  INGOT_DEVICE bool has(int line) const {
    return line < TOKENS * HEADS_AT_ONCE && row_of(line) < end_row && head_of(line) < Shape::GROUP;
  }
};

// Four neighbouring elements of a key, zero behind the last; and an element of the values at four neighbouring offsets
// of a page. Floats that lie well are read at once.
template <int DIM, class Keys>
INGOT_DEVICE void read_key(Keys keys, int64 head, int offset, int element, OWN float (&four)[4]) {
  for (int i = 0; i < 4; ++i) four[i] = element + i < DIM ? keys.at(head, offset, element + i) : 0.0f;
}
template <int DIM, class Element, int PAGE_SIZE>
INGOT_DEVICE void read_key(
    FloatKeys<Element, DIM, PAGE_SIZE> keys, int64 head, int offset, int element, OWN float (&four)[4]) {
  if constexpr (DIM % 4 == 0) {
    typename Element::Stored found[4];
    load_four(keys.stored + (head * PAGE_SIZE + offset) * DIM + element, found);
    for (int i = 0; i < 4; ++i) four[i] = Element::widen(found[i]);
  } else {
    for (int i = 0; i < 4; ++i) four[i] = element + i < DIM ? keys.at(head, offset, element + i) : 0.0f;
  }
}
template <class Values>
INGOT_DEVICE void read_values(Values values, int64 head, int offset, int element, OWN float (&four)[4]) {
  for (int i = 0; i < 4; ++i) four[i] = values.at(head, offset + i, element);
}
template <class Element, int DIM, int PAGE_SIZE>
INGOT_DEVICE void read_values(
    FloatValues<Element, DIM, PAGE_SIZE> values, int64 head, int offset, int element, OWN float (&four)[4]) {
  typename Element::Stored found[4];
  load_four(values.stored + (head * DIM + element) * PAGE_SIZE + offset, found);
  for (int i = 0; i < 4; ++i) four[i] = Element::widen(found[i]);
}

// What is found is written to out, or with PIECE keys of the context for each block to piece_sums, which join_pieces
// joins. All is float32 from where the cache was read.
template <class Tile, class Shape, class Keys, class Values, class Q, int PIECE>
INGOT_DEVICE void attend_tiles(Here here, SHARED float (&queries)[Tile::QUERY_FLOATS],
                               SHARED float (&cache)[Tile::CACHE_FLOATS], SHARED float (&weights)[Tile::SCORE_FLOATS],
                               SHARED float (&kept)[Tile::LINES][SIDE], SHARED float (&ends)[Tile::LINES][2],
                               GLOBAL const float* q, Keys keys, Values values, Batch batch, Scores scores,
                               GLOBAL float* out, GLOBAL float* piece_sums, int num_rows) {
  constexpr int LINES = Tile::LINES, KEYS = Tile::KEYS, WARPS = Tile::WARPS, THREADS = Tile::THREADS;
  constexpr int ROW_TILES = LINES / SIDE, COLUMNS = Tile::COLUMNS, EACH = LINES / WARPS;
  using Matrix = metal::simdgroup_matrix<float, SIDE, SIDE>;
  int kv_head = here.block_y() / Tile::PARTS, warp = here.warp(), lane = here.lane();

  auto found = tile_of<Tile::TOKENS>(batch.sequence_starts, batch.num_sequences, here.block_x());
  int sequence = found.sequence;
  if (sequence == batch.num_sequences) return;
  Tile tile;
  tile.first_row = batch.sequence_starts[sequence] + found.number * Tile::TOKENS;
  tile.end_row = batch.sequence_starts[sequence + 1];
  tile.before = batch.context_lengths[sequence] - tile.end_row;
  tile.first_head = here.block_y() % Tile::PARTS * Tile::HEADS_AT_ONCE;
  int last_row = tile.first_row + Tile::TOKENS < tile.end_row ? tile.first_row + Tile::TOKENS - 1 : tile.end_row - 1;
  GLOBAL const int* pages = batch.page_table + (int64)sequence * batch.table_width;

  int first_key = 0, end_key = tile.before + last_row + 1, first_own = tile.before + tile.first_row;
  if (Shape::WINDOW && first_own + 1 > Shape::WINDOW) first_key = (first_own + 1 - Shape::WINDOW) / KEYS * KEYS;
  if (PIECE) {
    int start = here.block_z() * PIECE;
    if (start > first_key) first_key = start;
    if (start + PIECE < end_key) end_key = start + PIECE;
    if (first_key >= end_key) return;
  }

  for (int i = here.thread_index(); i < LINES * Tile::DIM; i += THREADS) {
    int line = i / Tile::DIM, element = i % Tile::DIM;
    float value = 0;
    if (tile.has(line) && element < Shape::DIM)
      value = Q::at(q, tile.row_of(line))[(kv_head * Shape::GROUP + tile.head_of(line)) * Shape::DIM + element];
    queries[line * Tile::QUERY_STRIDE + element] = value;
  }
  for (int i = here.thread_index(); i < LINES * SIDE; i += THREADS) kept[i / SIDE][i % SIDE] = 0;

  float most[EACH], total[EACH];
  for (int each = 0; each < EACH; ++each) most[each] = NEVER, total[each] = 0;
  Matrix results[ROW_TILES][COLUMNS];
  for (int m = 0; m < ROW_TILES; ++m)
    for (int column = 0; column < COLUMNS; ++column)
      results[m][column] = metal::make_filled_simdgroup_matrix<float, SIDE, SIDE>(0.0f);

  for (int start = first_key; start < end_key; start += KEYS) {
    block_barrier();
    for (int i = here.thread_index(); i < KEYS * (Tile::DIM / 4); i += THREADS) {
      int row = i / (Tile::DIM / 4), key = start + row, element = i % (Tile::DIM / 4) * 4;
      float four[4] = {};
      // What lies past the end was never written, and may be no number.
      if (key < end_key && element < Shape::DIM) {
        int64 head = (int64)pages[key / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
        read_key<Shape::DIM>(keys, head, key % Shape::PAGE_SIZE, element, four);
      }
      for (int j = 0; j < 4; ++j) cache[row * Tile::QUERY_STRIDE + element + j] = four[j];
    }
    block_barrier();
    for (int i = warp; i < ROW_TILES * (KEYS / SIDE); i += WARPS) {
      int line = i / (KEYS / SIDE) * SIDE, key = i % (KEYS / SIDE) * SIDE;
      Matrix sum = metal::make_filled_simdgroup_matrix<float, SIDE, SIDE>(0.0f);
      for (int element = 0; element < Tile::DIM; element += SIDE) {
        Matrix a, b;
        metal::simdgroup_load(a, &queries[line * Tile::QUERY_STRIDE + element], Tile::QUERY_STRIDE);
        metal::simdgroup_load(
            b, &cache[key * Tile::QUERY_STRIDE + element], Tile::QUERY_STRIDE, metal::vec<ulong, 2>(0), true);
        metal::simdgroup_multiply_accumulate(sum, a, b, sum);
      }
      metal::simdgroup_store(sum, &weights[line * Tile::KEY_STRIDE + key], Tile::KEY_STRIDE);
    }
    block_barrier();
    // Each simdgroup has some lines of its own, and a lane of it a key.
    for (int each = 0; each < EACH; ++each) {
      int line = warp + each * WARPS, key = start + lane;
      float score = NEVER;
      if (lane < KEYS && key < end_key && tile.has(line)) {
        int head = kv_head * Shape::GROUP + tile.head_of(line);
        score = scores.template of<Shape>(
            weights[line * Tile::KEY_STRIDE + lane], head, tile.before + tile.row_of(line), key);
      }
      float now = larger(most[each], largest_of_warp(score)), before = exponential(most[each] - now);
      float weight = score > NEVER ? exponential(score - now) : 0.0f;
      total[each] = total[each] * before + sum_of_warp(weight);
      most[each] = now;
      if (lane < KEYS) weights[line * Tile::KEY_STRIDE + lane] = weight;
      if (lane == 0) kept[line][line % SIDE] = before;
    }
    static_assert(Shape::PAGE_SIZE % 4 == 0, "four keys from a multiple of four on lie in one page");
    for (int i = here.thread_index(); i < Tile::VALUE_DIM * (KEYS / 4); i += THREADS) {
      int element = i / (KEYS / 4), column = i % (KEYS / 4) * 4, key = start + column;
      float four[4] = {};
      if (key < end_key && element < Shape::VALUE_DIM) {
        int64 head = (int64)pages[key / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
        read_values(values, head, key % Shape::PAGE_SIZE, element, four);
      }
      for (int j = 0; j < 4; ++j) cache[element * Tile::KEY_STRIDE + column + j] = key + j < end_key ? four[j] : 0.0f;
    }
    block_barrier();
    // A matrix with what is kept on its diagonal scales rows, whoever holds them.
    for (int column = 0; column < COLUMNS; ++column) {
      int element = (warp + column * WARPS) * SIDE;
      if (element >= Tile::VALUE_DIM) break;
      for (int m = 0; m < ROW_TILES; ++m) {
        Matrix scale, scaled = metal::make_filled_simdgroup_matrix<float, SIDE, SIDE>(0.0f);
        metal::simdgroup_load(scale, &kept[m * SIDE][0], SIDE);
        metal::simdgroup_multiply_accumulate(scaled, scale, results[m][column], scaled);
        results[m][column] = scaled;
      }
      for (int key = 0; key < KEYS; key += SIDE) {
        Matrix b;
        metal::simdgroup_load(
            b, &cache[element * Tile::KEY_STRIDE + key], Tile::KEY_STRIDE, metal::vec<ulong, 2>(0), true);
        for (int m = 0; m < ROW_TILES; ++m) {
          Matrix a;
          metal::simdgroup_load(a, &weights[m * SIDE * Tile::KEY_STRIDE + key], Tile::KEY_STRIDE);
          metal::simdgroup_multiply_accumulate(results[m][column], a, b, results[m][column]);
        }
      }
    }
  }

  block_barrier();
  for (int column = 0; column < COLUMNS; ++column) {
    int element = (warp + column * WARPS) * SIDE;
    if (element >= Tile::VALUE_DIM) break;
    for (int m = 0; m < ROW_TILES; ++m)
      metal::simdgroup_store(
          results[m][column], &cache[m * SIDE * Tile::RESULT_STRIDE + element], Tile::RESULT_STRIDE);
  }
  for (int each = 0; each < EACH; ++each)
    if (lane == 0) {
      ends[warp + each * WARPS][0] = most[each];
      ends[warp + each * WARPS][1] = total[each];
    }
  block_barrier();
  for (int i = here.thread_index(); i < LINES * Shape::VALUE_DIM; i += THREADS) {
    int line = i / Shape::VALUE_DIM, element = i % Shape::VALUE_DIM;
    if (!tile.has(line)) continue;
    int head = kv_head * Shape::GROUP + tile.head_of(line);
    int64 place = (int64)tile.row_of(line) * Shape::HEADS + head;
    float sum = cache[line * Tile::RESULT_STRIDE + element], largest = ends[line][0], weight = ends[line][1];
    if constexpr (PIECE != 0) {
      GLOBAL float* piece = piece_sums + (here.block_z() * (int64)num_rows * Shape::HEADS + place) * (Shape::VALUE_DIM + 2);
      piece[element] = sum;
      if (element == 0) {
        piece[Shape::VALUE_DIM] = largest;
        piece[Shape::VALUE_DIM + 1] = weight;
      }
    } else {
      if constexpr (Shape::HAS_SINKS) {
        float now = larger(largest, scores.sinks[head]), before = exponential(largest - now);
        weight = fused_multiply_add(weight, before, exponential(scores.sinks[head] - now));
        sum *= before;
      }
      out[place * Shape::VALUE_DIM + element] = divide(sum, weight);
    }
  }
}

}  // namespace ingot
