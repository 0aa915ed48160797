// Mixtures of experts: who takes a token, in which order, and the sum of what they say.
//
// A pair is a token and one of its experts, number token * k + place; that row of results is its own.
#pragma once

namespace ingot {

// What a router makes of its logits; see ir/operators/experts.py.
enum class Scoring { SOFTMAX, SOFTMAX_OF_CHOSEN, SIGMOID, SPARSE_MIXER };

template <int EXPERTS_, int CHOSEN_, Scoring SCORING_, int GROUPS_, int KEPT_GROUPS_, int GROUP_TERMS_, bool HAS_BIAS_, bool NORMALIZES_>
struct Routing {
  CONSTANT int EXPERTS = EXPERTS_, CHOSEN = CHOSEN_;
  CONSTANT Scoring SCORING = SCORING_;
  CONSTANT int GROUPS = GROUPS_, KEPT_GROUPS = KEPT_GROUPS_, GROUP_TERMS = GROUP_TERMS_;
  CONSTANT bool HAS_BIAS = HAS_BIAS_, NORMALIZES = NORMALIZES_;
};

CONSTANT float LOWEST = -3.402823466e38f;

// Put experts of all but the best groups behind all others; of equal groups the first is better. ranked is what
// experts are chosen by; a lane judges a group.
template <class Routing>
INGOT_DEVICE void keep_groups(Here here, SHARED float (&ranked)[Routing::EXPERTS], SHARED float (&judged)[Routing::GROUPS]) {
  constexpr int SIZE = Routing::EXPERTS / Routing::GROUPS;
  for (int group = here.lane(); group < Routing::GROUPS; group += WARP) {
    float first = LOWEST, second = LOWEST;
    for (int i = 0; i < SIZE; ++i) {
      float value = ranked[group * SIZE + i];
      second = larger(second, smaller(first, value));
      first = larger(first, value);
    }
    judged[group] = Routing::GROUP_TERMS == 2 ? first + second : first;
  }
  warp_barrier();
  for (int group = here.lane(); group < Routing::GROUPS; group += WARP) {
    int num_better = 0;
    for (int other = 0; other < Routing::GROUPS; ++other)
      num_better += judged[other] > judged[group] || (judged[other] == judged[group] && other < group);
    for (int i = 0; i < SIZE && num_better >= Routing::KEPT_GROUPS; ++i) ranked[group * SIZE + i] = LOWEST;
  }
  warp_barrier();
}

// A warp for a row of logits: its experts, best first and of equals the first, and their weights. A lane has every
// 32nd expert, and at the end the weight of one place. Where logits are no numbers, the experts are any.
template <class Routing, class Logits>
INGOT_DEVICE void route(Here here, SHARED float (&ranked)[Routing::EXPERTS], SHARED float (&judged)[Routing::GROUPS],
                        GLOBAL const float* logits, GLOBAL const float* bias, GLOBAL int* chosen, GLOBAL float* weights,
                        float scale, float jitter) {
  constexpr int PARTS = (Routing::EXPERTS + WARP - 1) / WARP;
  constexpr bool IS_SOFTMAX = Routing::SCORING == Scoring::SOFTMAX;
  constexpr bool IS_OF_CHOSEN = Routing::SCORING == Scoring::SOFTMAX_OF_CHOSEN;
  constexpr bool IS_SPARSE_MIXER = Routing::SCORING == Scoring::SPARSE_MIXER;
  int row = here.block_x();
  GLOBAL const float* own = Logits::at(logits, row);
  float values[PARTS], left[PARTS];  // what weights are made of; what is left to choose from
  float most = LOWEST, total = 0;
  for (int part = 0; part < PARTS; ++part) {
    int expert = part * WARP + here.lane();
    values[part] = expert < Routing::EXPERTS ? own[expert] : LOWEST;
    most = larger(most, values[part]);
    if constexpr (Routing::SCORING == Scoring::SIGMOID) values[part] = divide(1.0f, 1.0f + exponential(-values[part]));
  }
  if constexpr (IS_SOFTMAX) {
    most = largest_of_warp(most);
    for (int part = 0; part < PARTS; ++part) {
      values[part] = part * WARP + here.lane() < Routing::EXPERTS ? exponential(values[part] - most) : 0.0f;
      total += values[part];
    }
    total = sum_of_warp(total);
    for (int part = 0; part < PARTS; ++part) values[part] = divide(values[part], total);
  }
  for (int part = 0; part < PARTS; ++part) {
    int expert = part * WARP + here.lane();
    left[part] = LOWEST;
    if (expert < Routing::EXPERTS) {
      left[part] = values[part];
      if constexpr (Routing::HAS_BIAS) left[part] += bias[expert];
    }
  }
  if constexpr (Routing::KEPT_GROUPS < Routing::GROUPS) {
    for (int part = 0; part < PARTS; ++part)
      if (part * WARP + here.lane() < Routing::EXPERTS) ranked[part * WARP + here.lane()] = left[part];
    warp_barrier();
    keep_groups<Routing>(here, ranked, judged);
    for (int part = 0; part < PARTS; ++part)
      if (part * WARP + here.lane() < Routing::EXPERTS) left[part] = ranked[part * WARP + here.lane()];
  }
  float weight = 0;  // that of the place whose number is this lane's
  for (int place = 0; place < Routing::CHOSEN; ++place) {
    float largest = LOWEST, value = 0;
    int best = Routing::EXPERTS;
    for (int part = 0; part < PARTS; ++part)
      if (left[part] > largest) largest = left[part], value = values[part], best = part * WARP + here.lane();
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
      float other = shuffle_xor(largest, mask), its_value = shuffle_xor(value, mask);
      int its_expert = shuffle_xor(best, mask);
      if (other > largest || (other == largest && its_expert < best)) largest = other, value = its_value, best = its_expert;
    }
    if constexpr (IS_SPARSE_MIXER) {  // the softmax of what is left, without what is much worse
      total = 0;
      for (int part = 0; part < PARTS; ++part) {
        float distance = divide(largest - values[part], larger(magnitude(values[part]), largest));
        if (left[part] > LOWEST && !(distance > 2 * jitter)) total += exponential(left[part] - largest);
      }
      value = divide(1.0f, sum_of_warp(total));
    }
    for (int part = 0; part < PARTS; ++part)
      if (part * WARP + here.lane() == best) left[part] = LOWEST;
    if (here.lane() == place) {
      weight = value;
      chosen[(int64)row * Routing::CHOSEN + place] = best < Routing::EXPERTS ? best : 0;
    }
  }
  bool is_place = here.lane() < Routing::CHOSEN;
  if constexpr (IS_OF_CHOSEN) {
    most = largest_of_warp(is_place ? weight : LOWEST);
    weight = is_place ? exponential(weight - most) : 0.0f;
    weight = divide(weight, sum_of_warp(weight));
  }
  if constexpr (Routing::NORMALIZES) weight = divide(weight, sum_of_warp(weight) + 1e-20f);
  if (is_place) weights[(int64)row * Routing::CHOSEN + here.lane()] = weight * scale;
}

