// The threads of a GPU's block on a CPU: fibers that run one after the other until they meet.
//
// The machines that tests emulate are built on it. Blocks run one after the other, so that what is shared can be static.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <ucontext.h>
#include <vector>

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
inline long num_blocks = 0;  // that were begun
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
  ++num_blocks;
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
  // Every other block begins with its last thread, so that what is read too early is noticed in one of the two.
  static volatile int next, step;
  step = step == 1 ? num_threads - 1 : 1;
  for (next = step == 1 ? 0 : num_threads - 1; block.running > 0; next = (next + step) % num_threads) {
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

// What begins a block comes before each, if there is such.
inline void launch(void (*kernel)(void**), const int* grid, int num_threads, void** values,
                   void (*begin_block)() = nullptr) {
  body = kernel;
  arguments = values;
  for (block.z = 0; block.z < grid[2]; ++block.z)
    for (block.y = 0; block.y < grid[1]; ++block.y)
      for (block.x = 0; block.x < grid[0]; ++block.x) {
        if (begin_block) begin_block();
        run_block(num_threads);
      }
}

}  // namespace emulation
