// What the machine does, in Metal's words: the first file of every program of shaders (MSL 3.1).
//
// Only what the Metal Shading Language Specification says is used; nothing is taken for granted about where a matrix of
// a simdgroup lies. Products and sums are rounded one by one, as on the CPU.
#pragma METAL fp contract(off)

#include <metal_stdlib>
#include <metal_simdgroup_matrix>

#define INGOT_DEVICE inline __attribute__((always_inline))

#define GLOBAL device
#define SHARED threadgroup
#define OWN thread
#define CONSTANT static constant constexpr

// A function's table of constants.
#define TABLE const

// Declares what a threadgroup shares; for kernels alone. (Tests that run shaders on a CPU have their own.)
#ifndef SHARED_ARRAY
#define SHARED_ARRAY(type, name, extents) threadgroup type name extents
#endif

namespace ingot {

using int64 = long;
using uint64 = ulong;
using uint2 = metal::vec<unsigned, 2>;
using uint3 = metal::vec<unsigned, 3>;
using uint4 = metal::vec<unsigned, 4>;
using float2 = metal::vec<float, 2>;
using float4 = metal::vec<float, 4>;

CONSTANT int WARP = 32;  // threads of a simdgroup: threadExecutionWidth of all of Apple's GPUs

// Where a thread runs.
struct Here {
  uint3 position;
  unsigned number, place, simdgroup;

  INGOT_DEVICE int thread_index() const { return int(number); }
  INGOT_DEVICE int lane() const { return int(place); }
  INGOT_DEVICE int warp() const { return int(simdgroup); }
  INGOT_DEVICE int block_x() const { return int(position.x); }
  INGOT_DEVICE int block_y() const { return int(position.y); }
  INGOT_DEVICE int block_z() const { return int(position.z); }
};

// A launch begins when the one before it has ended.
INGOT_DEVICE void wait_for_launch_before() {}

// Threads that met see what the others wrote, to the device's memory too.
INGOT_DEVICE void block_barrier() {
  metal::threadgroup_barrier(metal::mem_flags::mem_device | metal::mem_flags::mem_threadgroup);
}
INGOT_DEVICE void warp_barrier() {
  metal::simdgroup_barrier(metal::mem_flags::mem_device | metal::mem_flags::mem_threadgroup);
}

INGOT_DEVICE float shuffle_xor(float value, int mask) { return metal::simd_shuffle_xor(value, ushort(mask)); }
INGOT_DEVICE int shuffle_xor(int value, int mask) { return metal::simd_shuffle_xor(value, ushort(mask)); }

INGOT_DEVICE float bits_to_float(unsigned bits) { return as_type<float>(bits); }
INGOT_DEVICE unsigned float_to_bits(float value) { return as_type<unsigned>(value); }
INGOT_DEVICE float widen_half(unsigned short bits) { return float(as_type<half>(bits)); }
INGOT_DEVICE unsigned short narrow_half(float value) { return as_type<unsigned short>(half(value)); }

INGOT_DEVICE float fused_multiply_add(float a, float b, float c) { return metal::fma(a, b, c); }
INGOT_DEVICE float square_root(float x) { return metal::precise::sqrt(x); }
INGOT_DEVICE float product(float a, float b) { return a * b; }  // rounded, as nothing is contracted
INGOT_DEVICE float divide(float a, float b) { return metal::precise::divide(a, b); }
INGOT_DEVICE float nearest(float x) { return metal::rint(x); }
INGOT_DEVICE int nearest_integer(float x) { return int(metal::rint(x)); }
INGOT_DEVICE float exponential(float x) { return metal::precise::exp(x); }
INGOT_DEVICE float logarithm(float x) { return metal::precise::log(x); }
INGOT_DEVICE float hyperbolic_tangent(float x) { return metal::precise::tanh(x); }
INGOT_DEVICE float cosine(float x) { return metal::precise::cos(x); }
INGOT_DEVICE float sine(float x) { return metal::precise::sin(x); }
INGOT_DEVICE float round_down(float x) { return metal::floor(x); }
INGOT_DEVICE float magnitude(float x) { return metal::fabs(x); }
INGOT_DEVICE float larger(float a, float b) { return metal::fmax(a, b); }
INGOT_DEVICE float smaller(float a, float b) { return metal::fmin(a, b); }

// Metal has none. x + x P(x^2) near zero, 1 - exp(-Q(|x|)) further out, both fitted to the least largest error: at most
// 8e-8 from the true value.
INGOT_DEVICE float error_function(float x) {
  float square = x * x, size = smaller(magnitude(x), 4.0f);
  if (size < 0.9f) {
    float sum = -0.000611129159f;
    sum = fused_multiply_add(sum, square, 0.00501622818f);
    sum = fused_multiply_add(sum, square, -0.0267819576f);
    sum = fused_multiply_add(sum, square, 0.112822302f);
    sum = fused_multiply_add(sum, square, -0.376125336f);
    sum = fused_multiply_add(sum, square, 0.128379151f);
    return fused_multiply_add(x, sum, x);
  }
  float sum = 7.37456446e-07f;
  sum = fused_multiply_add(sum, size, 1.13113492e-05f);
  sum = fused_multiply_add(sum, size, -0.000378849683f);
  sum = fused_multiply_add(sum, size, 0.00399410119f);
  sum = fused_multiply_add(sum, size, -0.0247745123f);
  sum = fused_multiply_add(sum, size, 0.107858211f);
  sum = fused_multiply_add(sum, size, 0.633663297f);
  sum = fused_multiply_add(sum, size, 1.12938178f);
  sum = fused_multiply_add(sum, size, -0.000150613705f);
  if (x != x) return x;
  return metal::copysign(1.0f - exponential(-sum), x);
}

// Add to a number that a threadgroup shares; returns what it was.
INGOT_DEVICE int add_shared(SHARED int& number, int amount) {
  SHARED metal::atomic_int* counter = reinterpret_cast<SHARED metal::atomic_int*>(&number);
  return metal::atomic_fetch_add_explicit(counter, amount, metal::memory_order_relaxed);
}

// Four products of bytes, added to sum: weights are unsigned, activations signed.
INGOT_DEVICE int dot_bytes(unsigned weights, unsigned activations, int sum) {
  metal::vec<unsigned char, 4> left = as_type<metal::vec<unsigned char, 4>>(weights);
  metal::vec<char, 4> right = as_type<metal::vec<char, 4>>(activations);
  return sum + int(left.x) * int(right.x) + int(left.y) * int(right.y) + int(left.z) * int(right.z) +
         int(left.w) * int(right.w);
}

// Bytes less bytes, without borrowing from a neighbour: all but the highest bits, then these.
INGOT_DEVICE unsigned subtract_bytes(unsigned a, unsigned b) {
  unsigned low = (a | 0x80808080u) - (b & 0x7f7f7f7fu);
  return low ^ (~(a ^ b) & 0x80808080u);
}

// Four of eight bytes, those of low before those of high: each four bits of selector say which.
INGOT_DEVICE unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned place = selector >> 4 * i & 7, word = place & 4 ? high : low;
    result |= (word >> (place & 3) * 8 & 255) << 8 * i;
  }
  return result;
}

}  // namespace ingot