// What the lanes before this one have; total is what all have.
INGOT_DEVICE int sum_of_lanes_before(Here here, int value, OWN int& total) {
  int before = 0;
  total = value;
  for (int mask = 1; mask < WARP; mask *= 2) {
    int other = shuffle_xor(total, mask);
    if (here.lane() & mask) before += other;
    total += other;
  }
  return before;
}

// The pairs in the order of their experts, tokens ascending, and tiles of up to ROWS pairs of one expert, as
// (expert, first position, rows, place). Places are positions where each expert has a whole number of eight. A block is
// an expert, and finds its own by counting the pairs of those before.
//
// A tile's number is its first position where tiles lie BY_POSITION, so that few pairs have few of them; else it is
// first position / ROWS, rounded up, + expert, which no two share. Tiles that there are not have no rows.
template <int THREADS, int ROWS, bool BY_POSITION>
INGOT_DEVICE void group_pairs(Here here, SHARED int (&parts)[THREADS / WARP][2], GLOBAL const int* chosen,
                              GLOBAL int* order, GLOBAL int* tiles, int num_pairs) {
  int expert = here.block_x(), each = (num_pairs + THREADS - 1) / THREADS;
  int first = here.thread_index() * each, end = first + each < num_pairs ? first + each : num_pairs;
  int num_below = 0, num_own = 0;
  for (int pair = first; pair < end; ++pair) {
    num_below += chosen[pair] < expert;
    num_own += chosen[pair] == expert;
  }
  int own_of_warp, before = sum_of_lanes_before(here, num_own, own_of_warp), start = 0, count = 0;
  num_below = sum_of_warp(num_below);
  if (here.lane() == 0) parts[here.warp()][0] = num_below, parts[here.warp()][1] = own_of_warp;
  block_barrier();
  for (int warp = 0; warp < THREADS / WARP; ++warp) {
    start += parts[warp][0];
    count += parts[warp][1];
    if (warp < here.warp()) before += parts[warp][1];
  }
  for (int pair = first, position = start + before; pair < end; ++pair)
    if (chosen[pair] == expert) order[position++] = pair;
  int first_tile = BY_POSITION ? start : (start + ROWS - 1) / ROWS + expert;
  int num_tiles = BY_POSITION ? count : (start + count + ROWS - 1) / ROWS + expert + 1 - first_tile;
  for (int i = here.thread_index(); i < num_tiles; i += THREADS) {
    int away = BY_POSITION ? i : i * ROWS, left = count - away < ROWS ? count - away : ROWS;
    GLOBAL int* tile = tiles + (int64)(first_tile + i) * 4;
    tile[0] = expert;
    tile[1] = start + away;
    tile[2] = (BY_POSITION && i % ROWS) || left < 0 ? 0 : left;
    tile[3] = ((start + 7) / 8 + expert) * 8 + away;
  }
}

