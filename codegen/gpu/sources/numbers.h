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
};

struct BFloat16 {
  using Stored = unsigned short;
  static INGOT_DEVICE float widen(Stored bits) { return widen_bfloat16(bits); }
  static INGOT_DEVICE Stored narrow(float value) { return narrow_bfloat16(value); }
};

INGOT_DEVICE float sum_of_warp(float value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

INGOT_DEVICE int sum_of_warp(int value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

INGOT_DEVICE float largest_of_warp(float value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value = larger(value, shuffle_xor(value, mask));
  return value;
}

// Over a block of WARPS warps, for each of its threads; all must call it. Warps meet in parts.
template <int WARPS>
INGOT_DEVICE float sum_of_block(Here here, SHARED float (&parts)[WARPS], float value) {
  value = sum_of_warp(value);
  block_barrier();
  if (here.lane() == 0) parts[here.warp()] = value;
  block_barrier();
  float total = 0;
  for (int warp = 0; warp < WARPS; ++warp) total += parts[warp];
  return total;
}

template <int WARPS>
INGOT_DEVICE float largest_of_block(Here here, SHARED float (&parts)[WARPS], float value) {
  value = largest_of_warp(value);
  block_barrier();
  if (here.lane() == 0) parts[here.warp()] = value;
  block_barrier();
  float most = parts[0];
  for (int warp = 1; warp < WARPS; ++warp) most = larger(most, parts[warp]);
  return most;
}

// Columns OFFSET to OFFSET + WIDTH of rows that are STRIDE apart: a slice of a wider activation.
template <int WIDTH_, int STRIDE_, int OFFSET_>
struct Rows {
  CONSTANT int WIDTH = WIDTH_, STRIDE = STRIDE_, OFFSET = OFFSET_;
  static INGOT_DEVICE GLOBAL const float* at(GLOBAL const float* rows, int row) {
    return rows + (int64)row * STRIDE + OFFSET;
  }
};

}  // namespace ingot
