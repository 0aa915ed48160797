// Causal attention over pages, for any mixture of prefill and decode.
#pragma once

namespace ingot {

CONSTANT float NEVER = -1e30f;  // a score that adds nothing, and no infinity, so that differences are numbers

struct Batch {
  GLOBAL const int* sequence_starts;
  GLOBAL const int* context_lengths;
  GLOBAL const int* page_table;
  int num_sequences, table_width;
};

// What attention is specialised to; see codegen/kernels/attention.py. WINDOW 0 and SOFT_CAP 0 are none.
template <int HEADS_, int KV_HEADS_, int DIM_, int VALUE_DIM_, int PAGE_SIZE_, int WINDOW_, bool HAS_SINKS_, bool HAS_SLOPES_>
struct AttentionShape {
  CONSTANT int HEADS = HEADS_, KV_HEADS = KV_HEADS_, DIM = DIM_, VALUE_DIM = VALUE_DIM_;
  CONSTANT int PAGE_SIZE = PAGE_SIZE_, WINDOW = WINDOW_, GROUP = HEADS / KV_HEADS;
  CONSTANT bool HAS_SINKS = HAS_SINKS_, HAS_SLOPES = HAS_SLOPES_;
};

struct Scores {
  float scale, soft_cap;
  OWN const float* slopes;
  GLOBAL const float* sinks;

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

INGOT_DEVICE int sequence_of(Batch batch, int row) {
  int low = 0, high = batch.num_sequences - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (batch.sequence_starts[middle] <= row) low = middle;
    else high = middle - 1;
  }
  return low;
}

// Tokens of one sequence that a block takes.
struct Tile {
  int sequence, number;
};

// The tile of a number. A sequence's have numbers from that of its first row / TOKENS, and of sequences before it, on;
// there are as many, or one more, which is empty: its sequence is num_sequences.
template <int TOKENS>
INGOT_DEVICE Tile tile_of(GLOBAL const int* sequence_starts, int num_sequences, int number) {
  int low = 0, high = num_sequences - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (sequence_starts[middle] / TOKENS + middle <= number) low = middle;
    else high = middle - 1;
  }
  Tile tile;
  tile.number = number - sequence_starts[low] / TOKENS - low;
  bool is_there = tile.number * TOKENS < sequence_starts[low + 1] - sequence_starts[low];
  tile.sequence = is_there ? low : num_sequences;
  return tile;
}

// In float32, a warp for a token's head: a lane has a key of 32 at a time, then an element of the values.
template <class Shape, class Keys, class Values, class Q>
INGOT_DEVICE void attend(Here here, SHARED float (&weights)[WARP], GLOBAL const float* q, Keys keys, Values values,
                         Batch batch, Scores scores, GLOBAL float* out) {
  constexpr int PARTS = (Shape::VALUE_DIM + WARP - 1) / WARP;
  int row = here.block_x(), head = here.block_y(), kv_head = head / Shape::GROUP, lane = here.lane();
  int sequence = sequence_of(batch, row);
  int length = batch.context_lengths[sequence];
  int own = length - batch.sequence_starts[sequence + 1] + row;
  GLOBAL const int* pages = batch.page_table + (int64)sequence * batch.table_width;
  GLOBAL const float* query = Q::at(q, row) + head * Shape::DIM;
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
      int64 place = (int64)pages[key / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
      product = keys.product(query, place, key % Shape::PAGE_SIZE);
    }
    float score = scores.template of<Shape>(product, head, own, key);
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
          int64 place = (int64)pages[at / Shape::PAGE_SIZE] * Shape::KV_HEADS + kv_head;
          sum = fused_multiply_add(weights[i], values.at(place, at % Shape::PAGE_SIZE, element), sum);
        }
      result[part] = sum;
    }
  }
  for (int part = 0; part < PARTS; ++part) {
    int element = part * WARP + lane;
    if (element < Shape::VALUE_DIM)
      out[((int64)row * Shape::HEADS + head) * Shape::VALUE_DIM + element] = divide(result[part], total);
  }
}

// Join what the pieces of a token's context gave, in their order. A block takes a token's head.
template <class Shape, int THREADS, int PIECE>
INGOT_DEVICE void join_pieces(
    Here here, GLOBAL const float* piece_sums, Batch batch, Scores scores, GLOBAL float* out, int num_rows) {
  int row = here.block_x(), head = here.block_y();
  int sequence = sequence_of(batch, row);
  int own = batch.context_lengths[sequence] - batch.sequence_starts[sequence + 1] + row;
  int pieces = own / PIECE + 1, first = 0;
  if (Shape::WINDOW && own + 1 > Shape::WINDOW) first = (own + 1 - Shape::WINDOW) / PIECE;
  int64 place = (int64)row * Shape::HEADS + head;
  GLOBAL const float* line = piece_sums + place * (Shape::VALUE_DIM + 2);
  int64 stride = (int64)num_rows * Shape::HEADS * (Shape::VALUE_DIM + 2);
  float largest = Shape::HAS_SINKS ? scores.sinks[head] : NEVER;
  for (int piece = first; piece < pieces; ++piece) largest = larger(largest, line[piece * stride + Shape::VALUE_DIM]);
  float weight = Shape::HAS_SINKS ? exponential(scores.sinks[head] - largest) : 0.0f;
  for (int piece = first; piece < pieces; ++piece) {
    GLOBAL const float* found = line + piece * stride;
    weight = fused_multiply_add(found[Shape::VALUE_DIM + 1], exponential(found[Shape::VALUE_DIM] - largest), weight);
  }
  for (int element = here.thread_index(); element < Shape::VALUE_DIM; element += THREADS) {
    float sum = 0;
    for (int piece = first; piece < pieces; ++piece) {
      GLOBAL const float* found = line + piece * stride;
      sum = fused_multiply_add(found[element], exponential(found[Shape::VALUE_DIM] - largest), sum);
    }
    out[place * Shape::VALUE_DIM + element] = divide(sum, weight);
  }
}

}  // namespace ingot
