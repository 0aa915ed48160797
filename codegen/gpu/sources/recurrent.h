// Layers with a state: short convolutions, and recurrences, which walk over a sequence's tokens in order.
//
// A slot of state belongs to a page: what the state was behind the last of the page's tokens that are computed (see
// ir/operators/recurrent.py). A sequence begins with the slot of the page before its first token, and writes those of
// the pages that its tokens fill or end in. What a thread reads of a slot, no other writes.
#pragma once

namespace ingot {

// A sequence's tokens of this step: rows begin to end, behind so many that were done before.
struct Run {
  int begin, end, done;
  GLOBAL const int* pages;

  INGOT_DEVICE int length() const { return done + end - begin; }
};

INGOT_DEVICE Run run_of(Batch batch, int sequence) {
  Run run;
  run.begin = batch.sequence_starts[sequence];
  run.end = batch.sequence_starts[sequence + 1];
  run.done = batch.context_lengths[sequence] - (run.end - run.begin);
  run.pages = batch.page_table + (int64)sequence * batch.table_width;
  return run;
}

// Of each channel over the tokens up to its own, then activated; a slot is the last TAPS - 1 rows. A block takes THREADS channels of
// TOKENS tokens. The first tokens' alone have to do with slots: they read one and then write all of the sequence.
template <int THREADS, int TOKENS, class X, int TAPS, int PAGE_SIZE, bool HAS_BIAS, class Activation>
INGOT_DEVICE void convolve(Here here, GLOBAL float* slots, GLOBAL const float* x, GLOBAL const float* weight,
                           GLOBAL const float* bias, Batch batch, GLOBAL float* out) {
  constexpr int BEFORE = TAPS - 1;
  static_assert(TOKENS >= BEFORE, "only a sequence's first tokens reach back to before it");
  int channel = here.block_y() * THREADS + here.thread_index();
  Tile tile = tile_of<TOKENS>(batch.sequence_starts, batch.num_sequences, here.block_x());
  if (tile.sequence == batch.num_sequences || channel >= X::WIDTH) return;
  Run run = run_of(batch, tile.sequence);
  int first = run.begin + tile.number * TOKENS;
  GLOBAL const float* slot = slots;
  if (run.done > 0) slot += (int64)run.pages[(run.done - 1) / PAGE_SIZE] * BEFORE * X::WIDTH;
  float rows[BEFORE + TOKENS], taps[TAPS];  // rows from BEFORE before the first on
#pragma unroll
  for (int i = 0; i < BEFORE + TOKENS; ++i) {
    int row = first - BEFORE + i;
    rows[i] = 0;
    if (row >= run.begin && row < run.end) rows[i] = X::at(x, row)[channel];
    if (row < run.begin && run.done > 0) rows[i] = slot[(int64)(BEFORE + row - run.begin) * X::WIDTH + channel];
  }
#pragma unroll
  for (int tap = 0; tap < TAPS; ++tap) taps[tap] = weight[tap * X::WIDTH + channel];
#pragma unroll
  for (int i = 0; i < TOKENS; ++i) {
    if (first + i >= run.end) break;
    float sum = 0;
    if constexpr (HAS_BIAS) sum = bias[channel];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) sum = fused_multiply_add(rows[i + tap], taps[tap], sum);
    out[(int64)(first + i) * X::WIDTH + channel] = Activation::of(sum);
  }
  if (tile.number > 0) return;
  for (int page = run.done / PAGE_SIZE; page * PAGE_SIZE < run.length(); ++page) {
    int end = (page + 1) * PAGE_SIZE < run.length() ? (page + 1) * PAGE_SIZE : run.length();
    GLOBAL float* written = slots + (int64)run.pages[page] * BEFORE * X::WIDTH;
#pragma unroll
    for (int i = 0; i < BEFORE; ++i) {
      int row = run.begin + end - run.done - BEFORE + i;
      float value = 0;
      if (row >= run.begin) value = X::at(x, row)[channel];
#pragma unroll
      for (int j = 0; j < BEFORE; ++j)
        if (row - run.begin + BEFORE == j) value = rows[j];
      written[i * X::WIDTH + channel] = value;
    }
  }
}

