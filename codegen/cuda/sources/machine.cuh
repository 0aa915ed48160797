// What the machine does, for kernels that are written for any: the only file with PTX. Tests put an emulation of it
// in its place.
//
// Nothing is included from the CUDA toolkit, so that NVRTC alone can compile the kernels.
#pragma once

#define INGOT_KERNEL(threads) extern "C" __global__ __launch_bounds__(threads) void
#define INGOT_DEVICE __device__ __forceinline__

// Address spaces, which only some machines have in their types: of the device, of a block, of a thread.
#define GLOBAL
#define SHARED
#define OWN
#define CONSTANT static constexpr

// A function's table of constants.
#define TABLE static const

// Declares what a block shares; for kernels alone.
#define SHARED_ARRAY(type, name, extents) __shared__ type name extents

namespace ingot {

using int64 = long long;
using uint64 = unsigned long long;

CONSTANT int WARP = 32;

// Where a thread runs.
struct Here {
  INGOT_DEVICE int thread_index() const { return threadIdx.x; }
  INGOT_DEVICE int lane() const { return threadIdx.x % WARP; }
  INGOT_DEVICE int warp() const { return threadIdx.x / WARP; }
  INGOT_DEVICE int block_x() const { return blockIdx.x; }
  INGOT_DEVICE int block_y() const { return blockIdx.y; }
  INGOT_DEVICE int block_z() const { return blockIdx.z; }
};

INGOT_DEVICE void block_barrier() { __syncthreads(); }
INGOT_DEVICE void warp_barrier() { __syncwarp(); }

INGOT_DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
INGOT_DEVICE int shuffle_xor(int value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

INGOT_DEVICE float widen_half(unsigned short bits) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
  return wide;
}

INGOT_DEVICE unsigned short narrow_half(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

INGOT_DEVICE float bits_to_float(unsigned bits) { return __uint_as_float(bits); }
INGOT_DEVICE unsigned float_to_bits(float value) { return __float_as_uint(value); }
INGOT_DEVICE float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
INGOT_DEVICE float square_root(float x) { return __fsqrt_rn(x); }
INGOT_DEVICE float product(float a, float b) { return __fmul_rn(a, b); }  // rounded, whatever is added to it
INGOT_DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
INGOT_DEVICE float nearest(float x) { return rintf(x); }
INGOT_DEVICE int nearest_integer(float x) { return __float2int_rn(x); }
INGOT_DEVICE float exponential(float x) { return expf(x); }
INGOT_DEVICE float logarithm(float x) { return logf(x); }
INGOT_DEVICE float error_function(float x) { return erff(x); }
INGOT_DEVICE float hyperbolic_tangent(float x) { return tanhf(x); }
INGOT_DEVICE float cosine(float x) { return cosf(x); }
INGOT_DEVICE float sine(float x) { return sinf(x); }
INGOT_DEVICE float round_down(float x) { return floorf(x); }
INGOT_DEVICE float magnitude(float x) { return fabsf(x); }
INGOT_DEVICE float larger(float a, float b) { return fmaxf(a, b); }
INGOT_DEVICE float smaller(float a, float b) { return fminf(a, b); }

// Add to a number that a block shares; returns what it was.
INGOT_DEVICE int add_shared(SHARED int& number, int amount) { return atomicAdd(&number, amount); }

// Four products of bytes, added to sum: weights are unsigned, activations signed.
INGOT_DEVICE int dot_bytes(unsigned weights, unsigned activations, int sum) {
  int result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(weights), "r"(activations), "r"(sum));
  return result;
}

// Bytes less bytes, without borrowing from a neighbour.
INGOT_DEVICE unsigned subtract_bytes(unsigned a, unsigned b) { return __vsub4(a, b); }

// Four of eight bytes, those of low before those of high: each four bits of selector say which.
INGOT_DEVICE unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  return __byte_perm(low, high, selector);
}

// d[16, 8] += a[16, 16] b[16, 8], as the manual of PTX lays the fragments of mma.m16n8k16 over a warp.
INGOT_DEVICE void multiply_bfloat16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

INGOT_DEVICE void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d[16, 8] += a[16, 32] b[32, 8] of signed bytes: mma.m16n8k32.
INGOT_DEVICE void multiply_int8(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes from device to shared memory, on their way until wait_for_copies; zeros where not wanted.
INGOT_DEVICE void copy_later(void* shared, const void* source, bool wanted) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  int num_bytes = wanted ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(source), "r"(num_bytes));
}
INGOT_DEVICE void end_copies() { asm volatile("cp.async.commit_group;" ::); }
template <int PENDING>
INGOT_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

}  // namespace ingot
