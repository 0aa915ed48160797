// What is computed row by row: norms, rotary embedding, gates, rounding to int8, look-ups. A block takes a row.
#pragma once

namespace ingot {

// (Zhang and Sennrich, 2019) of x, or of x and a residual, whose sum is written too; a weight for each of SIZE.
template <int THREADS, class X, class Residual, bool HAS_RESIDUAL, int SIZE>
INGOT_DEVICE void rms_norm(
    const float* x, const float* residual, const float* weight, float* total, float* out, float epsilon) {
  int row = block_x();
  const float* own = X::at(x, row);
  for (int start = 0; start < X::WIDTH; start += SIZE) {
    float squares = 0;
    for (int i = thread_index(); i < SIZE; i += THREADS) {
      float value = own[start + i];
      if constexpr (HAS_RESIDUAL) {
        value += Residual::at(residual, row)[start + i];
        total[(long long)row * X::WIDTH + start + i] = value;
      }
      squares = fused_multiply_add(value, value, squares);
    }
    float mean = sum_of_block<THREADS>(squares) / SIZE;
    float factor = divide(1.0f, square_root(mean + epsilon));
    for (int i = thread_index(); i < SIZE; i += THREADS) {
      float value = own[start + i];
      if constexpr (HAS_RESIDUAL) value += Residual::at(residual, row)[start + i];
      out[(long long)row * X::WIDTH + start + i] = value * factor * weight[i];
    }
  }
}

// (Ba et al., 2016); as rms_norm, but of the distances from the mean, and with a bias where there is one.
template <int THREADS, class X, class Residual, bool HAS_RESIDUAL, bool HAS_BIAS, int SIZE>
INGOT_DEVICE void layer_norm(const float* x, const float* residual, const float* weight, const float* bias,
                             float* total, float* out, float epsilon) {
  int row = block_x();
  auto value_at = [&](int i) {
    float value = X::at(x, row)[i];
    if constexpr (HAS_RESIDUAL) value += Residual::at(residual, row)[i];
    return value;
  };
  float sum = 0;
  for (int i = thread_index(); i < SIZE; i += THREADS) {
    float value = value_at(i);
    if constexpr (HAS_RESIDUAL) total[(long long)row * SIZE + i] = value;
    sum += value;
  }
  float mean = sum_of_block<THREADS>(sum) / SIZE;
  float squares = 0;
  for (int i = thread_index(); i < SIZE; i += THREADS) {
    float away = value_at(i) - mean;
    squares = fused_multiply_add(away, away, squares);
  }
  float factor = divide(1.0f, square_root(sum_of_block<THREADS>(squares) / SIZE + epsilon));
  for (int i = thread_index(); i < SIZE; i += THREADS) {
    float normed = (value_at(i) - mean) * factor * weight[i];
    if constexpr (HAS_BIAS) normed += bias[i];
    out[(long long)row * SIZE + i] = normed;
  }
}

// (Su et al., 2021) of the first 2 * PAIRS elements of each head.
template <int THREADS, class X, int HEAD_DIM, int PAIRS, bool INTERLEAVED>
INGOT_DEVICE void rope(const float* x, const float* cosines, const float* sines, float* out) {
  int row = block_x();
  const float* own = X::at(x, row);
  float* result = out + (long long)row * X::WIDTH;
  for (int i = thread_index(); i < X::WIDTH; i += THREADS) {
    int inside = i % HEAD_DIM, head = i - inside;
    if (inside >= 2 * PAIRS) {
      result[i] = own[i];
      continue;
    }
    int pair = INTERLEAVED ? inside / 2 : inside % PAIRS;
    bool is_second = INTERLEAVED ? inside % 2 : inside >= PAIRS;
    float first = own[head + (INTERLEAVED ? 2 * pair : pair)];
    float second = own[head + (INTERLEAVED ? 2 * pair + 1 : pair + PAIRS)];
    float c = cosines[row * PAIRS + pair], s = sines[row * PAIRS + pair];
    result[i] = is_second ? second * c + first * s : first * c - second * s;
  }
}

INGOT_DEVICE float squared(float x) { return x * x; }
INGOT_DEVICE float cubed(float x) { return x * x * x; }

struct Silu {
  static INGOT_DEVICE float of(float x) { return divide(x, 1.0f + exponential(-x)); }
};
struct Gelu {
  static INGOT_DEVICE float of(float x) { return 0.5f * x * (1.0f + error_function(x * 0.70710678118654752f)); }
};
struct GeluTanh {
  static INGOT_DEVICE float of(float x) {
    return 0.5f * x * (1.0f + hyperbolic_tangent(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  }
};

// The first half of each row, activated, times the second.
template <int THREADS, class X, class Activation>
INGOT_DEVICE void gate(const float* x, float* out) {
  constexpr int HALF = X::WIDTH / 2;
  const float* own = X::at(x, block_x());
  for (int i = thread_index(); i < HALF; i += THREADS)
    out[(long long)block_x() * HALF + i] = Activation::of(own[i]) * own[HALF + i];
}

// Rows of a table by number.
template <int THREADS, class Table>
INGOT_DEVICE void gather_rows(const float* table, const int* numbers, float* out) {
  const float* found = Table::at(table, numbers[block_x()]);
  for (int i = thread_index(); i < Table::WIDTH; i += THREADS) out[(long long)block_x() * Table::WIDTH + i] = found[i];
}

// Codes int8 [rows, width] and scales float32 [rows, groups], a group GROUP elements: the largest magnitude is
// 127. A NaN makes its group's scale NaN, so that it is not lost.
template <int THREADS, class X, int GROUP>
INGOT_DEVICE void round_rows(const float* x, signed char* codes, float* scales) {
  int row = block_x();
  const float* own = X::at(x, row);
  signed char* result = codes + (long long)row * X::WIDTH;
  auto round_to = [&](int i, float inverse) {
    float code = nearest(own[i] * inverse);
    result[i] = (signed char)nearest_integer(smaller(larger(code, -128.0f), 127.0f));
  };
  if constexpr (GROUP == WARP) {
    for (int group = warp_index(); group < X::WIDTH / GROUP; group += THREADS / WARP) {
      float value = own[group * GROUP + lane_index()];
      float peak = largest_of_warp(value != value ? bits_to_float(0x7f800000) : magnitude(value));
      float scale = peak / 127.0f, inverse = scale > 0 ? divide(1.0f, scale) : 0.0f;
      if (lane_index() == 0) scales[(long long)row * (X::WIDTH / GROUP) + group] = scale;
      round_to(group * GROUP + lane_index(), inverse);
    }
  } else {
    static_assert(GROUP == X::WIDTH, "a scale is for 32 elements or for the row");
    float peak = 0;
    for (int i = thread_index(); i < X::WIDTH; i += THREADS)
      peak = larger(peak, own[i] != own[i] ? bits_to_float(0x7f800000) : magnitude(own[i]));
    peak = largest_of_block<THREADS>(peak);
    float scale = peak / 127.0f, inverse = scale > 0 ? divide(1.0f, scale) : 0.0f;
    if (thread_index() == 0) scales[row] = scale;
    for (int i = thread_index(); i < X::WIDTH; i += THREADS) round_to(i, inverse);
  }
}

}  // namespace ingot
