// Multi-head latent attention (DeepSeek-AI, 2024) over pages: all heads share a row of latents a token, which is the
// key, and whose first elements are the value.
//
// Latents lie [page, offset, dim], as the keys of one head. The heads' own matrices are products of pieces of rows.
#pragma once

namespace ingot {

// Rows of pieces, each a head's, which has a matrix of its own of BLOCKS blocks.
template <int HEADS, int BLOCKS>
struct RowsOfHead {
  CONSTANT int PIECES = HEADS;
  int first_row, end_row, head;

  INGOT_DEVICE int source(int row) const { return row; }
  INGOT_DEVICE int target(int row) const { return row; }
  INGOT_DEVICE int first_block() const { return head * BLOCKS; }
  INGOT_DEVICE int piece() const { return head; }
};

// Write each token's latents to their slot.
template <int THREADS, class X, class Element>
INGOT_DEVICE void append_latents(Here here, GLOBAL typename Element::Stored* latents, GLOBAL const float* x,
                                 GLOBAL const int* slots) {
  int row = here.block_x();
  GLOBAL typename Element::Stored* place = latents + (int64)slots[row] * X::WIDTH;
  for (int i = here.thread_index(); i < X::WIDTH; i += THREADS) place[i] = Element::narrow(X::at(x, row)[i]);
}

// What brings latents into shared memory, from a place counted through all pages: as they are, 16 bytes at a time, for
// pages are of whole tiles, and these of whole words; or made of codes.
template <class Element, int DIM, int PAGE_SIZE>
struct FloatLatents {
  using Kept = Element;
  GLOBAL const typename Element::Stored* stored;

  template <int THREADS, int WORDS>
  INGOT_DEVICE void bring(Here here, SHARED uint4 (&words)[WORDS], int64 place, int num_keys) const {
    GLOBAL const uint4* source = reinterpret_cast<GLOBAL const uint4*>(stored + place * DIM);
    for (int i = here.thread_index(); i < WORDS; i += THREADS) words[i] = source[i];
  }
};

template <class Pages>
struct CodedLatents {
  using Kept = Float32;
  GLOBAL const unsigned char* codes;
  GLOBAL const typename Pages::Scale::Stored* scales;