// A tile of group_pairs, for an expert of BLOCKS blocks of weights. Pairs have a row each, or EACH of them one.
template <int EACH>
struct RowsOfExpert {
  CONSTANT int PIECES = 1;
  GLOBAL const int* order;
  int first_row, end_row, first_of_expert;

  INGOT_DEVICE int source(int row) const { return row < end_row ? order[row] / EACH : 0; }
  INGOT_DEVICE int target(int row) const { return order[row]; }
  INGOT_DEVICE int first_block() const { return first_of_expert; }
  INGOT_DEVICE int piece() const { return 0; }
};

template <int EACH, int BLOCKS>
INGOT_DEVICE RowsOfExpert<EACH> rows_of_expert(GLOBAL const int* order, GLOBAL const int* tiles, int number) {
  GLOBAL const int* found = tiles + (int64)number * 4;
  return {order, found[1], found[1] + found[2], found[0] * BLOCKS};
}

// One pair, without an order, where hardly two share an expert.
template <int EACH>
struct LoneRow {
  CONSTANT int PIECES = 1;
  int first_row, end_row, first_of_expert;

  INGOT_DEVICE int source(int row) const { return row / EACH; }
  INGOT_DEVICE int target(int row) const { return row; }
  INGOT_DEVICE int first_block() const { return first_of_expert; }
  INGOT_DEVICE int piece() const { return 0; }
};

template <int EACH, int BLOCKS>
INGOT_DEVICE LoneRow<EACH> lone_row(GLOBAL const int* chosen, int pair) {
  return {pair, pair + 1, chosen[pair] * BLOCKS};
}

// Of each row the elements with the numbers given.
template <int COUNT, class X>
INGOT_DEVICE void take_chosen(Here here, GLOBAL const float* x, GLOBAL const int* chosen, GLOBAL float* out) {
  int64 row = here.block_x();
  for (int place = here.thread_index(); place < COUNT; place += WARP)
    out[row * COUNT + place] = X::at(x, here.block_x())[chosen[row * COUNT + place]];
}

// The sum of each token's experts' rows, first to last, times their weights. A block takes THREADS elements of it.
template <int THREADS, class X, class Weights>
INGOT_DEVICE void weighted_sum(Here here, GLOBAL const float* x, GLOBAL const float* weights, GLOBAL float* out) {
  int row = here.block_x(), i = here.block_y() * THREADS + here.thread_index();
  constexpr int WIDTH = X::WIDTH / Weights::WIDTH;
  if (i >= WIDTH) return;
  GLOBAL const float* factors = Weights::at(weights, row);
  float sum = 0;
  for (int place = 0; place < Weights::WIDTH; ++place)
    sum = fused_multiply_add(factors[place], X::at(x, row)[place * WIDTH + i], sum);
  out[(int64)row * WIDTH + i] = sum;
}

}  // namespace ingot
