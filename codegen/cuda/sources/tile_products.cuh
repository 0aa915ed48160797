// Many rows times weights on tensor cores.
//
// Tiles of rows (tiles.cuh) are copied to shared memory some chunks ahead. Weights are the first factor and go straight to
// registers, where codes become numbers: so results are [output, row], and a lane has two neighbouring outputs of its
// rows. A warp takes BLOCKS times 16 outputs and all ROWS rows of the tile; on Hopper four warps multiply at once (wgmma).
// All warps do the same, so that each can have 255 registers: a warp more for the copies would leave 168.
#pragma once

namespace ingot {

#if !INGOT_WARPGROUPS  // products of one warp are over when they return
INGOT_DEVICE void start_products() {}
INGOT_DEVICE void end_products() {}
template <int PENDING>
INGOT_DEVICE void wait_for_products() {}
#endif

CONSTANT int TILE_WARPS = 8, MOST_STAGES = 8, TILE_ALIGNMENT = 1024;

// Stages of shared memory, as many as there is room for, each for a chunk of ROWS rows, filled and emptied in turn. Each
// warp copies its share.
template <int ROWS>
struct Ring {
  CONSTANT int BYTES = ROWS * CHUNK_BYTES, SHARE = ROWS / TILE_WARPS;
  unsigned char* stages;
  uint64 *full, *empty;
  int num_stages, stage = 0, next_stage = 0;
  unsigned parity = 0, next_parity = 1;

  INGOT_DEVICE explicit Ring(unsigned char* shared) : stages(shared) {
    int room = (dynamic_shared_bytes() - TILE_ALIGNMENT) / (BYTES + 2 * int(sizeof(uint64)));
    num_stages = room < MOST_STAGES ? room : MOST_STAGES;
    full = reinterpret_cast<uint64*>(shared + num_stages * BYTES);
    empty = full + num_stages;
  }
  INGOT_DEVICE void start(Here here) {
    if (here.thread_index() == 0) {
      for (int i = 0; i < num_stages; ++i) {
        start_barrier(full + i, TILE_WARPS * COPY_ARRIVALS);
        start_barrier(empty + i, TILE_WARPS);
      }
      publish_barriers();
    }
    block_barrier();
  }
  // Copy this warp's share of the chunk that begins at source into the next stage, when that is empty.
  INGOT_DEVICE void fill(Here here, const unsigned char* source, int num_rows) {
    wait_for(empty + next_stage, next_parity);
    int first = here.warp() * SHARE, present = num_rows - first < SHARE ? num_rows - first : SHARE;
    copy_by_warp(here, stages + next_stage * BYTES + first * CHUNK_BYTES, source + first * CHUNK_BYTES,
                 present > 0 ? present * CHUNK_BYTES : 0, full + next_stage);
    if (++next_stage == num_stages) next_stage = 0, next_parity ^= 1;
  }
  INGOT_DEVICE const unsigned char* take() const {
    wait_for(full + stage, parity);
    return stages + stage * BYTES;
  }
  INGOT_DEVICE void give_back(Here here) {
    warp_barrier();
    if (here.lane() == 0) arrive(empty + stage);
    if (++stage == num_stages) stage = 0, parity ^= 1;
  }
};

// A step of a stage: sums += weights times rows. A lane's sums are, for each tile of eight rows, those of rows
// 2 i and 2 i + 1 and output 2 g, then of the same rows and output 2 g + 1.
template <int BLOCKS, int ROWS, class Fragments, class Sum>
INGOT_DEVICE void multiply_step(Here here, Sum (&sums)[BLOCKS][ROWS / 2], const unsigned (&a)[BLOCKS][STEPS][4],
                                const unsigned char* stage, int step) {
#if INGOT_WARPGROUPS
  // PTX' descriptor of a matrix: rows of 128 bytes, swizzled so, and 1024 bytes from eight of them to the next.
  uint64 matrix = (shared_address(stage + step * 2 * PART_BYTES) & 0x3ffffu) >> 4;
  matrix |= (uint64)1 << 16 | (uint64)(8 * CHUNK_BYTES >> 4) << 32 | (uint64)1 << 62;
#pragma unroll
  for (int b = 0; b < BLOCKS; ++b) Fragments::multiply_group(sums[b], a[b][step], matrix);
#else
  int row = here.lane() / 16 * 8 + here.lane() % 8, part = step * 2 + here.lane() / 8 % 2;
  const unsigned char* own = stage + row * CHUNK_BYTES + (part ^ row % 8) * PART_BYTES;
#pragma unroll
  for (int tile = 0; tile < ROWS / 8; tile += 2) {
    unsigned words[4];
    load_matrices(words, own + tile * 8 * CHUNK_BYTES);
    const unsigned low[2] = {words[0], words[1]}, high[2] = {words[2], words[3]};
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
      Fragments::multiply(reinterpret_cast<Sum(&)[4]>(sums[b][tile * 4]), a[b][step], low);
      Fragments::multiply(reinterpret_cast<Sum(&)[4]>(sums[b][tile * 4 + 4]), a[b][step], high);
    }
  }
#endif
}

