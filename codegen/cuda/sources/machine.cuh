// What the machine does, for kernels that are written for any: the only file with PTX. Tests put an emulation of it
// in its place.
//
// Nothing is included from the CUDA toolkit, so that NVRTC alone can compile the kernels.
#pragma once

#define INGOT_KERNEL(threads) extern "C" __global__ __launch_bounds__(threads, 1) void
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

// Two neighbours of four floats of eight bits as halves 2^-8 times as large, which have all their bits.
INGOT_DEVICE unsigned widen_pair(unsigned four, int second) {
  unsigned pair = permute_bytes(four, 0, second ? 0x4342 : 0x4140);
  return (pair & 0x00800080u) << 8 | (pair & 0x007f007fu) << 7;
}

// Where there are no products of floats of eight bits: two of halves, of which a lane takes four neighbours each.
INGOT_DEVICE void multiply_float8_as_halves(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  float sums[4] = {};
  for (int k = 0; k < 2; ++k) {
    const unsigned left[4] = {widen_pair(a[k * 2], 0), widen_pair(a[k * 2 + 1], 0), widen_pair(a[k * 2], 1),
                              widen_pair(a[k * 2 + 1], 1)};
    const unsigned right[2] = {widen_pair(b[k], 0), widen_pair(b[k], 1)};
    multiply_half(sums, left, right);
  }
  for (int i = 0; i < 4; ++i) d[i] = fused_multiply_add(sums[i], 65536.0f, d[i]);
}

// d[16, 8] += a[16, 32] b[32, 8] of signed bytes: mma.m16n8k32.
INGOT_DEVICE void multiply_int8(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same of floats of eight bits, e4m3.
INGOT_DEVICE void multiply_float8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 890
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  multiply_float8_as_halves(d, a, b);
#endif
}

// --- launches that begin before the one before them has ended

// The blocks of the next launch may take their places as soon as all of this one's have theirs.
INGOT_DEVICE void let_next_launch_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Until the launch before is over, and so those before it, only what none of them writes may be read.
INGOT_DEVICE void wait_for_launch_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// --- copies to shared memory that go on beside the work, and barriers that say when they have come

// Shared memory whose size a launch says, from the first multiple of 1024 bytes on; for kernels alone.
#define DYNAMIC_SHARED(name)                                   \
  extern __shared__ __align__(1024) unsigned char all_##name[]; \
  unsigned char* name = all_##name + (1024 - ingot::shared_address(all_##name) % 1024) % 1024

INGOT_DEVICE unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

INGOT_DEVICE int dynamic_shared_bytes() {
  int num_bytes;
  asm volatile("mov.u32 %0, %%dynamic_smem_size;" : "=r"(num_bytes));
  return num_bytes;
}

#if __CUDA_ARCH__ >= 900
#define INGOT_BULK_COPIES 1
#else
#define INGOT_BULK_COPIES 0
#endif

// A barrier of arrivals, and of bytes that are on their way. Its phases are odd and even in turn; the first is even.
INGOT_DEVICE void start_barrier(uint64* barrier, int num_arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(num_arrivals) : "memory");
}
// What copies by hardware see of barriers that were started by threads.
INGOT_DEVICE void publish_barriers() {
#if INGOT_BULK_COPIES
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
INGOT_DEVICE void arrive(uint64* barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(shared_address(barrier)) : "memory");
}
// Wait until the phase of this parity is over.
INGOT_DEVICE void wait_for(uint64* barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "again:\n"
#if INGOT_BULK_COPIES
      "mbarrier.try_wait.parity.shared.b64 over, [%0], %1;\n"
#else
      "mbarrier.test_wait.parity.shared.b64 over, [%0], %1;\n"
#endif
      "@over bra done;\n"
      "bra again;\n"
      "done:\n"
      "}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}

// Copy num_bytes, a multiple of 16, by a whole warp, which arrives COPY_ARRIVALS times when they have come.
CONSTANT int COPY_ARRIVALS = INGOT_BULK_COPIES ? 1 : WARP;
INGOT_DEVICE void copy_by_warp(Here here, unsigned char* shared, const unsigned char* source, int num_bytes, uint64* barrier) {
#if INGOT_BULK_COPIES
  if (here.lane() == 0) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(shared_address(barrier)),
                 "r"(num_bytes) : "memory");
    if (num_bytes == 0) return;
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(shared)), "l"(source), "r"(num_bytes), "r"(shared_address(barrier)) : "memory");
  }
#else
  for (int i = here.lane() * 16; i < num_bytes; i += WARP * 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared + i)), "l"(source + i) : "memory");
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// 16 bytes a thread, on their way until wait_for_copies; zeros where not wanted.
INGOT_DEVICE void copy_later(void* shared, const void* source, bool wanted) {
  int num_bytes = wanted ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(source), "r"(num_bytes)
               : "memory");
}
INGOT_DEVICE void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
INGOT_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four matrices of eight rows of 16 bytes: lane l gives the address of row l % 8 of matrix l / 8, and gets of each
// matrix word l % 4 of row l / 4.
INGOT_DEVICE void load_matrices(unsigned (&words)[4], const unsigned char* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row)) : "memory");
}

