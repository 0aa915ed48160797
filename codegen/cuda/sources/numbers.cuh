// How numbers are kept in memory, and sums and largest values over warps and blocks.
#pragma once

namespace ingot {

INGOT_DEVICE float widen_bfloat16(unsigned short bits) { return bits_to_float(unsigned(bits) << 16); }

INGOT_DEVICE unsigned short narrow_bfloat16(float value) {
  unsigned bits = float_to_bits(value);
  if (value != value) return 0x7fc0;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

struct Float32 {
  using Stored = float;
  static INGOT_DEVICE float widen(float value) { return value; }
  static INGOT_DEVICE float narrow(float value) { return value; }
};

struct Float16 {
  using Stored = unsigned short;
  static INGOT_DEVICE float widen(Stored bits) { return widen_half(bits); }
  static INGOT_DEVICE Stored narrow(float value) { return narrow_half(value); }
  static INGOT_DEVICE void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_half(d, a, b);
  }
};

struct BFloat16 {
  using Stored = unsigned short;
  static INGOT_DEVICE float widen(Stored bits) { return widen_bfloat16(bits); }
  static INGOT_DEVICE Stored narrow(float value) { return narrow_bfloat16(value); }
  static INGOT_DEVICE void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_bfloat16(d, a, b);
  }
};

// Two neighbours in a word, the first in the low half.
template <class Type>
INGOT_DEVICE unsigned pack_pair(float first, float second) {
  return unsigned(Type::narrow(first)) | unsigned(Type::narrow(second)) << 16;
}

// Two floats as the nearest pair, and what rounding took off as another: together they are nearly exact.
template <class Type>
INGOT_DEVICE void split_pair(float first, float second, unsigned& high, unsigned& low) {
  high = pack_pair<Type>(first, second);
  low = pack_pair<Type>(first - Type::widen(high & 0xffff), second - Type::widen(high >> 16));
}

INGOT_DEVICE float sum_of_warp(float value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

INGOT_DEVICE float largest_of_warp(float value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value = larger(value, shuffle_xor(value, mask));
  return value;
}

INGOT_DEVICE int sum_of_warp(int value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

// Over a block of THREADS, for each of them; all must call it.
template <int THREADS>
INGOT_DEVICE float sum_of_block(float value) {
  INGOT_SHARED float parts[THREADS / WARP];
  value = sum_of_warp(value);
  block_barrier();
  if (lane_index() == 0) parts[warp_index()] = value;
  block_barrier();
  float total = 0;
  for (int warp = 0; warp < THREADS / WARP; ++warp) total += parts[warp];
  return total;
}

template <int THREADS>
INGOT_DEVICE float largest_of_block(float value) {
  INGOT_SHARED float parts[THREADS / WARP];
  value = largest_of_warp(value);
  block_barrier();
  if (lane_index() == 0) parts[warp_index()] = value;
  block_barrier();
  float most = parts[0];
  for (int warp = 1; warp < THREADS / WARP; ++warp) most = larger(most, parts[warp]);
  return most;
}

// Columns OFFSET to OFFSET + WIDTH of rows that are STRIDE apart: a slice of a wider activation.
template <int WIDTH_, int STRIDE_, int OFFSET_>
struct Rows {
  static constexpr int WIDTH = WIDTH_, STRIDE = STRIDE_, OFFSET = OFFSET_;
  static INGOT_DEVICE const float* at(const float* rows, int row) { return rows + (long long)row * STRIDE + OFFSET; }
};

}  // namespace ingot