// How sums become results. Those of floats are results.
struct NoScales {
  CONSTANT bool ARE_OF_STEPS = false;
  INGOT_DEVICE float finish(float sum, int, int) const { return sum; }
};

// Sums of whole numbers are scaled at the end, where each row and each output has one scale.
template <class Weights>
struct ScalesOfRows {
  CONSTANT bool ARE_OF_STEPS = false;
  Weights weights;
  const float* row_scales;
  INGOT_DEVICE float finish(int sum, int row, int output) const {
    return weights.of_sums(output / BLOCK, output % BLOCK, float(sum), 0, row_scales[row]);
  }
};

// Or step by step, where groups have scales: of 16 inputs two products of a step are. What is known of a row's groups
// is [group, row] here: scales, and where weights have offsets the sums of its codes, scaled.
template <class Weights, int ROW_GROUP>
struct ScalesOfGroups {
  CONSTANT bool ARE_OF_STEPS = true;
  CONSTANT int STEPS_AT_ONCE = 1, PARTS = Weights::IS_WHOLE || Weights::GROUP % SPAN == 0 ? 1 : 2;
  Weights weights;
  const float* row_scales;
  const float* row_sums;
  INGOT_DEVICE float finish(float sum, int, int) const { return sum; }

  INGOT_DEVICE float scale_of(int block, int input, int output) const {
    if constexpr (Weights::IS_WHOLE) return weights.scales.of_row(block, output);
    return weights.scales.at(block, input, output);
  }
  template <int ROWS>
  INGOT_DEVICE void add(Here here, float (&sums)[ROWS / 2], const int (&products)[ROWS / 2], int block, int input,
                        int first_row, int num_rows) const {
    int group = here.lane() / 4, inside = here.lane() % 4, rows = (num_rows + 1) / 2 * 2;
    const float* own = row_scales + (int64)(input / ROW_GROUP) * rows;
    float first = scale_of(block, input, group * 2), second = scale_of(block, input, group * 2 + 1);
    if constexpr (Weights::HAS_OFFSETS) {
      const float* own_sums = row_sums + (int64)(input / (SPAN / PARTS)) * rows;
      float zero = weights.zero_of(block, input, group * 2), other = weights.zero_of(block, input, group * 2 + 1);
#pragma unroll
      for (int tile = 0; tile < ROWS / 8; ++tile) {
        int row = first_row + tile * 8 + inside * 2;
        float2 sum = {};
        if (row < num_rows) sum = *reinterpret_cast<const float2*>(own_sums + row);
        sums[tile * 4] = fused_multiply_add(sum.x, zero, sums[tile * 4]);
        sums[tile * 4 + 1] = fused_multiply_add(sum.y, zero, sums[tile * 4 + 1]);
        sums[tile * 4 + 2] = fused_multiply_add(sum.x, other, sums[tile * 4 + 2]);
        sums[tile * 4 + 3] = fused_multiply_add(sum.y, other, sums[tile * 4 + 3]);
      }
    }
#pragma unroll
    for (int tile = 0; tile < ROWS / 8; ++tile) {
      int row = first_row + tile * 8 + inside * 2;
      float2 scale = {};
      if (row < num_rows) scale = *reinterpret_cast<const float2*>(own + row);
      sums[tile * 4] = fused_multiply_add(float(products[tile * 4]), scale.x * first, sums[tile * 4]);
      sums[tile * 4 + 1] = fused_multiply_add(float(products[tile * 4 + 1]), scale.y * first, sums[tile * 4 + 1]);
      sums[tile * 4 + 2] = fused_multiply_add(float(products[tile * 4 + 2]), scale.x * second, sums[tile * 4 + 2]);
      sums[tile * 4 + 3] = fused_multiply_add(float(products[tile * 4 + 3]), scale.y * second, sums[tile * 4 + 3]);
    }
  }
};

