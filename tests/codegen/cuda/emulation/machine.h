// The CUDA machine on a CPU: threads are fibers that run one after the other until they meet.
//
// Takes the place of codegen/cuda/sources/machine.cuh, so that the kernels' arithmetic runs as it is written,
// warps, barriers and tensor cores included. Blocks run one after the other, so that what is shared can be static.
#pragma once

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define INGOT_KERNEL(threads) extern "C" void
#define INGOT_DEVICE inline
#define GLOBAL
#define SHARED
#define OWN
#define CONSTANT static constexpr
#define TABLE static const
#define SHARED_ARRAY(type, name, extents) static type name extents
#define __restrict__

struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float4 { float x, y, z, w; };

namespace emulation {

constexpr int LANES = 32, STACK_BYTES = 128 << 10;

struct Warp {
  int waiting = 0, generation = 0;
  uint64_t slots[2][LANES][8];
};

struct Fiber {
  ucontext_t start;
  jmp_buf resume;
  std::vector<char> stack;
  bool begun = false, ended = false;
  int exchanges = 0;
};

struct Block {
  int x = 0, y = 0, z = 0, num_threads = 0, running = 0, waiting = 0, generation = 0;
};

inline Block block;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline std::vector<int> left_in_warp;
inline int current = 0;
inline jmp_buf scheduler;
inline ucontext_t home;
inline void (*body)(void**) = nullptr;
inline void** arguments = nullptr;

inline void give_way() {
  if (!_setjmp(fibers[current].resume)) _longjmp(scheduler, 1);
}

inline void trampoline() {
  body(arguments);
  fibers[current].ended = true;
  _longjmp(scheduler, 1);
}

inline void meet_block() {
  int generation = block.generation;
  ++block.waiting;
  while (block.generation == generation && block.waiting < block.running) give_way();
  if (block.generation == generation) {
    block.waiting = 0;
    ++block.generation;
  }
}

inline void meet_warp() {
  int number = current / LANES;
  Warp& warp = warps[number];
  int generation = warp.generation;
  ++warp.waiting;
  while (warp.generation == generation && warp.waiting < left_in_warp[number]) give_way();
  if (warp.generation == generation) {
    warp.waiting = 0;
    ++warp.generation;
  }
}

// Each lane leaves words; what all left is returned. Two sets of slots in turn, so that one meeting suffices.
inline uint64_t (*exchange(const uint64_t* words, int count))[8] {
  Warp& warp = warps[current / LANES];
  int turn = fibers[current].exchanges++ % 2;
  for (int i = 0; i < count; ++i) warp.slots[turn][current % LANES][i] = words[i];
  meet_warp();
  return warp.slots[turn];
}

inline void run_block(int num_threads) {
  if (int(fibers.size()) < num_threads) {
    fibers.resize(num_threads);
    for (auto& fiber : fibers) fiber.stack.resize(STACK_BYTES);
  }
  warps.assign((num_threads + LANES - 1) / LANES, Warp());
  left_in_warp.assign(warps.size(), 0);
  block.num_threads = block.running = num_threads;
  block.waiting = block.generation = 0;
  for (int i = 0; i < num_threads; ++i) {
    fibers[i].begun = fibers[i].ended = false;
    fibers[i].exchanges = 0;
    ++left_in_warp[i / LANES];
  }
  static volatile int next;
  for (next = 0; block.running > 0; next = (next + 1) % num_threads) {
    Fiber& fiber = fibers[next];
    if (fiber.ended) continue;
    current = next;
    if (!_setjmp(scheduler)) {
      if (fiber.begun) _longjmp(fiber.resume, 1);
      fiber.begun = true;
      getcontext(&fiber.start);
      fiber.start.uc_stack.ss_sp = fiber.stack.data();
      fiber.start.uc_stack.ss_size = fiber.stack.size();
      fiber.start.uc_link = nullptr;
      makecontext(&fiber.start, trampoline, 0);
      setcontext(&fiber.start);
    }
    if (fibers[current].ended) {
      --block.running;
      --left_in_warp[current / LANES];
    }
  }
}

inline void launch(void (*kernel)(void**), const int* grid, int num_threads, void** values) {
  body = kernel;
  arguments = values;
  for (block.z = 0; block.z < grid[2]; ++block.z)
    for (block.y = 0; block.y < grid[1]; ++block.y)
      for (block.x = 0; block.x < grid[0]; ++block.x) run_block(num_threads);
}

}  // namespace emulation

