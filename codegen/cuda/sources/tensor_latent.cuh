// Latent attention on tensor cores.
#pragma once

namespace ingot {

// A block takes 16 heads of a token and PIECE keys of the context (0: all), 16 at a time, which it brings into shared
// memory once for both products, the next ones while it multiplies. Its warps share the elements of a key: each
// multiplies its part of them, what they found is added in their order, and then each mixes its part of the values.
// Queries and weights are split into two halves, so that only the cache is of half width. What pieces give is for
// join_pieces.
//
// Words of two neighbouring elements of two keys make two words of two keys each: even elements are one tile of the
// second product, odd ones another. Rows are four words wider than they need be, so that lanes meet no bank twice.
template <class Shape>
struct LatentTile {
  static constexpr int WARPS = 4, LINES = 16, KEYS = 16;
  static constexpr int STEPS = (Shape::DIM + 15) / 16, OWN_STEPS = (STEPS + WARPS - 1) / WARPS;
  static constexpr int PAIRS = (Shape::VALUE_DIM + 15) / 16, OWN_PAIRS = (PAIRS + WARPS - 1) / WARPS;
  static constexpr int STRIDE = STEPS * 8 + 4, PARTIAL_STRIDE = KEYS + 8;
};

template <class Shape, class Element, class Q, int PIECE, class Tile = LatentTile<Shape>>
INGOT_DEVICE void attend_latent_tiles(Here here, uint4 (&tiles)[2][Tile::KEYS * Tile::STRIDE / 4],
                                      float (&partial)[Tile::WARPS][Tile::LINES][Tile::PARTIAL_STRIDE], const float* q,
                                      const typename Element::Stored* latents, Batch batch, Scores scores, float* out,
                                      int num_rows) {
  constexpr int KEYS = Tile::KEYS, STEPS = Tile::STEPS, STRIDE = Tile::STRIDE;
  int row = here.block_x(), first_head = here.block_y() * Tile::LINES;
  int sequence = sequence_of(batch, row);
  int own = batch.context_lengths[sequence] - batch.sequence_starts[sequence + 1] + row;
  int first_key = PIECE ? here.block_z() * PIECE : 0;
  int end_key = PIECE && first_key + PIECE < own + 1 ? first_key + PIECE : own + 1;
  if (first_key >= end_key) return;
  const int* pages = batch.page_table + (int64)sequence * batch.table_width;
  int group = here.lane() / 4, inside = here.lane() % 4;
  int first_step = here.warp() * Tile::OWN_STEPS, first_pair = here.warp() * Tile::OWN_PAIRS;

  unsigned high[Tile::OWN_STEPS][4], low[Tile::OWN_STEPS][4];
  for (int step = 0; step < Tile::OWN_STEPS; ++step)
    for (int i = 0; i < 4; ++i) {
      int head = first_head + group + i % 2 * 8, element = (first_step + step) * 16 + inside * 2 + i / 2 * 8;
      float pair[2] = {};
      for (int j = 0; j < 2; ++j)
        if (head < Shape::HEADS && element + j < Shape::DIM)
          pair[j] = Q::at(q, row)[head * Shape::DIM + element + j];
      split_pair<Element>(pair[0], pair[1], high[step][i], low[step][i]);
    }

  // Keys from start into a tile; those past the end were never written, and may be no numbers.
  auto bring = [&](int start, uint4* tile) {
    int64 place = (int64)pages[start / Shape::PAGE_SIZE] * Shape::PAGE_SIZE + start % Shape::PAGE_SIZE;
    for (int i = here.thread_index(); i < KEYS * STEPS * 2; i += Tile::WARPS * WARP) {
      int key = i / (STEPS * 2), element = i % (STEPS * 2) * 8;
      bool wanted = start + key < end_key && element < Shape::DIM;
      copy_later(&tile[key * (STRIDE / 4) + element / 8], latents + (place + key) * Shape::DIM + (wanted ? element : 0),
                 wanted);
    }
    end_copies();
  };

  float most[2] = {NEVER, NEVER}, total[2] = {}, result[Tile::OWN_PAIRS][2][4] = {};
  bring(first_key, tiles[0]);
  for (int start = first_key, turn = 0; start < end_key; start += KEYS, turn ^= 1) {
    wait_for_copies<0>();
    block_barrier();
    if (start + KEYS < end_key) bring(start + KEYS, tiles[turn ^ 1]);
    const unsigned* words = reinterpret_cast<const unsigned*>(tiles[turn]);

    float products[KEYS / 8][4] = {}, rest[KEYS / 8][4] = {};
    for (int step = 0; step < Tile::OWN_STEPS; ++step) {
      if (first_step + step >= STEPS) break;
      for (int n = 0; n < KEYS / 8; ++n) {
        unsigned b[2];
        for (int i = 0; i < 2; ++i) b[i] = words[(n * 8 + group) * STRIDE + (first_step + step) * 8 + inside + i * 4];
        multiply_tiles<Element>(rest[n], low[step], b);
        multiply_tiles<Element>(products[n], high[step], b);
      }
    }
    for (int n = 0; n < KEYS / 8; ++n)
      for (int i = 0; i < 4; ++i)
        partial[here.warp()][group + i / 2 * 8][n * 8 + inside * 2 + i % 2] = products[n][i] + rest[n][i];
    block_barrier();

    for (int side = 0; side < 2; ++side) {
      float largest = NEVER;
      for (int n = 0; n < KEYS / 8; ++n)
        for (int j = 0; j < 2; ++j) {
          float product = 0;
          for (int warp = 0; warp < Tile::WARPS; ++warp)
            product += partial[warp][group + side * 8][n * 8 + inside * 2 + j];
          int key = start + n * 8 + inside * 2 + j;
          float score = key < end_key ? scores.template of<Shape>(product, 0, own, key) : NEVER;
          products[n][side * 2 + j] = score;
          largest = larger(largest, score);
        }
      largest = larger(largest, shuffle_xor(largest, 1));
      largest = larger(largest, shuffle_xor(largest, 2));
      float now = larger(most[side], largest), kept = exponential(most[side] - now), sum = 0;
      for (int n = 0; n < KEYS / 8; ++n)
        for (int j = 0; j < 2; ++j) {
          float& score = products[n][side * 2 + j];
          score = score > NEVER ? exponential(score - now) : 0.0f;
          sum += score;
        }
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      total[side] = total[side] * kept + sum;
      most[side] = now;
      for (int pair = 0; pair < Tile::OWN_PAIRS; ++pair)
        for (int j = 0; j < 4; ++j) result[pair][j / 2][side * 2 + j % 2] *= kept;
    }

    for (int step = 0; step < KEYS / 16; ++step) {
      unsigned high_weights[4], low_weights[4];
      for (int i = 0; i < 4; ++i)
        split_pair<Element>(products[step * 2 + i / 2][i % 2 * 2], products[step * 2 + i / 2][i % 2 * 2 + 1],
                            high_weights[i], low_weights[i]);
      for (int pair = 0; pair < Tile::OWN_PAIRS; ++pair) {
        if (first_pair + pair >= Tile::PAIRS) break;
        unsigned even[2], odd[2];
        for (int i = 0; i < 2; ++i) {
          int place = (step * 16 + inside * 2 + i * 8) * STRIDE + (first_pair + pair) * 8 + group;
          unsigned first = words[place], second = words[place + STRIDE];
          even[i] = (first & 0xffffu) | second << 16;
          odd[i] = first >> 16 | (second & 0xffff0000u);
        }
        multiply_tiles<Element>(result[pair][0], low_weights, even);
        multiply_tiles<Element>(result[pair][0], high_weights, even);
        multiply_tiles<Element>(result[pair][1], low_weights, odd);
        multiply_tiles<Element>(result[pair][1], high_weights, odd);
      }
    }
  }

  for (int side = 0; side < 2; ++side) {
    int head = first_head + group + side * 8;
    if (head >= Shape::HEADS) continue;
    int64 place = (int64)row * Shape::HEADS + head;
    float* target = out + place * Shape::VALUE_DIM;
    if constexpr (PIECE != 0) {
      target = out + (here.block_z() * (int64)num_rows * Shape::HEADS + place) * (Shape::VALUE_DIM + 2);
      if (inside == 0 && here.warp() == 0)
        target[Shape::VALUE_DIM] = most[side], target[Shape::VALUE_DIM + 1] = total[side];
    }
    for (int pair = 0; pair < Tile::OWN_PAIRS; ++pair)
      for (int j = 0; j < 4; ++j) {
        int element = (first_pair + pair) * 16 + (inside * 2 + j / 2) * 2 + j % 2;
        float value = result[pair][j % 2][side * 2 + j / 2];
        if (element < Shape::VALUE_DIM) target[element] = PIECE ? value : divide(value, total[side]);
      }
  }
}

}  // namespace ingot