// Rows of floats have no scales. Where groups of weights have, sums are scaled a group at a time, or a chunk.
template <class Weights>
struct ScalesOfWeights {
  CONSTANT bool ARE_OF_STEPS = Weights::GROUP != Weights::INPUTS;
  CONSTANT int PARTS = 1, STEPS_AT_ONCE = Weights::GROUP % 64 == 0 ? 4 : 2;
  Weights weights;
  INGOT_DEVICE float finish(float sum, int, int output) const {
    return ARE_OF_STEPS ? sum : sum * weights.scales.at(output / BLOCK, 0, output % BLOCK);
  }
  template <int ROWS>
  INGOT_DEVICE void add(Here here, float (&sums)[ROWS / 2], const float (&products)[ROWS / 2], int block, int input,
                        int, int) const {
    int output = here.lane() / 4 * 2;
    float first = weights.scales.at(block, input, output), second = weights.scales.at(block, input, output + 1);
#pragma unroll
    for (int i = 0; i < ROWS / 2; ++i)
      sums[i] = fused_multiply_add(products[i], i % 4 < 2 ? first : second, sums[i]);
  }
};

// Both are floats of eight bits. Tensor cores keep few bits of such sums, so those of a chunk at most are added to others
// in float32. A row's scales are [group, row].
template <class Weights, int ROW_GROUP>
struct ScalesOfFloat8 {
  CONSTANT bool ARE_OF_STEPS = true, ARE_OF_ROWS = Weights::GROUP == Weights::INPUTS && ROW_GROUP == Weights::INPUTS;
  CONSTANT int GROUP = ARE_OF_ROWS ? 128 : Weights::GROUP < ROW_GROUP ? Weights::GROUP : ROW_GROUP;
  CONSTANT int PARTS = 1, STEPS_AT_ONCE = GROUP % 128 == 0 ? 4 : GROUP % 64 == 0 ? 2 : 1;
  Weights weights;
  const float* row_scales;
  INGOT_DEVICE float finish(float sum, int row, int output) const {
    return ARE_OF_ROWS ? sum * (row_scales[row] * weights.scales.at(output / BLOCK, 0, output % BLOCK)) : sum;
  }
  template <int ROWS>
  INGOT_DEVICE void add(Here here, float (&sums)[ROWS / 2], const float (&products)[ROWS / 2], int block, int input,
                        int first_row, int num_rows) const {
    if constexpr (ARE_OF_ROWS) {
#pragma unroll
      for (int i = 0; i < ROWS / 2; ++i) sums[i] += products[i];
    } else {
      int output = here.lane() / 4 * 2, row = first_row + here.lane() % 4 * 2;
      const float* own = row_scales + (int64)(input / ROW_GROUP) * ((num_rows + 1) / 2 * 2);
      float first = weights.scales.at(block, input, output), second = weights.scales.at(block, input, output + 1);
#pragma unroll
      for (int tile = 0; tile < ROWS / 8; ++tile) {
        float2 scale = {};
        if (row + tile * 8 < num_rows) scale = *reinterpret_cast<const float2*>(own + row + tile * 8);
        for (int i = 0; i < 4; ++i) {
          float factor = (i % 2 ? scale.y : scale.x) * (i < 2 ? first : second);
          sums[tile * 4 + i] = fused_multiply_add(products[tile * 4 + i], factor, sums[tile * 4 + i]);
        }
      }
    }
  }
};

template <bool IS_FLOAT, class Sum>
struct SumOf {
  using Type = Sum;
};
template <class Sum>
struct SumOf<true, Sum> {  // scaled
  using Type = float;
};

// What is made of two neighbouring halves of results: nothing, or one of both, the first activated times the second.
struct NoGate {
  CONSTANT bool IS_THERE = false;
};
template <class Activation>
struct GateOf {
  CONSTANT bool IS_THERE = true;
  static INGOT_DEVICE float of(float gate, float up) { return Activation::of(gate) * up; }
};

