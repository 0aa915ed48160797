// Causal attention over pages, for any mixture of prefill and decode.
//
// Keys lie [page, kv_head, offset, dim], values [page, kv_head, dim, offset]: neighbours of a row of either second
// factor of a tensor core's product are neighbours in memory.
#pragma once

namespace ingot {

constexpr float NEVER = -1e30f;  // a score that adds nothing, and no infinity, so that differences are numbers

struct Batch {
  const int* sequence_starts;
  const int* context_lengths;
  const int* page_table;
  int num_sequences, table_width;
};

// What attention is specialised to; see codegen/kernels/attention.py. WINDOW 0 and SOFT_CAP 0 are none.
template <int HEADS_, int KV_HEADS_, int DIM_, int VALUE_DIM_, int PAGE_SIZE_, int WINDOW_, bool HAS_SINKS_, bool HAS_SLOPES_>
struct AttentionShape {
  static constexpr int HEADS = HEADS_, KV_HEADS = KV_HEADS_, DIM = DIM_, VALUE_DIM = VALUE_DIM_;
  static constexpr int PAGE_SIZE = PAGE_SIZE_, WINDOW = WINDOW_, GROUP = HEADS / KV_HEADS;
  static constexpr bool HAS_SINKS = HAS_SINKS_, HAS_SLOPES = HAS_SLOPES_;
};

struct Scores {
  float scale, soft_cap;
  const float* slopes;
  const float* sinks;

  // The score of a key at position key for a query at position own; NEVER where it is not seen.
  template <class Shape>
  INGOT_DEVICE float of(float product, int head, int own, int key) const {
    if (key > own || (Shape::WINDOW && key <= own - Shape::WINDOW)) return NEVER;
    float score = product * scale;
    if (soft_cap > 0) score = hyperbolic_tangent(divide(score, soft_cap)) * soft_cap;
    if constexpr (Shape::HAS_SLOPES) score += slopes[head] * float(key - own);
    return score;
  }
};

// Write each token's keys and values to their slots.
template <int THREADS, class K, class V, class Element, int KV_HEADS, int DIM, int VALUE_DIM, int PAGE_SIZE>
INGOT_DEVICE void append(typename Element::Stored* keys, typename Element::Stored* values, const float* k, const float* v,
                         const int* slots) {
  int row = block_x(), page = slots[row] / PAGE_SIZE, offset = slots[row] % PAGE_SIZE;
  for (int i = thread_index(); i < KV_HEADS * DIM; i += THREADS) {
    long long head = (long long)page * KV_HEADS + i / DIM;
    keys[(head * PAGE_SIZE + offset) * DIM + i % DIM] = Element::narrow(K::at(k, row)[i]);
  }
  for (int i = thread_index(); i < KV_HEADS * VALUE_DIM; i += THREADS) {
    long long head = (long long)page * KV_HEADS + i / VALUE_DIM;
    values[(head * VALUE_DIM + i % VALUE_DIM) * PAGE_SIZE + offset] = Element::narrow(V::at(v, row)[i]);
  }
}

INGOT_DEVICE int sequence_of(const Batch& batch, int row) {
  int low = 0, high = batch.num_sequences - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (batch.sequence_starts[middle] <= row) low = middle;
    else high = middle - 1;
  }
  return low;
}