namespace ingot {

using int64 = long long;
using uint64 = unsigned long long;

CONSTANT int WARP = 32;

struct Here {
  int thread_index() const { return emulation::current; }
  int lane() const { return emulation::current % WARP; }
  int warp() const { return emulation::current / WARP; }
  int block_x() const { return emulation::block.x; }
  int block_y() const { return emulation::block.y; }
  int block_z() const { return emulation::block.z; }
};

inline int lane_index() { return emulation::current % WARP; }
inline void block_barrier() { emulation::meet_block(); }
inline void warp_barrier() { emulation::meet_warp(); }

inline unsigned float_to_bits(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  return bits;
}
inline float bits_to_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline int shuffle_xor(int value, int mask) {
  uint64_t word = unsigned(value);
  return int(emulation::exchange(&word, 1)[lane_index() ^ mask][0]);
}
inline float shuffle_xor(float value, int mask) {
  return bits_to_float(unsigned(shuffle_xor(int(float_to_bits(value)), mask)));
}

inline float widen_half(unsigned short bits) {
  _Float16 value;
  memcpy(&value, &bits, 2);
  return float(value);
}
inline unsigned short narrow_half(float value) {
  _Float16 half = _Float16(value);
  unsigned short bits;
  memcpy(&bits, &half, 2);
  return bits;
}

inline float fused_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline float square_root(float x) { return std::sqrt(x); }
inline float product(float a, float b) { return a * b; }
inline float divide(float a, float b) { return a / b; }
inline float nearest(float x) { return std::rint(x); }
inline int nearest_integer(float x) { return int(std::rint(x)); }
inline float exponential(float x) { return std::exp(x); }
inline float logarithm(float x) { return std::log(x); }
inline float error_function(float x) { return std::erf(x); }
inline float hyperbolic_tangent(float x) { return std::tanh(x); }
inline float cosine(float x) { return std::cos(x); }
inline float sine(float x) { return std::sin(x); }
inline float round_down(float x) { return std::floor(x); }
inline float magnitude(float x) { return std::fabs(x); }
inline float larger(float a, float b) { return std::fmax(a, b); }
inline float smaller(float a, float b) { return std::fmin(a, b); }

inline int add_shared(int& number, int amount) {
  int before = number;
  number += amount;
  return before;
}

inline int dot_bytes(unsigned weights, unsigned activations, int sum) {
  for (int i = 0; i < 4; ++i) sum += int(weights >> 8 * i & 255) * int(int8_t(activations >> 8 * i));
  return sum;
}
inline unsigned subtract_bytes(unsigned a, unsigned b) {
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= ((a >> 8 * i) - (b >> 8 * i) & 255) << 8 * i;
  return result;
}

inline unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  uint64_t bytes = uint64_t(high) << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return result;
}

// The fragments of mma.m16n8k16 and m16n8k32 as the PTX manual says: a word of A holds neighbours of a row, one
// of B neighbours of a column, and groups of four lanes share a row of A and D or a column of B.
template <class Sum, int PER_WORD, class Read>
inline void multiply_fragments(Sum (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Read read) {
  uint64_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  auto all = emulation::exchange(words, 6);
  int group = lane_index() / 4, inside = lane_index() % 4;
  for (int i = 0; i < 4; ++i) {
    int row = group + 8 * (i / 2), column = inside * 2 + i % 2;
    Sum sum = d[i];
    for (int half = 0; half < 2; ++half)
      for (int quarter = 0; quarter < 4; ++quarter) {
        unsigned left = unsigned(all[row % 8 * 4 + quarter][half * 2 + row / 8]);
        unsigned right = unsigned(all[column * 4 + quarter][4 + half]);
        for (int e = 0; e < PER_WORD; ++e) sum += read(left, e) * read(right, e);
      }
    d[i] = sum;
  }
}
inline void multiply_bfloat16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_fragments<float, 2>(d, a, b, [](unsigned word, int e) {
    return bits_to_float(e ? word & 0xffff0000u : word << 16);
  });
}
inline void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_fragments<float, 2>(d, a, b, [](unsigned word, int e) { return widen_half(word >> 16 * e); });
}
inline void multiply_int8(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_fragments<int, 4>(d, a, b, [](unsigned word, int e) { return int(int8_t(word >> 8 * e)); });
}

inline void copy_later(void* shared, const void* source, bool wanted) {
  if (wanted) memcpy(shared, source, 16);
  else memset(shared, 0, 16);
}
inline void end_copies() {}
template <int PENDING>
inline void wait_for_copies() {}

}  // namespace ingot