// The product. COPIES of each chunk's rows are multiplied by the same weights: two where rows are split. A block takes the
// chunks of one of SPLIT parts, and with more than one gives its sums as they are to join_splits; weights are read
// DEPTH chunks ahead. Where there is a Gate, a warp has a block of the first half of the outputs and its counterpart of the
// second, so that only what is made of both is written.
template <int BLOCKS, int ROWS, int DEPTH, int COPIES, int SPLIT, int OUTPUTS, class Fragments, bool HAS_BIAS, class Weights,
          class Scales, class Tile, class Gate, class Result>
INGOT_DEVICE void multiply_many(Here here, unsigned char* shared, Tile tile, const unsigned char* tiles, Weights weights,
                                Scales scales, const float* bias, Gate, Result* out) {
  static_assert(!Gate::IS_THERE || (BLOCKS == 2 && SPLIT == 1 && OUTPUTS % (2 * BLOCK) == 0), "halves of whole blocks");
  constexpr int OWN_OUTPUTS = Gate::IS_THERE ? OUTPUTS / 2 : OUTPUTS;
  constexpr int LAST_BLOCK = (OUTPUTS - 1) / BLOCK, IN_PART = (Fragments::CHUNKS + SPLIT - 1) / SPLIT;
  using Sum = typename SumOf<Scales::ARE_OF_STEPS, typename Fragments::Sum>::Type;
  int num_rows = tile.num_rows, first_row = tile.first_row;
  int first_chunk = SPLIT > 1 ? here.block_z() * IN_PART : 0, num_chunks = IN_PART;
  if (Fragments::CHUNKS % SPLIT != 0 && Fragments::CHUNKS - first_chunk < IN_PART) num_chunks = Fragments::CHUNKS - first_chunk;

  Ring<ROWS> ring(shared);
  ring.start(here);
  const unsigned char* source = tiles + ((int64)first_chunk * COPIES * num_rows + first_row) * CHUNK_BYTES;
  int num_fills = num_chunks * COPIES, fills = 0;
  auto fill = [&]() {
    if (fills < num_fills) ring.fill(here, source + (int64)fills * num_rows * CHUNK_BYTES, tile.end_row - first_row);
    ++fills;
  };
  int blocks[BLOCKS];
  for (int b = 0; b < BLOCKS; ++b) {
    int warp = here.block_y() * TILE_WARPS + here.warp();
    blocks[b] = Gate::IS_THERE ? warp + b * (OWN_OUTPUTS / BLOCK) : warp * BLOCKS + b;
    if (blocks[b] > LAST_BLOCK) blocks[b] = LAST_BLOCK;  // the same again
    blocks[b] += tile.first_block();
  }
  typename Fragments::Raw raw[DEPTH][BLOCKS];
  auto load = [&](int into, int chunk) {
    if (chunk >= num_chunks) return;
    for (int b = 0; b < BLOCKS; ++b) Fragments::load(weights, blocks[b], first_chunk + chunk, here.lane(), raw[into][b]);
  };
#pragma unroll
  for (int d = 0; d < DEPTH; ++d) load(d, d);

  wait_for_launch_before();
  for (int i = 1; i < ring.num_stages; ++i) fill();
  Sum sums[BLOCKS][ROWS / 2] = {};
  for (int start = 0; start < num_chunks; start += DEPTH) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      if (DEPTH > 1 && start + d >= num_chunks) break;
      unsigned a[BLOCKS][STEPS][4];
      for (int b = 0; b < BLOCKS; ++b) Fragments::decode(raw[d][b], here.lane(), a[b]);
      unsigned rest[BLOCKS][STEPS][4];  // for the last copy, which is of rows as they are nearly
      if constexpr (Fragments::HAVE_REST)
        for (int b = 0; b < BLOCKS; ++b) Fragments::decode_rest(raw[d][b], here.lane(), rest[b]);
      load(d, start + d + DEPTH);
      for (int copy = 0; copy < COPIES; ++copy) {
        const unsigned char* stage = ring.take();
        if constexpr (Scales::ARE_OF_STEPS) {
          fill();
          constexpr int AT_ONCE = Scales::STEPS_AT_ONCE, PARTS = Scales::PARTS;
#pragma unroll
          for (int number = 0; number < STEPS / AT_ONCE * PARTS; ++number) {
            int first = number / PARTS * AT_ONCE, part = number % PARTS;
            int input = ((first_chunk + start + d) * STEPS + first) * Fragments::STEP_INPUTS;
            if (input >= Fragments::INPUTS) break;
#pragma unroll
            for (int b = 0; b < BLOCKS; ++b) {  // one after the other, which takes fewer registers
              typename Fragments::Sum products[1][ROWS / 2] = {};
              unsigned own[1][STEPS][4];
#pragma unroll
              for (int step = first; step < first + AT_ONCE; ++step)
                for (int i = 0; i < 4; ++i)  // the fours of the first 16 inputs are the first lanes'
                  own[0][step][i] = PARTS == 1 || here.lane() % 4 / 2 == part ? a[b][step][i] : 0;
              start_products();
#pragma unroll
              for (int step = first; step < first + AT_ONCE; ++step) {
                if constexpr (Fragments::HAVE_REST) {
                  const auto& of_rest = reinterpret_cast<const unsigned(&)[1][STEPS][4]>(rest[b]);
                  if (copy == COPIES - 1) multiply_step<1, ROWS, Fragments>(here, products, of_rest, stage, step);
                }
                multiply_step<1, ROWS, Fragments>(here, products, own, stage, step);
              }
              end_products();
              wait_for_products<0>();
              int own_input = input + part * (AT_ONCE * Fragments::STEP_INPUTS / PARTS);
              scales.template add<ROWS>(here, sums[b], products[0], blocks[b], own_input, first_row, num_rows);
            }
          }
        } else {
          start_products();
#pragma unroll
          for (int step = 0; step < STEPS; ++step) {
            if constexpr (Fragments::HAVE_REST) {
              if (copy == COPIES - 1) multiply_step<BLOCKS, ROWS, Fragments>(here, sums, rest, stage, step);
            }
            multiply_step<BLOCKS, ROWS, Fragments>(here, sums, a, stage, step);
          }
          end_products();
          fill();  // meanwhile
          wait_for_products<0>();
        }
        ring.give_back(here);
      }
    }
  }

  int group = here.lane() / 4, inside = here.lane() % 4;