// The same, each turned: a lane gets of each matrix column l / 4, rows 2 (l % 4) and the next.
INGOT_DEVICE void load_turned_matrices(unsigned (&words)[4], const unsigned char* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row)) : "memory");
}

// --- products of a group of four warps (wgmma), which Hopper has, and no architecture after it

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define INGOT_WARPGROUPS 1

INGOT_DEVICE void start_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INGOT_DEVICE void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
INGOT_DEVICE void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// The operands of accumulators: how they are named in PTX, and which they are.
#define INGOT_NAMES_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define INGOT_NAMES_64 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define INGOT_NAMES_128 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define INGOT_8(kind, d, i) \
  kind(d[i]), kind(d[i + 1]), kind(d[i + 2]), kind(d[i + 3]), kind(d[i + 4]), kind(d[i + 5]), kind(d[i + 6]), kind(d[i + 7])
#define INGOT_OPERANDS_32(kind, d, i) INGOT_8(kind, d, i), INGOT_8(kind, d, i + 8), INGOT_8(kind, d, i + 16), INGOT_8(kind, d, i + 24)
#define INGOT_OPERANDS_64(kind, d, i) INGOT_OPERANDS_32(kind, d, i), INGOT_OPERANDS_32(kind, d, i + 32)
#define INGOT_OPERANDS_128(kind, d, i) INGOT_OPERANDS_64(kind, d, i), INGOT_OPERANDS_64(kind, d, i + 64)
#define INGOT_FLOAT_OPERAND(x) "+f"(x)
#define INGOT_WHOLE_OPERAND(x) "+r"(x)

// d[64, COLUMNS] += a[64, 16] b[16, COLUMNS] of halves, or [64, 32] and [32, COLUMNS] of signed bytes. A warp has 16 rows
// of a and d, laid over its lanes as mma.sync has them; b lies as the descriptor of a matrix in shared memory says.
#define INGOT_GROUP_PRODUCT(name, sum, kind, columns, size, a0, a1, a2, a3, b, type, last)                               \
  INGOT_DEVICE void name(sum (&d)[size], const unsigned (&a)[4], uint64 matrix) {                                        \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns type " {" INGOT_NAMES_##size "}, {" a0 ", " a1 ", " a2 ", " a3 \
                 "}, " b ", " last ";"                                                                                   \
                 : INGOT_OPERANDS_##size(kind, d, 0)                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(matrix));                                             \
  }
INGOT_GROUP_PRODUCT(group_multiply_bfloat16, float, INGOT_FLOAT_OPERAND, 64, 32, "%32", "%33", "%34", "%35", "%36", "k16.f32.bf16.bf16", "1, 1, 1, 0")
INGOT_GROUP_PRODUCT(group_multiply_half, float, INGOT_FLOAT_OPERAND, 64, 32, "%32", "%33", "%34", "%35", "%36", "k16.f32.f16.f16", "1, 1, 1, 0")
INGOT_GROUP_PRODUCT(group_multiply_int8, int, INGOT_WHOLE_OPERAND, 64, 32, "%32", "%33", "%34", "%35", "%36", "k32.s32.s8.s8", "1")
INGOT_GROUP_PRODUCT(group_multiply_float8, float, INGOT_FLOAT_OPERAND, 64, 32, "%32", "%33", "%34", "%35", "%36", "k32.f32.e4m3.e4m3", "1, 1, 1")
INGOT_GROUP_PRODUCT(group_multiply_bfloat16, float, INGOT_FLOAT_OPERAND, 128, 64, "%64", "%65", "%66", "%67", "%68", "k16.f32.bf16.bf16", "1, 1, 1, 0")
INGOT_GROUP_PRODUCT(group_multiply_half, float, INGOT_FLOAT_OPERAND, 128, 64, "%64", "%65", "%66", "%67", "%68", "k16.f32.f16.f16", "1, 1, 1, 0")
INGOT_GROUP_PRODUCT(group_multiply_int8, int, INGOT_WHOLE_OPERAND, 128, 64, "%64", "%65", "%66", "%67", "%68", "k32.s32.s8.s8", "1")
INGOT_GROUP_PRODUCT(group_multiply_float8, float, INGOT_FLOAT_OPERAND, 128, 64, "%64", "%65", "%66", "%67", "%68", "k32.f32.e4m3.e4m3", "1, 1, 1")
INGOT_GROUP_PRODUCT(group_multiply_bfloat16, float, INGOT_FLOAT_OPERAND, 256, 128, "%128", "%129", "%130", "%131", "%132", "k16.f32.bf16.bf16", "1, 1, 1, 0")
INGOT_GROUP_PRODUCT(group_multiply_half, float, INGOT_FLOAT_OPERAND, 256, 128, "%128", "%129", "%130", "%131", "%132", "k16.f32.f16.f16", "1, 1, 1, 0")
INGOT_GROUP_PRODUCT(group_multiply_int8, int, INGOT_WHOLE_OPERAND, 256, 128, "%128", "%129", "%130", "%131", "%132", "k32.s32.s8.s8", "1")
#else
#define INGOT_WARPGROUPS 0
#endif

}  // namespace ingot
