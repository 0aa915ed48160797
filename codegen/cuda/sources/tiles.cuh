// Rows as products of many take them: narrowed, and cut into tiles that one copy brings to shared memory.
//
// A row is cut into chunks of 128 bytes, which are 64 halves or 128 codes; of each chunk, all rows' lie one after the
// other. The eight parts of a chunk change places by the row's number, so that eight rows' parts of a number lie in
// different banks: what PTX calls a swizzle of 128 bytes.
#pragma once

namespace ingot {

CONSTANT int CHUNK_BYTES = 128, PART_BYTES = 16, PARTS_IN_CHUNK = CHUNK_BYTES / PART_BYTES;

INGOT_DEVICE int64 place_in_tiles(int64 chunk, int num_rows, int row, int part) {
  return (chunk * num_rows + row) * CHUNK_BYTES + (part ^ row % 8) * PART_BYTES;
}

// Rows of tiles: those from first_row to end_row, of num_rows. Each is found among the rows there are, and its results go
// to a row, times the matrix whose weights begin with a block.
struct TilesInOrder {
  int first_row, end_row, num_rows;

  INGOT_DEVICE int source(int row) const { return row; }
  INGOT_DEVICE int target(int row) const { return row; }
  INGOT_DEVICE int first_block() const { return 0; }
};

// Those of one of the pieces of rows, a head's, which has a matrix of its own.
template <int HEADS, int BLOCKS>
struct TilesOfHead {
  int first_row, end_row, num_rows, head;

  INGOT_DEVICE int source(int row) const { return row * HEADS + head; }
  INGOT_DEVICE int target(int row) const { return row * HEADS + head; }
  INGOT_DEVICE int first_block() const { return head * BLOCKS; }
};

// Those of pairs of tokens and experts, see experts.h, by their places.
template <int EACH>
struct TilesOfPairs {
  const int* order;  // from where the tile's are
  int first_row, end_row, num_rows, first_of_expert;

  INGOT_DEVICE int source(int row) const { return order[row - first_row] / EACH; }
  INGOT_DEVICE int target(int row) const { return order[row - first_row]; }
  INGOT_DEVICE int first_block() const { return first_of_expert; }
};

template <int EACH, int EXPERTS, int BLOCKS>
INGOT_DEVICE TilesOfPairs<EACH> tile_of_pairs(const int* order, const int* groups, int number, int num_pairs) {
  uint4 found = reinterpret_cast<const uint4*>(groups)[number];  // expert, first position, rows, place
  int place = found.w, num_rows = (num_pairs + 7) / 8 * 8 + EXPERTS * 8;
  return {order + found.y, place, place + int(found.z), num_rows, int(found.x) * BLOCKS};
}

// Floats as halves. Rows that are not of this type already are split: the nearest half, and before it what rounding
// took off, so that together they lose 2^-16 of bfloat16 where one loses 2^-8. A block takes the row that becomes a row of tiles.
// FOR_CODES the even fours of a span are before the odd ones, and of each four of these first two of all: then what a
// lane has of a word of codes is what it multiplies at once.
template <int THREADS, class X, class Type, bool ARE_SPLIT, bool FOR_CODES>
INGOT_DEVICE void tile_rows(Here here, const float* x, unsigned char* tiles, int source, int row, int num_rows) {
  constexpr int CHUNKS = (X::WIDTH + 63) / 64, COPIES = ARE_SPLIT ? 2 : 1;
  constexpr bool ARE_ALIGNED = X::WIDTH % 8 == 0 && X::STRIDE % 4 == 0 && X::OFFSET % 4 == 0;
  const float* own = X::at(x, source);
  for (int i = here.thread_index(); i < CHUNKS * PARTS_IN_CHUNK; i += THREADS) {
    float values[8];
    if constexpr (FOR_CODES) {
      int start = i / 4 * SPAN + i / 2 % 2 * 4 + i % 2 * 2;
      for (int j = 0; j < 8; ++j) {
        int input = start + j / 2 * 8 + j % 2;
        values[j] = input < X::WIDTH ? own[input] : 0.0f;
      }
    } else if (ARE_ALIGNED && i * 8 < X::WIDTH) {
      float4 first = reinterpret_cast<const float4*>(own)[i * 2], second = reinterpret_cast<const float4*>(own)[i * 2 + 1];
      values[0] = first.x, values[1] = first.y, values[2] = first.z, values[3] = first.w;
      values[4] = second.x, values[5] = second.y, values[6] = second.z, values[7] = second.w;
    } else {
      for (int j = 0; j < 8; ++j) values[j] = i * 8 + j < X::WIDTH ? own[i * 8 + j] : 0.0f;
    }
    uint4 high, low;
    split_pair<Type>(values[0], values[1], high.x, low.x);
    split_pair<Type>(values[2], values[3], high.y, low.y);
    split_pair<Type>(values[4], values[5], high.z, low.z);
    split_pair<Type>(values[6], values[7], high.w, low.w);
    int64 chunk = (int64)(i / PARTS_IN_CHUNK) * COPIES;
    int part = i % PARTS_IN_CHUNK;
    *reinterpret_cast<uint4*>(tiles + place_in_tiles(chunk + COPIES - 1, num_rows, row, part)) = high;
    if constexpr (ARE_SPLIT) *reinterpret_cast<uint4*>(tiles + place_in_tiles(chunk, num_rows, row, part)) = low;
  }
}

// Codes, the fours of each span in the order 0, 2, 4, 6, 1, 3, 5, 7: a word of weights of four bits holds an even
// one and the next. Scales [row, group] become [group, row], with one row more where their number is odd; and so
// lie the sums of SUM_INPUTS codes, scaled, if they are wanted.
template <int THREADS, int INPUTS, int ROW_GROUP, int SUM_INPUTS>
INGOT_DEVICE void tile_codes(Here here, const signed char* codes, const float* row_scales, unsigned char* tiles,
                             float* scales, float* sums, int source, int row, int num_rows) {
  constexpr int CHUNKS = (INPUTS + CHUNK_BYTES - 1) / CHUNK_BYTES, GROUPS = INPUTS / ROW_GROUP;
  const unsigned* words = reinterpret_cast<const unsigned*>(codes + (int64)source * INPUTS);
  for (int i = here.thread_index(); i < CHUNKS * PARTS_IN_CHUNK; i += THREADS) {
    int first = i / 2 * (SPAN / 4) + i % 2;
    bool exists = i / 2 * SPAN < INPUTS;
    uint4 part = {};
    if (exists) part.x = words[first], part.y = words[first + 2], part.z = words[first + 4], part.w = words[first + 6];
    *reinterpret_cast<uint4*>(tiles + place_in_tiles(i / PARTS_IN_CHUNK, num_rows, row, i % PARTS_IN_CHUNK)) = part;
  }
  for (int group = here.thread_index(); group < GROUPS; group += THREADS)
    scales[(int64)group * ((num_rows + 1) / 2 * 2) + row] = row_scales[(int64)source * GROUPS + group];
  if constexpr (SUM_INPUTS != 0) {
    for (int number = here.thread_index(); number < INPUTS / SUM_INPUTS; number += THREADS) {
      int sum = 0;
      for (int i = 0; i < SUM_INPUTS / 4; ++i) sum = dot_bytes(0x01010101u, words[number * (SUM_INPUTS / 4) + i], sum);
      float scale = row_scales[(int64)source * GROUPS + number * SUM_INPUTS / ROW_GROUP];
      sums[(int64)number * ((num_rows + 1) / 2 * 2) + row] = float(sum) * scale;
    }
  }
}

}  // namespace ingot
