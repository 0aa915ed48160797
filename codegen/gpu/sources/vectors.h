// Models that give a vector for a sequence: attention within sequences that are there as a whole, pooling, unit vectors.
#pragma once

namespace ingot {

// What attention is specialised to; see codegen/kernels/ragged_attention.py. WINDOW 0 is none. A block takes QUERIES
// tokens, and keys and values by SLICE columns at a time.
template <int HEADS_, int KV_HEADS_, int DIM_, int WINDOW_, bool CAUSAL_, int QUERIES_, int SLICE_>
struct RaggedShape {
  CONSTANT int HEADS = HEADS_, DIM = DIM_, WINDOW = WINDOW_, GROUP = HEADS_ / KV_HEADS_;
  CONSTANT int QUERIES = QUERIES_, SLICE = SLICE_, SLICES = (DIM_ + SLICE_ - 1) / SLICE_;
  CONSTANT int FOURS = SLICE_ / 4, ROW = SLICE_ / 4 + 1;  // of a slice, and with what keeps rows in other banks
  CONSTANT bool CAUSAL = CAUSAL_;

  static INGOT_DEVICE bool sees(int own, int key, int length) {
    if (key >= length || (CAUSAL && key > own)) return false;
    return !WINDOW || (key > own - WINDOW && key < own + WINDOW);
  }
};

// A slice of the heads' keys or values of WARP tokens from start on: zeros past the sequence's end.
template <int THREADS, class Shape, class View>
INGOT_DEVICE void load_slice(Here here, SHARED float4 (&into)[WARP * Shape::ROW], GLOBAL const float* rows, int begin,
                             int start, int length, int head, int slice) {
  block_barrier();
  for (int i = here.thread_index(); i < WARP * Shape::FOURS; i += THREADS) {
    int key = i / Shape::FOURS, four = i % Shape::FOURS;
    float4 value = four_zeros();
    if (start + key < length)
      value = four_of<View, Shape::DIM>(rows, begin + start + key, head, slice * Shape::SLICE + four * 4);
    into[key * Shape::ROW + four] = value;
  }
  block_barrier();
}

// In float32. A block of WARPS warps takes a head of a tile of tokens, a warp some of these; a lane has one of WARP
// keys at a time, and then elements of the values. Keys are taken from a multiple of WARP of the sequence's own
// positions on, so that a row's bits do not depend on what lies beside its sequence.
template <int WARPS, class Shape, class Q, class K, class V>
INGOT_DEVICE void attend_whole(Here here, SHARED float4 (&queries)[Shape::QUERIES][Shape::SLICES * Shape::FOURS],
                               SHARED float4 (&slice_rows)[WARP * Shape::ROW],
                               SHARED float (&weights)[Shape::QUERIES][WARP], GLOBAL const float* q,
                               GLOBAL const float* k, GLOBAL const float* v, GLOBAL const int* sequence_starts,
                               int num_sequences, float scale, GLOBAL float* out) {
  constexpr int EACH = Shape::QUERIES / WARPS, SLICE = Shape::SLICE, PARTS = (SLICE + WARP - 1) / WARP;
  constexpr int ROW = Shape::SLICES * Shape::FOURS, THREADS = WARPS * WARP;
  int head = here.block_y(), kv_head = head / Shape::GROUP, lane = here.lane(), own_first = here.warp() * EACH;
  Tile tile = tile_of<Shape::QUERIES>(sequence_starts, num_sequences, here.block_x());
  if (tile.sequence == num_sequences) return;
  int begin = sequence_starts[tile.sequence], length = sequence_starts[tile.sequence + 1] - begin;
  int first = tile.number * Shape::QUERIES;
  int last = first + Shape::QUERIES < length ? first + Shape::QUERIES - 1 : length - 1;
  for (int i = here.thread_index(); i < Shape::QUERIES * ROW; i += THREADS) {
    float4 value = four_zeros();
    if (first + i / ROW <= last) value = four_of<Q, Shape::DIM>(q, begin + first + i / ROW, head, i % ROW * 4);
    queries[i / ROW][i % ROW] = value;
  }
  int start = 0, end = Shape::CAUSAL ? last + 1 : length;
  if (Shape::WINDOW && first + 1 > Shape::WINDOW) start = (first + 1 - Shape::WINDOW) / WARP * WARP;
  if (Shape::WINDOW && last + Shape::WINDOW < end) end = last + Shape::WINDOW;

  float most[EACH], total[EACH] = {}, result[EACH][Shape::SLICES][PARTS] = {};
  for (int m = 0; m < EACH; ++m) most[m] = NEVER;
  for (; start < end; start += WARP) {
    float products[EACH] = {};
#pragma unroll
    for (int slice = 0; slice < Shape::SLICES; ++slice) {
      load_slice<THREADS, Shape, K>(here, slice_rows, k, begin, start, length, kv_head, slice);
#pragma unroll 4
      for (int i = 0; i < Shape::FOURS; ++i) {
        float4 key = slice_rows[lane * Shape::ROW + i];
        for (int m = 0; m < EACH; ++m) {
          float4 query = queries[own_first + m][slice * Shape::FOURS + i];
          float product = fused_multiply_add(query.x, key.x, products[m]);
          product = fused_multiply_add(query.y, key.y, product);
          product = fused_multiply_add(query.z, key.z, product);
          products[m] = fused_multiply_add(query.w, key.w, product);
        }
      }
    }
    for (int m = 0; m < EACH; ++m) {
      bool is_seen = Shape::sees(first + own_first + m, start + lane, length);
      float score = is_seen ? products[m] * scale : NEVER;
      float now = larger(most[m], largest_of_warp(score)), kept = exponential(most[m] - now);
      float weight = is_seen ? exponential(score - now) : 0.0f;
      total[m] = total[m] * kept + sum_of_warp(weight);
      most[m] = now;
      weights[own_first + m][lane] = weight;
      for (int slice = 0; slice < Shape::SLICES; ++slice)
        for (int part = 0; part < PARTS; ++part) result[m][slice][part] *= kept;
    }
#pragma unroll
    for (int slice = 0; slice < Shape::SLICES; ++slice) {
      load_slice<THREADS, Shape, V>(here, slice_rows, v, begin, start, length, kv_head, slice);
      SHARED const float* values = reinterpret_cast<SHARED const float*>(&slice_rows[0]);
#pragma unroll 4
      for (int key = 0; key < WARP; ++key)
        for (int part = 0; part < PARTS; ++part) {
          if (part * WARP + lane >= SLICE) continue;
          float value = values[key * Shape::ROW * 4 + part * WARP + lane];
          for (int m = 0; m < EACH; ++m)
            result[m][slice][part] = fused_multiply_add(weights[own_first + m][key], value, result[m][slice][part]);
        }
    }
  }
  for (int m = 0; m < EACH; ++m) {
    int own = first + own_first + m;
    if (own > last) continue;
    for (int slice = 0; slice < Shape::SLICES; ++slice)
      for (int part = 0; part < PARTS; ++part) {
        int inside = part * WARP + lane, element = slice * SLICE + inside;
        if (inside < SLICE && element < Shape::DIM)
          out[((int64)(begin + own) * Shape::HEADS + head) * Shape::DIM + element] =
              divide(result[m][slice][part], total[m]);
      }
  }
}

// A row for each sequence's: the first, the last, the largest or the mean of its elements. A thread has a column.
template <int THREADS, class X, bool IS_LAST, bool IS_MAX, bool IS_MEAN>
INGOT_DEVICE void pool(Here here, GLOBAL const float* x, GLOBAL const int* sequence_starts, GLOBAL float* out) {
  int column = here.block_y() * THREADS + here.thread_index(), sequence = here.block_x();
  int first = sequence_starts[sequence], last = sequence_starts[sequence + 1] - 1;
  if (column >= X::WIDTH) return;
  float result = X::at(x, IS_LAST ? last : first)[column];
  if constexpr (IS_MAX || IS_MEAN)
    for (int row = first + 1; row <= last; ++row) {
      float value = X::at(x, row)[column];
      result = IS_MAX ? larger(result, value) : result + value;
    }
  if constexpr (IS_MEAN) result = divide(result, float(last + 1 - first));
  out[(int64)sequence * X::WIDTH + column] = result;
}

// Rows divided by their length, or by epsilon where they are shorter.
template <int THREADS, class X>
INGOT_DEVICE void l2_normalize(Here here, SHARED float (&parts)[THREADS / WARP], GLOBAL const float* x,
                               GLOBAL float* out, float epsilon) {
  GLOBAL const float* own = X::at(x, here.block_x());
  float squares = 0;
  for (int i = here.thread_index(); i < X::WIDTH; i += THREADS) squares = fused_multiply_add(own[i], own[i], squares);
  float length = larger(square_root(sum_of_block(here, parts, squares)), epsilon);
  for (int i = here.thread_index(); i < X::WIDTH; i += THREADS)
    out[(int64)here.block_x() * X::WIDTH + i] = divide(own[i], length);
}

}  // namespace ingot
