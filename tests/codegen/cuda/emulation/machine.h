// The CUDA machine on a CPU.
//
// Takes the place of codegen/cuda/sources/machine.cuh, so that the kernels' arithmetic runs as it is written,
// warps, barriers and tensor cores included.
#pragma once

#include "fibers.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define INGOT_KERNEL(threads) extern "C" void
#define INGOT_DEVICE inline
#define GLOBAL
#define SHARED
#define OWN
#define CONSTANT static constexpr
#define TABLE static const
#define SHARED_ARRAY(type, name, extents) static type name extents
#define DYNAMIC_SHARED(name) unsigned char* name = emulation::dynamic_shared
#define __restrict__

// Of which architecture: Hopper, unless the kernels are compiled for one before it.
#ifndef INGOT_WARPGROUPS
#define INGOT_WARPGROUPS 1
#endif
#define INGOT_BULK_COPIES INGOT_WARPGROUPS

struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };

namespace emulation {

// Shared memory whose size a launch says, which begins at an address of its own.
constexpr unsigned DYNAMIC_START = 1024;
alignas(1024) inline unsigned char dynamic_shared[227 << 10];
inline int dynamic_bytes = 0;

// Copies and products that are on their way are done as late as they may be, so that who does not wait is found out.
struct Copy {
  unsigned char* shared;
  const unsigned char* source;
  int num_bytes;
  uint64_t* barrier;
  bool counts_bytes;  // or, of none, is an arrival
};
inline std::vector<Copy> copies;

[[noreturn]] inline void fail(const char* reason) {
  fprintf(stderr, "the emulated kernel %s\n", reason);
  abort();
}

inline void begin_block() {
  memset(dynamic_shared, 0xff, dynamic_bytes);
  if (!copies.empty()) fail("ended while copies were on their way");
}

inline void launch(void (*kernel)(void**), const int* grid, int num_threads, int shared_bytes, void** values) {
  dynamic_bytes = shared_bytes;
  launch(kernel, grid, num_threads, values, begin_block);
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
inline float widen_float8(unsigned code) {
  int exponent = code >> 3 & 15, mantissa = code & 7;
  float size = exponent ? std::ldexp(float(8 + mantissa), exponent - 10) : std::ldexp(float(mantissa), -9);
  return code & 128 ? -size : size;
}
inline void multiply_float8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_fragments<float, 4>(d, a, b, [](unsigned word, int e) { return widen_float8(word >> 8 * e & 255); });
}

// Launches run one after the other.
inline void let_next_launch_begin() {}
inline void wait_for_launch_before() {}

// Of dynamic shared memory alone.
inline unsigned shared_address(const void* shared) {
  return unsigned(static_cast<const unsigned char*>(shared) - emulation::dynamic_shared) + emulation::DYNAMIC_START;
}
inline unsigned char* at_shared_address(unsigned address) {
  if (address < emulation::DYNAMIC_START || address >= emulation::DYNAMIC_START + emulation::dynamic_bytes)
    emulation::fail("reads past its shared memory");
  return emulation::dynamic_shared + (address - emulation::DYNAMIC_START);
}
inline int dynamic_shared_bytes() { return emulation::dynamic_bytes; }

// A barrier's 64 bits: arrivals that a phase has, those still missing, bytes on their way, and the phase.
struct BarrierState {
  uint64_t expected : 12, missing : 12, phase : 1, padding : 7;
  int64_t num_bytes : 32;
};
inline BarrierState& state_of(uint64* barrier) { return *reinterpret_cast<BarrierState*>(barrier); }
inline void end_phase_if_over(uint64* barrier) {
  BarrierState& state = state_of(barrier);
  if (state.missing || state.num_bytes) return;
  state.phase ^= 1;
  state.missing = state.expected;
}
inline void start_barrier(uint64* barrier, int num_arrivals) {
  state_of(barrier) = {uint64_t(num_arrivals), uint64_t(num_arrivals), 0, 0, 0};
}
inline void publish_barriers() {}
inline void arrive(uint64* barrier) {
  if (!state_of(barrier).missing) emulation::fail("has more arrivals at a barrier than it expects");
  --state_of(barrier).missing;
  end_phase_if_over(barrier);
}
inline bool end_a_copy(uint64* barrier) {
  for (size_t i = 0; i < emulation::copies.size(); ++i) {
    emulation::Copy copy = emulation::copies[i];
    if (copy.barrier != reinterpret_cast<uint64_t*>(barrier)) continue;
    memcpy(copy.shared, copy.source, copy.num_bytes);
    emulation::copies.erase(emulation::copies.begin() + i);
    if (copy.counts_bytes) {
      state_of(barrier).num_bytes -= copy.num_bytes;
      end_phase_if_over(barrier);
    } else if (!copy.num_bytes) {
      arrive(barrier);
    }
    return true;
  }
  return false;
}
inline void wait_for(uint64* barrier, unsigned parity) {
  for (int times = 0; state_of(barrier).phase == (parity & 1); ++times) {
    if (times > 1 << 16) emulation::fail("waits at a barrier for ever");
    if (!end_a_copy(barrier)) emulation::give_way();
  }
}

#if INGOT_BULK_COPIES
CONSTANT int COPY_ARRIVALS = 1;
#else
CONSTANT int COPY_ARRIVALS = WARP;
#endif
inline void copy_by_warp(
    Here here, unsigned char* shared, const unsigned char* source, int num_bytes, uint64* barrier) {
  if (num_bytes % 16 || uintptr_t(source) % 16 || shared_address(shared) % 16) emulation::fail("copies no whole 16 bytes");
  uint64_t* own = reinterpret_cast<uint64_t*>(barrier);
#if INGOT_BULK_COPIES
  if (here.lane() == 0) {
    state_of(barrier).num_bytes += num_bytes;
    arrive(barrier);
    if (num_bytes) emulation::copies.push_back({shared, source, num_bytes, own, true});
  }
#else
  for (int i = here.lane() * 16; i < num_bytes; i += WARP * 16)
    emulation::copies.push_back({shared + i, source + i, 16, own, false});
  emulation::copies.push_back({shared, source, 0, own, false});  // its arrival
#endif
}

inline void copy_later(void* shared, const void* source, bool wanted) {
  if (wanted) memcpy(shared, source, 16);
  else memset(shared, 0, 16);
}
inline void end_copies() {}
template <int PENDING>
inline void wait_for_copies() {}

// As the manual of PTX lays them: matrix m's row r is at the address that lane 8 m + r gives.
inline void load_matrices(unsigned (&words)[4], const unsigned char* row) {
  uint64_t own = uint64_t(row);
  if (own % 16) emulation::fail("loads a matrix' row that is not aligned");
  auto all = emulation::exchange(&own, 1);
  int lane = emulation::current % WARP;
  for (int m = 0; m < 4; ++m) memcpy(&words[m], reinterpret_cast<const char*>(all[m * 8 + lane / 4][0]) + lane % 4 * 4, 4);
}

inline void load_turned_matrices(unsigned (&words)[4], const unsigned char* row) {
  uint64_t own = uint64_t(row);
  if (own % 16) emulation::fail("loads a matrix' row that is not aligned");
  auto all = emulation::exchange(&own, 1);
  int lane = emulation::current % WARP;
  for (int m = 0; m < 4; ++m) {
    unsigned short pair[2];
    for (int i = 0; i < 2; ++i)
      memcpy(&pair[i], reinterpret_cast<const char*>(all[m * 8 + lane % 4 * 2 + i][0]) + lane / 4 * 2, 2);
    memcpy(&words[m], pair, 4);
  }
}

#if INGOT_WARPGROUPS
namespace group_products {

// A product that was begun: the words of the first factor are those of the lane's warp.
struct Product {
  void* sums;
  unsigned words[WARP][4];
  uint64 matrix;
  void (*perform)(const Product&, int lane);
};
struct Lane {
  std::vector<std::vector<Product>> groups;
  std::vector<Product> open;
  bool is_started = false;
};
inline std::vector<Lane> lanes(1024);

// The bytes of a column's elements of a step in the second factor: rows of it that are k-major, with the swizzle of 128
// bytes, which turns bits 4 to 6 of addresses by bits 7 to 9.
inline const unsigned char* part_of(uint64 matrix, int column, int byte) {
  unsigned start = unsigned(matrix & 0x3fff) << 4, stride = unsigned(matrix >> 32 & 0x3fff) << 4;
  if (matrix >> 62 != 1 || (matrix >> 49 & 7)) emulation::fail("describes a matrix with another swizzle");
  unsigned address = start + column / 8 * stride + column % 8 * 128 + byte;
  return at_shared_address(address ^ (address >> 7 & 7) << 4);
}

template <class Sum, int COLUMNS, int PER_WORD, class Read>
void perform(const Product& product, int lane) {
  Sum* sums = static_cast<Sum*>(product.sums);
  int group = lane / 4, inside = lane % 4;
  for (int tile = 0; tile < COLUMNS / 8; ++tile)
    for (int i = 0; i < 4; ++i) {
      int row = group + i / 2 * 8, column = tile * 8 + inside * 2 + i % 2;
      Sum sum = sums[tile * 4 + i];
      for (int word = 0; word < 8; ++word) {
        unsigned left = product.words[row % 8 * 4 + word % 4][word / 4 * 2 + row / 8], right;
        memcpy(&right, part_of(product.matrix, column, word * 4), 4);
        for (int e = 0; e < PER_WORD; ++e) sum += Read::of(left, e) * Read::of(right, e);
      }
      sums[tile * 4 + i] = sum;
    }
}

template <class Sum, int COLUMNS, int PER_WORD, class Read>
void begin(Sum* sums, const unsigned (&a)[4], uint64 matrix) {
  Lane& own = lanes[emulation::current];
  if (!own.is_started) emulation::fail("begins products of a group without start_products");
  Product product{sums, {}, matrix, perform<Sum, COLUMNS, PER_WORD, Read>};
  uint64_t words[4] = {a[0], a[1], a[2], a[3]};
  auto all = emulation::exchange(words, 4);
  for (int lane = 0; lane < WARP; ++lane)
    for (int i = 0; i < 4; ++i) product.words[lane][i] = unsigned(all[lane][i]);
  own.open.push_back(product);
}

struct Brain {
  static float of(unsigned word, int e) { return bits_to_float(e ? word & 0xffff0000u : word << 16); }
};
struct Half {
  static float of(unsigned word, int e) { return widen_half(word >> 16 * e); }
};
struct Byte {
  static int of(unsigned word, int e) { return int8_t(word >> 8 * e); }
};
struct Float8 {
  static float of(unsigned word, int e) { return widen_float8(word >> 8 * e & 255); }
};

}  // namespace group_products

inline void start_products() { group_products::lanes[emulation::current].is_started = true; }
inline void end_products() {
  auto& own = group_products::lanes[emulation::current];
  own.groups.push_back(own.open);
  own.open.clear();
  own.is_started = false;
}
template <int PENDING>
inline void wait_for_products() {
  auto& groups = group_products::lanes[emulation::current].groups;
  while (int(groups.size()) > PENDING) {
    for (const auto& product : groups.front()) product.perform(product, emulation::current % WARP);
    groups.erase(groups.begin());
  }
}
template <int SIZE>
inline void group_multiply_bfloat16(float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
  group_products::begin<float, SIZE * 2, 2, group_products::Brain>(d, a, matrix);
}
template <int SIZE>
inline void group_multiply_half(float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
  group_products::begin<float, SIZE * 2, 2, group_products::Half>(d, a, matrix);
}
template <int SIZE>
inline void group_multiply_float8(float (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
  group_products::begin<float, SIZE * 2, 4, group_products::Float8>(d, a, matrix);
}
template <int SIZE>
inline void group_multiply_int8(int (&d)[SIZE], const unsigned (&a)[4], uint64 matrix) {
  group_products::begin<int, SIZE * 2, 4, group_products::Byte>(d, a, matrix);
}
#endif

}  // namespace ingot