// In float32, a warp for a token's head: a lane has a key of 32 at a time, then an element of the values.
template <class Shape, class Element, class Q>
INGOT_DEVICE void attend(const float* q, const typename Element::Stored* keys, const typename Element::Stored* values,
                         Batch batch, Scores scores, float* out) {
  constexpr int PARTS = (Shape::VALUE_DIM + WARP - 1) / WARP;
  int row = block_x(), head = block_y(), kv_head = head / Shape::GROUP, lane = lane_index();
  int sequence = sequence_of(batch, row);
  int length = batch.context_lengths[sequence];
  int own = length - batch.sequence_starts[sequence + 1] + row;
  const int* pages = batch.page_table + (long long)sequence * batch.table_width;
  const float* query = Q::at(q, row) + head * Shape::DIM;
  INGOT_SHARED float weights[WARP];
  float most = NEVER, total = 0, result[PARTS] = {};
  if constexpr (Shape::HAS_SINKS) {
    most = scores.sinks[head];
    total = 1;
  }
  int first = Shape::WINDOW && own + 1 > Shape::WINDOW ? (own + 1 - Shape::WINDOW) / WARP * WARP : 0;
  for (int start = first; start <= own; start += WARP) {
    int key = start + lane;
    float product = 0;
    if (key <= own) {
      long long place = ((long long)pages[key / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head) * Shape::PAGE_SIZE;
      const auto* found = keys + (place + key % Shape::PAGE_SIZE) * Shape::DIM;
      for (int i = 0; i < Shape::DIM; ++i) product = fused_multiply_add(query[i], Element::widen(found[i]), product);
    }
    float score = scores.of<Shape>(product, head, own, key);
    float now = larger(most, largest_of_warp(score)), kept = exponential(most - now);
    float weight = score > NEVER ? exponential(score - now) : 0.0f;
    total = total * kept + sum_of_warp(weight);
    most = now;
    warp_barrier();
    weights[lane] = weight;
    warp_barrier();
    for (int part = 0; part < PARTS; ++part) {
      int element = part * WARP + lane;
      float sum = result[part] * kept;
      if (element < Shape::VALUE_DIM)
        for (int i = 0; i < WARP && start + i <= own; ++i) {
          int at = start + i;
          long long place = (long long)pages[at / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
          place = (place * Shape::VALUE_DIM + element) * Shape::PAGE_SIZE + at % Shape::PAGE_SIZE;
          sum = fused_multiply_add(weights[i], Element::widen(values[place]), sum);
        }
      result[part] = sum;
    }
  }
  for (int part = 0; part < PARTS; ++part) {
    int element = part * WARP + lane;
    if (element < Shape::VALUE_DIM)
      out[((long long)row * Shape::HEADS + head) * Shape::VALUE_DIM + element] = divide(result[part], total);
  }
}

// On tensor cores (FlashAttention's way: Dao, 2023; pieces of the context apart: Dao et al., 2023).
//
// A block takes 16 lines, a line being a head of a token, that share a KV head and a sequence, and PIECE keys of the
// context (0: all). Its warps take 16 keys in turn; what they found is joined at the end. Queries and weights are split
// into two halves, so that only the cache is of half width.
template <class Shape, class Element, class Q, int WARPS, int PIECE>
INGOT_DEVICE void attend_tiles(const float* q, const typename Element::Stored* keys,
                               const typename Element::Stored* values, Batch batch, Scores scores, float* out,
                               float* piece_sums, int num_rows) {
  constexpr int LINES = 16, HEADS_AT_ONCE = Shape::GROUP < LINES ? Shape::GROUP : LINES;
  constexpr int PARTS = (Shape::GROUP + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE, TOKENS = LINES / HEADS_AT_ONCE;
  constexpr int STEPS = (Shape::DIM + 15) / 16, COLUMNS = (Shape::VALUE_DIM + 7) / 8;
  INGOT_SHARED float joined[WARPS][LINES][COLUMNS * 8];
  INGOT_SHARED float most_of[WARPS][LINES], total_of[WARPS][LINES];
  int kv_head = block_y() / PARTS, first_head = block_y() % PARTS * HEADS_AT_ONCE;
  int group = lane_index() / 4, inside = lane_index() % 4;

  // The tile's sequence and first token: tiles are counted through the sequences.
  int sequence = 0, tile = block_x();
  for (; sequence < batch.num_sequences; ++sequence) {
    int tokens = batch.sequence_starts[sequence + 1] - batch.sequence_starts[sequence];
    int tiles = (tokens + TOKENS - 1) / TOKENS;
    if (tile < tiles) break;
    tile -= tiles;
  }
  if (sequence == batch.num_sequences) return;
  int first_row = batch.sequence_starts[sequence] + tile * TOKENS, end_row = batch.sequence_starts[sequence + 1];
  int before = batch.context_lengths[sequence] - end_row;  // a row's position is before + row
  int last_row = first_row + TOKENS < end_row ? first_row + TOKENS - 1 : end_row - 1;
  const int* pages = batch.page_table + (long long)sequence * batch.table_width;

  auto row_of = [&](int line) { return first_row + line / HEADS_AT_ONCE; };
  auto head_of = [&](int line) { return first_head + line % HEADS_AT_ONCE; };  // among its KV head's
  auto is_line = [&](int line) {
    return line < TOKENS * HEADS_AT_ONCE && row_of(line) < end_row && head_of(line) < Shape::GROUP;
  };

  int first_key = 0, end_key = before + last_row + 1;
  if (Shape::WINDOW && before + first_row + 1 > Shape::WINDOW) first_key = (before + first_row + 1 - Shape::WINDOW) / 16 * 16;
  if (PIECE) {
    int start = block_z() * PIECE;
    if (start > first_key) first_key = start;
    if (start + PIECE < end_key) end_key = start + PIECE;
  }

  unsigned high[STEPS][4], low[STEPS][4];
  for (int step = 0; step < STEPS; ++step)
    for (int i = 0; i < 4; ++i) {
      int line = group + i % 2 * 8, element = step * 16 + inside * 2 + i / 2 * 8;
      float pair[2] = {};
      for (int j = 0; j < 2; ++j)
        if (is_line(line) && element + j < Shape::DIM)
          pair[j] = Q::at(q, row_of(line))[(kv_head * Shape::GROUP + head_of(line)) * Shape::DIM + element + j];
      split_pair<Element>(pair[0], pair[1], high[step][i], low[step][i]);
    }

  float most[2] = {NEVER, NEVER}, total[2] = {}, result[COLUMNS][4] = {};
  for (int start = first_key + warp_index() * 16; start < end_key; start += WARPS * 16) {
    long long page = (long long)pages[start / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
    int offset = start % Shape::PAGE_SIZE;
    float tile_scores[2][4] = {};
    for (int half = 0; half < 2; ++half)
      for (int step = 0; step < STEPS; ++step) {
        unsigned b[2];
        for (int i = 0; i < 2; ++i) {
          int element = step * 16 + inside * 2 + i * 8;
          long long place = (page * Shape::PAGE_SIZE + offset + half * 8 + group) * Shape::DIM + element;
          b[i] = 0;
          if (Shape::DIM % 2 == 0 && element < Shape::DIM) b[i] = *reinterpret_cast<const unsigned*>(keys + place);
        }
        Element::multiply(tile_scores[half], low[step], b);
        Element::multiply(tile_scores[half], high[step], b);
      }
    for (int side = 0; side < 2; ++side) {
      int line = group + side * 8;
      float largest = NEVER;
      for (int half = 0; half < 2; ++half)
        for (int j = 0; j < 2; ++j) {
          int key = start + half * 8 + inside * 2 + j, own = is_line(line) ? before + row_of(line) : -1;
          float& score = tile_scores[half][side * 2 + j];
          score = key < end_key ? scores.of<Shape>(score, kv_head * Shape::GROUP + head_of(line), own, key) : NEVER;
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
    unsigned high_weights[4], low_weights[4];
    for (int i = 0; i < 4; ++i)
      split_pair<Element>(tile_scores[i / 2][i % 2 * 2], tile_scores[i / 2][i % 2 * 2 + 1], high_weights[i], low_weights[i]);
    for (int column = 0; column < COLUMNS; ++column) {
      unsigned b[2];
      for (int i = 0; i < 2; ++i) {
        int element = column * 8 + group, key = start + inside * 2 + i * 8;
        long long place = (page * Shape::VALUE_DIM + element) * Shape::PAGE_SIZE + offset + inside * 2 + i * 8;
        b[i] = 0;
        // What lies past the end was never written, and may be no number.
        if (element < Shape::VALUE_DIM && key < end_key) b[i] = *reinterpret_cast<const unsigned*>(values + place);
        if (key + 1 >= end_key) b[i] &= 0xffffu;
      }
      Element::multiply(result[column], low_weights, b);
      Element::multiply(result[column], high_weights, b);
    }
  }

  for (int side = 0; side < 2; ++side) {
    int line = group + side * 8;
    most_of[warp_index()][line] = most[side];
    total_of[warp_index()][line] = total[side];
    for (int column = 0; column < COLUMNS; ++column)
      for (int j = 0; j < 2; ++j) joined[warp_index()][line][column * 8 + inside * 2 + j] = result[column][side * 2 + j];
  }
  block_barrier();
  for (int i = thread_index(); i < LINES * Shape::VALUE_DIM; i += WARPS * WARP) {
    int line = i / Shape::VALUE_DIM, element = i % Shape::VALUE_DIM;
    if (!is_line(line)) continue;
    int head = kv_head * Shape::GROUP + head_of(line);
    float largest = Shape::HAS_SINKS && !PIECE ? scores.sinks[head] : NEVER, sum = 0, weight = 0;
    for (int warp = 0; warp < WARPS; ++warp) largest = larger(largest, most_of[warp][line]);
    for (int warp = 0; warp < WARPS; ++warp) {
      float kept = exponential(most_of[warp][line] - largest);
      sum = fused_multiply_add(joined[warp][line][element], kept, sum);
      weight = fused_multiply_add(total_of[warp][line], kept, weight);
    }
    long long place = (long long)row_of(line) * Shape::HEADS + head;
    if constexpr (PIECE != 0) {
      float* piece = piece_sums + (block_z() * (long long)num_rows * Shape::HEADS + place) * (Shape::VALUE_DIM + 2);
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

// Join what the pieces of a token's context gave, in their order. A block takes a token's head.
template <class Shape, int THREADS, int PIECE>
INGOT_DEVICE void join_pieces(const float* piece_sums, Batch batch, Scores scores, float* out, int num_rows) {
  int row = block_x(), head = block_y();
  int sequence = sequence_of(batch, row);
  int own = batch.context_lengths[sequence] - batch.sequence_starts[sequence + 1] + row;
  int pieces = own / PIECE + 1, first = 0;
  if (Shape::WINDOW && own + 1 > Shape::WINDOW) first = (own + 1 - Shape::WINDOW) / PIECE;
  long long place = (long long)row * Shape::HEADS + head;
  auto piece_at = [&](int piece) {
    return piece_sums + (piece * (long long)num_rows * Shape::HEADS + place) * (Shape::VALUE_DIM + 2);
  };
  float largest = Shape::HAS_SINKS ? scores.sinks[head] : NEVER;
  for (int piece = first; piece < pieces; ++piece) largest = larger(largest, piece_at(piece)[Shape::VALUE_DIM]);
  float weight = Shape::HAS_SINKS ? exponential(scores.sinks[head] - largest) : 0.0f;
  for (int piece = first; piece < pieces; ++piece) {
    const float* found = piece_at(piece);
    weight = fused_multiply_add(found[Shape::VALUE_DIM + 1], exponential(found[Shape::VALUE_DIM] - largest), weight);
  }
  for (int element = thread_index(); element < Shape::VALUE_DIM; element += THREADS) {
    float sum = 0;
    for (int piece = first; piece < pieces; ++piece)
      sum = fused_multiply_add(piece_at(piece)[element], exponential(piece_at(piece)[Shape::VALUE_DIM] - largest), sum);
    out[place * Shape::VALUE_DIM + element] = divide(sum, weight);
  }
}

}  // namespace ingot
