// Tokens chosen where the logits are, by the rules of runtime/sampling: what its numpy does for a row, a block does
// here. A line is a row of logits with the settings of who wants a token of it; a row can have several.
//
// Weights are added up as whole numbers, in units of 2^-40 of the likeliest token's. So their sums are the same in
// any order, and a token does not depend on how the work is spread.
#pragma once

namespace ingot {

// What is to be done with a line; the compiler's and the runtime's picture of it is targets/choice_table.py.
// Edits are pairs of words, a token and a float: how often it was counted, or what is added to its logit. Those from
// `counted` on get penalties, from `added` on are added, from `biased` on are added behind these, and from
// `suppressed` on, up to `end`, must not come.
struct Choice {
  int row, is_greedy, top_k, mask;
  float temperature, inverse, min_p, min_floor;
  unsigned top_p_low, top_p_high, seed_low, seed_high;
  int place;
  float repetition, frequency, presence;
  int counted, added, biased, suppressed, end, unused[3];
};

CONSTANT int MOST_SORTED = 1024;  // of a line: more are drawn from without sorting
CONSTANT int DIGITS = 256;

INGOT_DEVICE float never() { return bits_to_float(0xff800000u); }
INGOT_DEVICE bool is_finite(float value) { return value - value == 0.0f; }

// A key is larger for a larger logit, and of equal ones for the smaller token; NaN is above all.
INGOT_DEVICE uint64 key_of(float value, int token) {
  unsigned bits = float_to_bits(value == 0.0f ? 0.0f : value);
  bits = value != value ? 0xffffffffu : bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64(bits) << 32 | (0xffffffffu - unsigned(token));
}
INGOT_DEVICE float value_of(uint64 key) {
  unsigned bits = unsigned(key >> 32);
  return bits_to_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}
INGOT_DEVICE int token_of(uint64 key) { return int(0xffffffffu - unsigned(key)); }

INGOT_DEVICE uint64 shuffle_xor(uint64 value, int mask) {
  unsigned low = unsigned(shuffle_xor(int(unsigned(value)), mask));
  unsigned high = unsigned(shuffle_xor(int(unsigned(value >> 32)), mask));
  return uint64(high) << 32 | low;
}

// --- numbers by counter, as random_stream.py makes them

CONSTANT uint64 GOLDEN = 0x9E3779B97F4A7C15;

INGOT_DEVICE uint64 mixed(uint64 value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

// The number of a stream at a place, in units of 2^-53; each attempt has a stream of its own.
INGOT_DEVICE uint64 random_number(uint64 seed, int attempt, int place) {
  if (attempt) seed = mixed(mixed(seed) - uint64(attempt) * GOLDEN);
  return mixed(mixed(seed + GOLDEN) + uint64(place + 1) * GOLDEN) >> 11;
}

// total * fraction / 2^53, rounded down or up; fraction is 2^53 at most.
INGOT_DEVICE uint64 part_of(uint64 total, uint64 fraction, bool round_up) {
  uint64 a = total >> 32, b = total & 0xffffffffu, c = fraction >> 32, d = fraction & 0xffffffffu;
  uint64 low = b * d, middle = a * d + (low >> 32), cross = b * c + (middle & 0xffffffffu);
  uint64 high = a * c + (middle >> 32) + (cross >> 32);
  low = cross << 32 | (low & 0xffffffffu);
  uint64 part = high << 11 | low >> 53;
  return round_up && (low & 0x1fffffffffffff) ? part + 1 : part;
}

// A weight in units of 2^-40: exact from 2^-16 on.
INGOT_DEVICE uint64 units_of(float weight) { return uint64(weight * 1099511627776.0f); }

// --- lines

// Copies of rows, for those to whom something is done. What a mask does not allow is minus infinity, but what is no
// number stays, so that it is found.
template <int THREADS, int VOCAB, int PIECE>
INGOT_DEVICE void copy_lines(Here here, GLOBAL const float* logits, GLOBAL const Choice* choices,
                             GLOBAL const unsigned* masks, GLOBAL float* lines) {
  constexpr int WORDS = (VOCAB + 31) / 32;
  int line = here.block_y(), mask = choices[line].mask;
  GLOBAL const float* row = logits + (int64)choices[line].row * VOCAB;
  for (int i = here.block_x() * PIECE + here.thread_index(); i < VOCAB && i < (here.block_x() + 1) * PIECE; i += THREADS) {
    float value = row[i];
    bool is_allowed = mask < 0 || (masks[(int64)mask * WORDS + i / 32] >> (i % 32) & 1);
    lines[(int64)line * VOCAB + i] = is_allowed || !is_finite(value) ? value : never();
  }
}

// Penalties, biases, and what must not come; a token is once at most in each of these.
template <int THREADS, int VOCAB>
INGOT_DEVICE void edit_lines(Here here, GLOBAL const Choice* choices, GLOBAL const int* edits, GLOBAL float* lines) {
  Choice own = choices[here.block_x()];
  GLOBAL float* line = lines + (int64)here.block_x() * VOCAB;
  for (int i = own.counted + here.thread_index(); i < own.added; i += THREADS) {
    int token = edits[2 * i];
    float count = bits_to_float(unsigned(edits[2 * i + 1])), value = line[token];
    if (own.repetition != 1.0f) value = value > 0.0f ? divide(value, own.repetition) : product(value, own.repetition);
    value -= product(own.frequency, count);
    line[token] = value - product(own.presence, count > 0.0f ? 1.0f : 0.0f);
  }
  block_barrier();
  for (int i = own.added + here.thread_index(); i < own.biased; i += THREADS)
    line[edits[2 * i]] += bits_to_float(unsigned(edits[2 * i + 1]));
  block_barrier();
  for (int i = own.biased + here.thread_index(); i < own.suppressed; i += THREADS)
    line[edits[2 * i]] += bits_to_float(unsigned(edits[2 * i + 1]));
  block_barrier();
  for (int i = own.suppressed + here.thread_index(); i < own.end; i += THREADS) line[edits[2 * i]] = never();
}

// Of a piece of each line the largest key, and how many tokens can come; lines are copies, or rows themselves.
template <int THREADS, int VOCAB, int PIECE, bool ARE_COPIES>
INGOT_DEVICE void survey_lines(Here here, SHARED uint64 (&parts)[THREADS / WARP], SHARED int (&sums)[THREADS / WARP],
                               GLOBAL const float* lines, GLOBAL const Choice* choices, GLOBAL uint64* largest,
                               GLOBAL int* counts) {
  constexpr int PIECES = (VOCAB + PIECE - 1) / PIECE;
  int line = here.block_y();
  GLOBAL const float* own = lines + (int64)(ARE_COPIES ? line : choices[line].row) * VOCAB;
  uint64 most = 0;
  int count = 0;
  for (int i = here.block_x() * PIECE + here.thread_index(); i < VOCAB && i < (here.block_x() + 1) * PIECE; i += THREADS) {
    uint64 key = key_of(own[i], i);
    most = key > most ? key : most;
    count += own[i] > never();
  }
  for (int mask = WARP / 2; mask > 0; mask /= 2) {
    uint64 other = shuffle_xor(most, mask);
    most = other > most ? other : most;
  }
  count = sum_of_warp(count);
  if (here.lane() == 0) {
    parts[here.warp()] = most;
    sums[here.warp()] = count;
  }
  block_barrier();
  if (here.thread_index() == 0) {
    for (int warp = 1; warp < THREADS / WARP; ++warp) {
      most = parts[warp] > most ? parts[warp] : most;
      count += sums[warp];
    }
    largest[(int64)line * PIECES + here.block_x()] = most;
    counts[(int64)line * PIECES + here.block_x()] = count;
  }
}

// What a line comes to over its pieces.
template <int PIECES>
INGOT_DEVICE uint64 largest_of_line(GLOBAL const uint64* largest, int line) {
  uint64 most = 0;
  for (int piece = 0; piece < PIECES; ++piece) {
    uint64 key = largest[(int64)line * PIECES + piece];
    most = key > most ? key : most;
  }
  return most;
}

// The likeliest token of each line, -1 where there is none to choose: a thread takes a line.
template <int THREADS, int PIECES>
INGOT_DEVICE void take_likeliest(Here here, GLOBAL const uint64* largest, GLOBAL int* chosen, int num_lines) {
  int line = here.block_x() * THREADS + here.thread_index();
  if (line >= num_lines) return;
  uint64 most = largest_of_line<PIECES>(largest, line);
  chosen[line] = is_finite(value_of(most)) ? token_of(most) : -1;
}

// --- drawing

// What a block that draws has to share.
struct Drawing {
  uint64 keys[MOST_SORTED], sums[MOST_SORTED];
  int bins[DIGITS];
  int count, digit, above, found;
};

// Running sums of MOST_SORTED numbers, in place.
template <int THREADS>
INGOT_DEVICE void add_up(Here here, SHARED uint64 (&sums)[MOST_SORTED]) {
  constexpr int OWN_COUNT = MOST_SORTED / THREADS;
  for (int step = 1; step < MOST_SORTED; step *= 2) {
    uint64 before[OWN_COUNT];
    for (int j = 0; j < OWN_COUNT; ++j) {
      int i = j * THREADS + here.thread_index();
      before[j] = i >= step ? sums[i - step] : 0;
    }
    block_barrier();
    for (int j = 0; j < OWN_COUNT; ++j) sums[j * THREADS + here.thread_index()] += before[j];
    block_barrier();
  }
}

// The first place whose running sum is more than target, or as much where AT_LEAST; the last sum must be.
template <int THREADS, bool AT_LEAST>
INGOT_DEVICE int first_beyond(Here here, SHARED Drawing& own, uint64 target) {
  for (int i = here.thread_index(); i < MOST_SORTED; i += THREADS) {
    bool is_beyond = AT_LEAST ? own.sums[i] >= target : own.sums[i] > target;
    bool was_beyond = i > 0 && (AT_LEAST ? own.sums[i - 1] >= target : own.sums[i - 1] > target);
    if (is_beyond && !was_beyond) own.found = i;
  }
  block_barrier();
  int found = own.found;
  block_barrier();
  return found;
}

// The keys of the `count` likeliest tokens, MOST_SORTED at most, largest first. Digit by digit it is found from which
// key on there are so many, until few enough lie above to be sorted.
template <int THREADS, int VOCAB>
INGOT_DEVICE void sort_likeliest(Here here, SHARED Drawing& own, GLOBAL const float* line, int count) {
  uint64 bound = 0;
  int shift = 64, above = 0, inclusive = VOCAB;
  while (inclusive > MOST_SORTED) {
    shift -= 8;
    for (int i = here.thread_index(); i < DIGITS; i += THREADS) own.bins[i] = 0;
    block_barrier();
    for (int i = here.thread_index(); i < VOCAB; i += THREADS) {
      uint64 rest = key_of(line[i], i) >> shift;
      if (shift == 56 || rest >> 8 == bound) add_shared(own.bins[rest & (DIGITS - 1)], 1);
    }
    block_barrier();
    if (here.thread_index() == 0) {
      int digit = DIGITS - 1, before = above;
      while (before + own.bins[digit] < count) before += own.bins[digit--];
      own.digit = digit;
      own.above = before;
      own.count = before + own.bins[digit];
    }
    block_barrier();
    bound = bound << 8 | uint64(own.digit);
    above = own.above;
    inclusive = own.count;
    block_barrier();
  }
  for (int i = here.thread_index(); i < MOST_SORTED; i += THREADS) own.keys[i] = 0;
  if (here.thread_index() == 0) own.count = 0;
  block_barrier();
  for (int i = here.thread_index(); i < VOCAB; i += THREADS) {
    uint64 key = key_of(line[i], i);
    if (shift == 64 || key >> shift >= bound) own.keys[add_shared(own.count, 1)] = key;
  }
  block_barrier();
  int room = 2;  // what is sorted: a power of two
  while (room < inclusive) room *= 2;
  for (int size = 2; size <= room; size *= 2)
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = here.thread_index(); i < room; i += THREADS) {
        int other = i ^ step;
        uint64 left = own.keys[i], right = own.keys[other];
        if (other > i && (left < right) == ((i & size) == 0)) {
          own.keys[i] = right;
          own.keys[other] = left;
        }
      }
      block_barrier();
    }
}