// A state: STATE numbers for each of WIDTH columns of each of HEADS, of which GROUPS share keys and queries. PARTS
// lanes share a column; TILE tokens' rows are in shared memory at a time.
//
// Where it CORRECTS itself, what a key recalls is taken from a token's value before that is written (Yang et al.,
// 2024); where it does not, it is the state of Mamba-2 (Dao and Gu, 2024).
template <int HEADS_, int STATE_, int WIDTH_, int GROUPS_, int PAGE_SIZE_, int PARTS_, int TILE_, bool CORRECTS_>
struct State {
  CONSTANT int HEADS = HEADS_, STATE = STATE_, WIDTH = WIDTH_, GROUP = HEADS_ / GROUPS_, PAGE_SIZE = PAGE_SIZE_;
  CONSTANT int PARTS = PARTS_, TILE = TILE_, COLUMNS = WARP / PARTS_;
  CONSTANT int FOURS = (STATE_ + 4 * PARTS_ - 1) / (4 * PARTS_);  // of a column that a lane has
  CONSTANT bool CORRECTS = CORRECTS_;
};

// The sum over the lanes that share a column, for each of them.
template <class Shape>
INGOT_DEVICE float sum_of_parts(OWN const float (&sums)[4]) {
  float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (int mask = Shape::COLUMNS; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
  return sum;
}

// A block of WARPS warps takes COLUMNS columns a warp of one head through a sequence's tokens. A lane keeps fours of
// its column's state, PARTS fours apart. With t = softplus(steps + bias) the state h fades to exp(t * decay) h, a
// token's key times t (or its rate, when it corrects itself) times its x is added, and the result is the query's
// product with h, and skip times x.
template <int WARPS, class Shape, class X, class Steps, class Keys, class Queries, class Rates>
INGOT_DEVICE void walk(Here here, SHARED float4 (&keys)[Shape::TILE][Shape::FOURS * Shape::PARTS],
                       SHARED float4 (&queries)[Shape::TILE][Shape::FOURS * Shape::PARTS],
                       SHARED float (&columns)[Shape::TILE][WARPS * Shape::COLUMNS],
                       SHARED float (&factors)[Shape::TILE][2], GLOBAL float* slots, GLOBAL const float* x,
                       GLOBAL const float* steps, GLOBAL const float* key, GLOBAL const float* query,
                       GLOBAL const float* rates, GLOBAL const float* decay, GLOBAL const float* skip,
                       GLOBAL const float* bias, Batch batch, GLOBAL float* out) {
  constexpr int STRIP = WARPS * Shape::COLUMNS, STRIPS = (Shape::WIDTH + STRIP - 1) / STRIP;
  constexpr int FOURS = Shape::FOURS, STATE = Shape::STATE, WIDTH = Shape::WIDTH, ROW = FOURS * Shape::PARTS;
  int head = here.block_x() / STRIPS, first_column = here.block_x() % STRIPS * STRIP;
  int inside = here.warp() * Shape::COLUMNS + here.lane() % Shape::COLUMNS, part = here.lane() / Shape::COLUMNS;
  int column = first_column + inside, group = head / Shape::GROUP;
  Run run = run_of(batch, here.block_y());
  float state[FOURS][4] = {};
  if (run.done > 0 && column < WIDTH) {
    int64 slot = (int64)run.pages[(run.done - 1) / Shape::PAGE_SIZE] * Shape::HEADS + head;
#pragma unroll
    for (int i = 0; i < FOURS; ++i)
      for (int j = 0; j < 4; ++j) {
        int element = (i * Shape::PARTS + part) * 4 + j;
        if (element < STATE) state[i][j] = slots[(slot * STATE + element) * WIDTH + column];
      }
  }
  for (int start = run.begin; start < run.end; start += Shape::TILE) {
    int count = run.end - start < Shape::TILE ? run.end - start : Shape::TILE;
    block_barrier();
    for (int i = here.thread_index(); i < count * ROW; i += WARPS * WARP) {
      keys[i / ROW][i % ROW] = four_of<Keys, STATE>(key, start + i / ROW, group, i % ROW * 4);
      queries[i / ROW][i % ROW] = four_of<Queries, STATE>(query, start + i / ROW, group, i % ROW * 4);
    }
    for (int i = here.thread_index(); i < count * STRIP; i += WARPS * WARP) {
      int own = first_column + i % STRIP;
      columns[i / STRIP][i % STRIP] = own < WIDTH ? X::at(x, start + i / STRIP)[head * WIDTH + own] : 0.0f;
    }
    for (int i = here.thread_index(); i < count; i += WARPS * WARP) {
      float time = softplus(Steps::at(steps, start + i)[head] + bias[head]);
      factors[i][0] = exponential(time * decay[head]);
      if constexpr (Shape::CORRECTS) factors[i][1] = Rates::at(rates, start + i)[head];
      else factors[i][1] = time;
    }
    block_barrier();
    for (int token = 0; token < count; ++token) {
      float kept = factors[token][0], value = columns[token][inside], added = value;
      if constexpr (Shape::CORRECTS) {
        float sums[4] = {};
#pragma unroll
        for (int i = 0; i < FOURS; ++i) {
          float4 four = keys[token][i * Shape::PARTS + part];
          sums[0] = fused_multiply_add(state[i][0], four.x, sums[0]);
          sums[1] = fused_multiply_add(state[i][1], four.y, sums[1]);
          sums[2] = fused_multiply_add(state[i][2], four.z, sums[2]);
          sums[3] = fused_multiply_add(state[i][3], four.w, sums[3]);
        }
        added -= sum_of_parts<Shape>(sums) * kept;
      }
      added *= factors[token][1];
      float sums[4] = {};
#pragma unroll
      for (int i = 0; i < FOURS; ++i) {
        float4 four = keys[token][i * Shape::PARTS + part], asked = queries[token][i * Shape::PARTS + part];
        state[i][0] = fused_multiply_add(added, four.x, state[i][0] * kept);
        state[i][1] = fused_multiply_add(added, four.y, state[i][1] * kept);
        state[i][2] = fused_multiply_add(added, four.z, state[i][2] * kept);
        state[i][3] = fused_multiply_add(added, four.w, state[i][3] * kept);
        sums[0] = fused_multiply_add(state[i][0], asked.x, sums[0]);
        sums[1] = fused_multiply_add(state[i][1], asked.y, sums[1]);
        sums[2] = fused_multiply_add(state[i][2], asked.z, sums[2]);
        sums[3] = fused_multiply_add(state[i][3], asked.w, sums[3]);
      }
      float result = sum_of_parts<Shape>(sums);
      if constexpr (!Shape::CORRECTS) result = fused_multiply_add(skip[head], value, result);
      int row = start + token, now_done = run.done + row + 1 - run.begin;
      if (column >= WIDTH) continue;
      if (part == 0) out[((int64)row * Shape::HEADS + head) * WIDTH + column] = result;
      if (now_done % Shape::PAGE_SIZE != 0 && row + 1 != run.end) continue;
      int64 slot = (int64)run.pages[(now_done - 1) / Shape::PAGE_SIZE] * Shape::HEADS + head;
#pragma unroll
      for (int i = 0; i < FOURS; ++i)
        for (int j = 0; j < 4; ++j) {
          int element = (i * Shape::PARTS + part) * 4 + j;
          if (element < STATE) slots[(slot * STATE + element) * WIDTH + column] = state[i][j];
        }
    }
  }
}

// The same where a state is one number a column, as that of Mamba (Gu and Dao, 2023) is: a thread has a column.
// What AHEAD tokens have is loaded at once.
template <int THREADS, int AHEAD, class Shape, class X, class Steps, class Keys, class Queries>
INGOT_DEVICE void walk_columns(Here here, GLOBAL float* slots, GLOBAL const float* x, GLOBAL const float* steps,
                               GLOBAL const float* key, GLOBAL const float* query, GLOBAL const float* decay,
                               GLOBAL const float* skip, GLOBAL const float* bias, Batch batch, GLOBAL float* out) {
  constexpr int ALL = Shape::HEADS * Shape::WIDTH;
  int column = here.block_x() * THREADS + here.thread_index(), head = column / Shape::WIDTH, group = head / Shape::GROUP;
  if (column >= ALL) return;
  Run run = run_of(batch, here.block_y());
  float state = 0, own_decay = decay[head], own_skip = skip[head], own_bias = bias[head];
  if (run.done > 0) state = slots[(int64)run.pages[(run.done - 1) / Shape::PAGE_SIZE] * ALL + column];
  for (int start = run.begin; start < run.end; start += AHEAD) {
    float values[AHEAD], times[AHEAD], written[AHEAD], asked[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      int row = start + i < run.end ? start + i : run.end - 1;
      values[i] = X::at(x, row)[column];
      times[i] = Steps::at(steps, row)[head];
      written[i] = Keys::at(key, row)[group];
      asked[i] = Queries::at(query, row)[group];
    }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      int row = start + i, now_done = run.done + row + 1 - run.begin;
      if (row >= run.end) break;
      float time = softplus(times[i] + own_bias);
      state = fused_multiply_add(values[i] * time, written[i], state * exponential(time * own_decay));
      out[(int64)row * ALL + column] = fused_multiply_add(state, asked[i], own_skip * values[i]);
      if (now_done % Shape::PAGE_SIZE == 0 || row + 1 == run.end)
        slots[(int64)run.pages[(now_done - 1) / Shape::PAGE_SIZE] * ALL + column] = state;
    }
  }
}

}  // namespace ingot