#pragma unroll
  for (int b = 0; b < (Gate::IS_THERE ? 1 : BLOCKS); ++b) {
    int number = (here.block_y() * TILE_WARPS + here.warp()) * (Gate::IS_THERE ? 1 : BLOCKS) + b;
    int output = number * BLOCK + group * 2;
    if (output >= OWN_OUTPUTS) continue;
    auto value = [&](Sum sum, int row, int own) {
      own += tile.first_block() * BLOCK;
      if constexpr (SPLIT > 1) return sum;
      else return scales.finish(sum, tile.source(row), own) + (HAS_BIAS ? bias[own] : 0.0f);
    };
#pragma unroll
    for (int rows = 0; rows < ROWS / 8; ++rows)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        int row = first_row + rows * 8 + inside * 2 + i;
        if (row >= tile.end_row) continue;
        int64 before = SPLIT > 1 ? (int64)here.block_z() * num_rows : 0;
        Result* own = out + (before + tile.target(row)) * OWN_OUTPUTS + output;
        Result pair[2] = {value(sums[b][rows * 4 + i], row, output), 0};
        if (OUTPUTS % 2 == 0 || output + 1 < OUTPUTS) pair[1] = value(sums[b][rows * 4 + 2 + i], row, output + 1);
        if constexpr (Gate::IS_THERE)
          for (int j = 0; j < 2; ++j)
            pair[j] = Gate::of(pair[j], value(sums[1][rows * 4 + j * 2 + i], row, OWN_OUTPUTS + output + j));
        if constexpr (OUTPUTS % 2 == 0) {
          *reinterpret_cast<uint2*>(own) = reinterpret_cast<const uint2&>(pair);
        } else {
          own[0] = pair[0];
          if (output + 1 < OUTPUTS) own[1] = pair[1];
        }
      }
  }
}

// The sums of the parts [part, row, output], added in their order. A block takes a row.
template <int THREADS, int SPLIT, int OUTPUTS, bool HAS_BIAS, class Scales, class Sum>
INGOT_DEVICE void join_splits(Here here, const Sum* parts, Scales scales, const float* bias, float* out, int num_rows) {
  int row = here.block_x();
  for (int output = here.thread_index(); output < OUTPUTS; output += THREADS) {
    Sum sum = parts[(int64)row * OUTPUTS + output];
    for (int part = 1; part < SPLIT; ++part) sum += parts[((int64)part * num_rows + row) * OUTPUTS + output];
    out[(int64)row * OUTPUTS + output] = scales.finish(sum, row, output) + (HAS_BIAS ? bias[output] : 0.0f);
  }
}

}  // namespace ingot
