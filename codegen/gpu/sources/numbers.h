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

// log(1 + exp(x)), to about 1e-7 relative: log1p(y) = 2 atanh(y / (2 + y)) by its series, whose argument is at most a third.
INGOT_DEVICE float softplus(float x) {
  float y = exponential(-magnitude(x)), s = divide(y, 2.0f + y), square = s * s, series = 2.0f / 15;
  series = fused_multiply_add(series, square, 2.0f / 13);
  series = fused_multiply_add(series, square, 2.0f / 11);
  series = fused_multiply_add(series, square, 2.0f / 9);
  series = fused_multiply_add(series, square, 2.0f / 7);
  series = fused_multiply_add(series, square, 2.0f / 5);
  series = fused_multiply_add(series, square, 2.0f / 3);
  series = fused_multiply_add(series, square, 2.0f);
  return larger(x, 0.0f) + series * s;
}

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
  static INGOT_DEVICE float read(float value) { return value; }
};

// Of which products take what is nearest in bfloat16.
template <int WIDTH_, int STRIDE_, int OFFSET_>
struct RoundedRows {
  CONSTANT int WIDTH = WIDTH_, STRIDE = STRIDE_, OFFSET = OFFSET_;
  static INGOT_DEVICE GLOBAL const float* at(GLOBAL const float* rows, int row) {
    return Rows<WIDTH, STRIDE, OFFSET>::at(rows, row);
  }
  static INGOT_DEVICE float read(float value) { return widen_bfloat16(narrow_bfloat16(value)); }
};

INGOT_DEVICE float4 four_zeros() {
  float4 four;
  four.x = four.y = four.z = four.w = 0;
  return four;
}

// Four columns from first on of a row's part, of which each has SIZE; zeros past the part's end.
template <class View, int SIZE>
INGOT_DEVICE float4 four_of(GLOBAL const float* rows, int row, int part, int first) {
  GLOBAL const float* own = View::at(rows, row) + part * SIZE + first;
  if constexpr (SIZE % 4 == 0 && View::STRIDE % 4 == 0 && View::OFFSET % 4 == 0) {
    return first < SIZE ? *reinterpret_cast<GLOBAL const float4*>(own) : four_zeros();
  } else {
    float4 four = four_zeros();
    if (first < SIZE) four.x = own[0];
    if (first + 1 < SIZE) four.y = own[1];
    if (first + 2 < SIZE) four.z = own[2];
    if (first + 3 < SIZE) four.w = own[3];
    return four;
  }
}

}  // namespace ingot