// Draw from the `count` likeliest, sorted.
template <int THREADS, int VOCAB>
INGOT_DEVICE int draw_sorted(Here here, SHARED Drawing& own, GLOBAL const float* line, Choice choice, uint64 top_p,
                             uint64 seed, int count) {
  sort_likeliest<THREADS, VOCAB>(here, own, line, count);
  float top = value_of(own.keys[0]);
  for (int i = here.thread_index(); i < MOST_SORTED; i += THREADS) {
    float weight = i < count ? exponential(divide(value_of(own.keys[i]) - top, choice.temperature)) : 0.0f;
    own.sums[i] = weight >= choice.min_p ? units_of(weight) : 0;
  }
  block_barrier();
  add_up<THREADS>(here, own.sums);
  uint64 total = own.sums[MOST_SORTED - 1];
  if (top_p >> 53 == 0) {
    int last = first_beyond<THREADS, true>(here, own, part_of(total, top_p, true));
    total = own.sums[last];
  }
  uint64 target = part_of(total, random_number(seed, 0, choice.place), false);
  return token_of(own.keys[first_beyond<THREADS, false>(here, own, target)]);
}

// The running sums of segments of MOST_SORTED tokens' weights.
template <int THREADS, int VOCAB>
INGOT_DEVICE void sum_segments(Here here, SHARED Drawing& own, GLOBAL const float* weights) {
  constexpr int SEGMENTS = (VOCAB + MOST_SORTED - 1) / MOST_SORTED;
  for (int i = SEGMENTS + here.thread_index(); i < MOST_SORTED; i += THREADS) own.sums[i] = 0;
  for (int segment = here.warp(); segment < SEGMENTS; segment += THREADS / WARP) {
    uint64 sum = 0;
    int start = segment * MOST_SORTED;
    for (int i = start + here.lane(); i < VOCAB && i < start + MOST_SORTED; i += WARP) sum += units_of(weights[i]);
    for (int mask = WARP / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    if (here.lane() == 0) own.sums[segment] = sum;
  }
  block_barrier();
  add_up<THREADS>(here, own.sums);
}

// Draw from all that min-p leaves, in the order of their numbers. Top-p without sorting, see runtime/sampling/drawing.py:
// a token is kept if those before it in order of weight do not have the mass already; else the next is drawn from them.
template <int THREADS, int VOCAB>
INGOT_DEVICE int draw_in_order(Here here, SHARED Drawing& own, GLOBAL float* line, Choice choice, uint64 top_p,
                               uint64 seed, float top) {
  static_assert(VOCAB <= MOST_SORTED * MOST_SORTED, "a segment's sum has a place");
  for (int i = here.thread_index(); i < VOCAB; i += THREADS) {
    float weight = exponential(product(line[i] - top, choice.inverse));
    line[i] = weight >= choice.min_p ? weight : 0.0f;
  }
  block_barrier();
  sum_segments<THREADS, VOCAB>(here, own, line);
  uint64 total = own.sums[MOST_SORTED - 1], mass = part_of(total, top_p, true);
  for (int attempt = 0;; ++attempt) {
    uint64 target = part_of(total, random_number(seed, attempt, choice.place), false);
    int segment = first_beyond<THREADS, false>(here, own, target);
    uint64 before = segment ? own.sums[segment - 1] : 0;
    block_barrier();
    for (int i = here.thread_index(); i < MOST_SORTED; i += THREADS) {
      int token = segment * MOST_SORTED + i;
      own.sums[i] = token < VOCAB ? units_of(line[token]) : 0;
    }
    block_barrier();
    add_up<THREADS>(here, own.sums);
    int token = segment * MOST_SORTED + first_beyond<THREADS, false>(here, own, target - before);
    if (top_p >> 53) return token;
    float weight = line[token];
    block_barrier();
    for (int i = here.thread_index(); i < VOCAB; i += THREADS) {
      bool is_before = line[i] > weight || (line[i] == weight && i < token);
      if (!is_before) line[i] = 0.0f;
    }
    block_barrier();
    sum_segments<THREADS, VOCAB>(here, own, line);
    total = own.sums[MOST_SORTED - 1];
    if (total < mass) return token;
  }
}

// A token of each line, -1 where there is none to choose; what is drawn from in order is written over. A block takes
// a line.
template <int THREADS, int VOCAB, int PIECES>
INGOT_DEVICE void draw_tokens(Here here, SHARED Drawing& own, GLOBAL const Choice* choices, GLOBAL const uint64* largest,
                              GLOBAL const int* counts, GLOBAL float* lines, GLOBAL int* chosen) {
  int number = here.block_x();
  Choice choice = choices[number];
  GLOBAL float* line = lines + (int64)number * VOCAB;
  uint64 most = largest_of_line<PIECES>(largest, number);
  float top = value_of(most);
  int token = is_finite(top) ? token_of(most) : -1;
  if (token >= 0 && !choice.is_greedy) {
    int count = 0, sorted;
    for (int piece = 0; piece < PIECES; ++piece) count += counts[(int64)number * PIECES + piece];
    bool is_cut = choice.top_k > 0 && choice.top_k < VOCAB;
    if (is_cut) sorted = choice.top_k < count ? choice.top_k : count;
    else sorted = count;
    if (!is_cut && count > MOST_SORTED && choice.min_p > 0.0f) {
      // A little lower than it should be, as it is compared with logits and not with their exponentials.
      float floor = top + choice.min_floor - 1e-4f * magnitude(top);
      if (here.thread_index() == 0) own.count = 0;
      block_barrier();
      int kept = 0;
      for (int i = here.thread_index(); i < VOCAB; i += THREADS) kept += line[i] >= floor;
      kept = sum_of_warp(kept);
      if (here.lane() == 0) add_shared(own.count, kept);
      block_barrier();
      sorted = own.count;
      block_barrier();
    }
    uint64 top_p = uint64(choice.top_p_high) << 32 | choice.top_p_low;
    uint64 seed = uint64(choice.seed_high) << 32 | choice.seed_low;
    token = sorted <= MOST_SORTED
                ? draw_sorted<THREADS, VOCAB>(here, own, line, choice, top_p, seed, sorted)
                : draw_in_order<THREADS, VOCAB>(here, own, line, choice, top_p, seed, top);
  }
  if (here.thread_index() == 0) chosen[number] = token;
}

}  // namespace ingot