  template <int THREADS, int WORDS>
  INGOT_DEVICE void bring(Here here, SHARED uint4 (&words)[WORDS], int64 place, int num_keys) const {
    CodedValues<Pages> reader{codes, scales};
    SHARED float* tile = reinterpret_cast<SHARED float*>(words);
    int64 page = place / Pages::PAGE_SIZE;
    int offset = int(place % Pages::PAGE_SIZE);
    for (int i = here.thread_index(); i < num_keys * Pages::DIM; i += THREADS)
      tile[i] = reader.at(page, offset + i / Pages::DIM, i % Pages::DIM);
  }
};

// Of COUNT numbers of each lane the sums over the warp: lane l has that of number l % COUNT. COUNT is a power of two.
template <int COUNT>
INGOT_DEVICE float sums_of_warp(Here here, OWN float (&numbers)[COUNT]) {
#pragma unroll
  for (int middle = COUNT / 2; middle > 0; middle /= 2) {
    bool is_upper = here.lane() & middle;
#pragma unroll
    for (int i = 0; i < middle; ++i) {
      float kept = is_upper ? numbers[i + middle] : numbers[i], given = is_upper ? numbers[i] : numbers[i + middle];
      numbers[i] = kept + shuffle_xor(given, middle);
    }
  }
  float sum = numbers[0];
  for (int mask = COUNT; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
  return sum;
}

// In float32. A block takes a token, WARPS of its heads, a warp for each, and PIECE keys of the context (0: all), KEYS at
// a time, which it brings into shared memory. A lane has every 32nd element of queries and results. What pieces give is
// for join_pieces.
template <class Shape, class Latents, class Q, int WARPS, int KEYS, int PIECE, int WORDS>
INGOT_DEVICE void attend_latents(Here here, SHARED uint4 (&words)[WORDS], SHARED float (&weights)[WARPS][KEYS],
                                 GLOBAL const float* q, Latents latents, Batch batch, Scores scores,
                                 GLOBAL float* out, int num_rows) {
  using Element = typename Latents::Kept;
  using Stored = typename Element::Stored;
  static_assert(WORDS * 16 == KEYS * Shape::DIM * sizeof(Stored), "a tile of keys is of whole words");
  constexpr int PARTS = (Shape::DIM + WARP - 1) / WARP, VALUE_PARTS = (Shape::VALUE_DIM + WARP - 1) / WARP;
  int row = here.block_x(), head = here.block_y() * WARPS + here.warp(), lane = here.lane();
  int sequence = sequence_of(batch, row);
  int own = batch.context_lengths[sequence] - batch.sequence_starts[sequence + 1] + row;
  int first_key = PIECE ? here.block_z() * PIECE : 0;
  int end_key = PIECE && first_key + PIECE < own + 1 ? first_key + PIECE : own + 1;
  if (first_key >= end_key) return;
  GLOBAL const int* pages = batch.page_table + (int64)sequence * batch.table_width;
  bool is_head = head < Shape::HEADS;
  SHARED const Stored* tile = reinterpret_cast<SHARED const Stored*>(words);
  float query[PARTS], result[VALUE_PARTS] = {}, most = NEVER, total = 0;
  for (int part = 0; part < PARTS; ++part) {
    int element = part * WARP + lane;
    query[part] = is_head && element < Shape::DIM ? Q::at(q, row)[head * Shape::DIM + element] : 0.0f;
  }
  for (int start = first_key; start < end_key; start += KEYS) {
    int64 place = (int64)pages[start / Shape::PAGE_SIZE] * Shape::PAGE_SIZE + start % Shape::PAGE_SIZE;
    int num_keys = end_key - start < KEYS ? end_key - start : KEYS;
    block_barrier();
    latents.template bring<WARPS * WARP>(here, words, place, num_keys);
    block_barrier();
    float products[KEYS];
    for (int key = 0; key < KEYS; ++key) {
      products[key] = 0;
      for (int part = 0; part < PARTS && key < num_keys; ++part)
        if (Shape::DIM % WARP == 0 || part * WARP + lane < Shape::DIM)
          products[key] = fused_multiply_add(
              query[part], Element::widen(tile[key * Shape::DIM + part * WARP + lane]), products[key]);
    }
    float score = scores.template of<Shape>(sums_of_warp(here, products), head, own, start + lane % KEYS);
    if (lane % KEYS >= num_keys) score = NEVER;
    float now = larger(most, largest_of_warp(score)), kept = exponential(most - now);
    float weight = score > NEVER ? exponential(score - now) : 0.0f, sum = weight;
    for (int mask = 1; mask < KEYS; mask *= 2) sum += shuffle_xor(sum, mask);
    total = total * kept + sum;
    most = now;
    if (lane < KEYS) weights[here.warp()][lane] = weight;
    warp_barrier();
    for (int part = 0; part < VALUE_PARTS; ++part) {
      int element = part * WARP + lane;
      float value = result[part] * kept;
      for (int key = 0; key < num_keys && element < Shape::VALUE_DIM; ++key)
        value = fused_multiply_add(weights[here.warp()][key], Element::widen(tile[key * Shape::DIM + element]), value);
      result[part] = value;
    }
  }
  if (!is_head) return;
  int64 place = (int64)row * Shape::HEADS + head;
  GLOBAL float* target = out + place * Shape::VALUE_DIM;
  if constexpr (PIECE != 0) {
    target = out + (here.block_z() * (int64)num_rows * Shape::HEADS + place) * (Shape::VALUE_DIM + 2);
    if (lane == 0) target[Shape::VALUE_DIM] = most, target[Shape::VALUE_DIM + 1] = total;
  }
  for (int part = 0; part < VALUE_PARTS; ++part) {
    int element = part * WARP + lane;
    if (element < Shape::VALUE_DIM) target[element] = PIECE ? result[part] : divide(result[part], total);
  }
}

}  // namespace ingot
