// What is computed row by row: norms, rotary embedding, gates, rounding to int8, look-ups. A block takes a row.
#pragma once

namespace ingot {

// (Zhang and Sennrich, 2019) of x, or of x and a residual, whose sum is written too; a weight for each of SIZE.
template <int THREADS, class X, class Residual, bool HAS_RESIDUAL, int SIZE>
INGOT_DEVICE void rms_norm(Here here, SHARED float (&parts)[THREADS / WARP], GLOBAL const float* x,
                           GLOBAL const float* residual, GLOBAL const float* weight, GLOBAL float* total,
                           GLOBAL float* out, float epsilon) {
  int row = here.block_x();
  GLOBAL const float* own = X::at(x, row);
  for (int start = 0; start < X::WIDTH; start += SIZE) {
    float squares = 0;
    for (int i = here.thread_index(); i < SIZE; i += THREADS) {
      float value = own[start + i];
      if constexpr (HAS_RESIDUAL) {
        value += Residual::at(residual, row)[start + i];
        total[(int64)row * X::WIDTH + start + i] = value;
      }
      squares = fused_multiply_add(value, value, squares);
    }
    float mean = sum_of_block(here, parts, squares) / SIZE;
    float factor = divide(1.0f, square_root(mean + epsilon));
    for (int i = here.thread_index(); i < SIZE; i += THREADS) {
      float value = own[start + i];
      if constexpr (HAS_RESIDUAL) value += Residual::at(residual, row)[start + i];
      out[(int64)row * X::WIDTH + start + i] = value * factor * weight[i];
    }
  }
}

// (Ba et al., 2016); as rms_norm, but of the distances from the mean, and with a bias where there is one.
template <class X, class Residual, bool HAS_RESIDUAL>
INGOT_DEVICE float total_at(GLOBAL const float* x, GLOBAL const float* residual, int row, int i) {
  float value = X::at(x, row)[i];
  if constexpr (HAS_RESIDUAL) value += Residual::at(residual, row)[i];
  return value;
}

template <int THREADS, class X, class Residual, bool HAS_RESIDUAL, bool HAS_BIAS, int SIZE>
INGOT_DEVICE void layer_norm(Here here, SHARED float (&parts)[THREADS / WARP], GLOBAL const float* x,
                             GLOBAL const float* residual, GLOBAL const float* weight, GLOBAL const float* bias,
                             GLOBAL float* total, GLOBAL float* out, float epsilon) {
  int row = here.block_x();
  for (int start = 0; start < X::WIDTH; start += SIZE) {
    float sum = 0;
    for (int i = here.thread_index(); i < SIZE; i += THREADS) {
      float value = total_at<X, Residual, HAS_RESIDUAL>(x, residual, row, start + i);
      if constexpr (HAS_RESIDUAL) total[(int64)row * X::WIDTH + start + i] = value;
      sum += value;
    }
    float mean = sum_of_block(here, parts, sum) / SIZE;
    float squares = 0;
    for (int i = here.thread_index(); i < SIZE; i += THREADS) {
      float away = total_at<X, Residual, HAS_RESIDUAL>(x, residual, row, start + i) - mean;
      squares = fused_multiply_add(away, away, squares);
    }
    float factor = divide(1.0f, square_root(sum_of_block(here, parts, squares) / SIZE + epsilon));
    for (int i = here.thread_index(); i < SIZE; i += THREADS) {
      float away = total_at<X, Residual, HAS_RESIDUAL>(x, residual, row, start + i) - mean;
      float normed = away * factor * weight[i];
      if constexpr (HAS_BIAS) normed += bias[i];
      out[(int64)row * X::WIDTH + start + i] = normed;
    }
  }
}

// Of SIZE elements that are INNER apart, for each of the parts that a row has of them: a warp or a thread each.
template <int THREADS, class X, int SIZE, int INNER>
INGOT_DEVICE void mean(Here here, GLOBAL const float* x, GLOBAL float* out) {
  constexpr int RESULTS = X::WIDTH / SIZE;
  GLOBAL const float* own = X::at(x, here.block_x());
  GLOBAL float* result = out + (int64)here.block_x() * RESULTS;
  if constexpr (INNER == 1) {
    for (int part = here.warp(); part < RESULTS; part += THREADS / WARP) {
      float sum = 0;
      for (int i = here.lane(); i < SIZE; i += WARP) sum += own[part * SIZE + i];
      sum = sum_of_warp(sum);
      if (here.lane() == 0) result[part] = divide(sum, float(SIZE));
    }
  } else {
    for (int part = here.thread_index(); part < RESULTS; part += THREADS) {
      float sum = 0;
      for (int i = 0; i < SIZE; ++i) sum += own[(part / INNER * SIZE + i) * INNER + part % INNER];
      result[part] = divide(sum, float(SIZE));
    }
  }
}

// (Su et al., 2021) of the first 2 * PAIRS elements of each head.
template <int THREADS, class X, int HEAD_DIM, int PAIRS, bool INTERLEAVED>
INGOT_DEVICE void rope(Here here, GLOBAL const float* x, GLOBAL const float* cosines, GLOBAL const float* sines,
                       GLOBAL float* out) {
  int row = here.block_x();
  GLOBAL const float* own = X::at(x, row);
  GLOBAL float* result = out + (int64)row * X::WIDTH;
  for (int i = here.thread_index(); i < X::WIDTH; i += THREADS) {
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

struct Same {
  static INGOT_DEVICE float of(float x) { return x; }
};
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
INGOT_DEVICE void gate(Here here, GLOBAL const float* x, GLOBAL float* out) {
  constexpr int HALF = X::WIDTH / 2;
  GLOBAL const float* own = X::at(x, here.block_x());
  for (int i = here.thread_index(); i < HALF; i += THREADS)
    out[(int64)here.block_x() * HALF + i] = Activation::of(own[i]) * own[HALF + i];
}

// Rows of a table by number.
template <int THREADS, class Table>
INGOT_DEVICE void gather_rows(Here here, GLOBAL const float* table, GLOBAL const int* numbers, GLOBAL float* out) {
  GLOBAL const float* found = Table::at(table, numbers[here.block_x()]);
  for (int i = here.thread_index(); i < Table::WIDTH; i += THREADS)
    out[(int64)here.block_x() * Table::WIDTH + i] = found[i];
}

// Rows with their elements in another order.
template <int THREADS, class X>
INGOT_DEVICE void permute_columns(Here here, GLOBAL const float* x, GLOBAL const int* order, GLOBAL float* out) {
  GLOBAL const float* own = X::at(x, here.block_x());
  for (int i = here.thread_index(); i < X::WIDTH; i += THREADS) out[(int64)here.block_x() * X::WIDTH + i] = own[order[i]];
}

INGOT_DEVICE float peak_of(float x) { return x != x ? bits_to_float(0x7f800000) : magnitude(x); }
INGOT_DEVICE signed char code_of(float x, float inverse) {
  return (signed char)nearest_integer(smaller(larger(nearest(x * inverse), -128.0f), 127.0f));
}

// Codes int8 [rows, width] and scales float32 [rows, groups], a group GROUP elements: the largest magnitude is
// 127. A NaN makes its group's scale NaN, so that it is not lost.
template <int THREADS, class X, int GROUP>
INGOT_DEVICE void round_rows(Here here, SHARED float (&parts)[THREADS / WARP], GLOBAL const float* x,
                             GLOBAL signed char* codes, GLOBAL float* scales) {
  int row = here.block_x();
  GLOBAL const float* own = X::at(x, row);
  GLOBAL signed char* result = codes + (int64)row * X::WIDTH;
  if constexpr (GROUP == WARP) {
    for (int group = here.warp(); group < X::WIDTH / GROUP; group += THREADS / WARP) {
      float value = own[group * GROUP + here.lane()];
      float peak = largest_of_warp(peak_of(value));
      float scale = peak / 127.0f, inverse = scale > 0 ? divide(1.0f, scale) : 0.0f;
      if (here.lane() == 0) scales[(int64)row * (X::WIDTH / GROUP) + group] = scale;
      result[group * GROUP + here.lane()] = code_of(value, inverse);
    }
  } else {
    static_assert(GROUP == X::WIDTH, "a scale is for 32 elements or for the row");
    float peak = 0;
    for (int i = here.thread_index(); i < X::WIDTH; i += THREADS)
      peak = larger(peak, peak_of(own[i]));
    peak = largest_of_block(here, parts, peak);
    float scale = peak / 127.0f, inverse = scale > 0 ? divide(1.0f, scale) : 0.0f;
    if (here.thread_index() == 0) scales[row] = scale;
    for (int i = here.thread_index(); i < X::WIDTH; i += THREADS) result[i] = code_of(own[i], inverse);
  }
}

// The same to floats of eight bits, of which the largest is 448; and what these are as floats.
template <int THREADS, class X, int GROUP>
INGOT_DEVICE void round_rows_to_float8(Here here, SHARED float (&parts)[THREADS / WARP], GLOBAL const float* x,
                                       GLOBAL unsigned char* codes, GLOBAL float* scales, GLOBAL float* out) {
  constexpr int GROUPS = X::WIDTH / GROUP, TOGETHER = GROUPS == 1 ? THREADS : WARP;
  GLOBAL const float* own = X::at(x, here.block_x());
  for (int group = here.thread_index() / TOGETHER; group < GROUPS; group += THREADS / TOGETHER) {
    int first = group * GROUP + here.thread_index() % TOGETHER, end = (group + 1) * GROUP;
    float peak = 0;
    for (int i = first; i < end; i += TOGETHER) peak = larger(peak, peak_of(own[i]));
    if constexpr (GROUPS == 1) peak = largest_of_block(here, parts, peak);
    else peak = largest_of_warp(peak);
    float scale = divide(peak, 448.0f), inverse = scale > 0 ? divide(1.0f, scale) : 0.0f;
    if (here.thread_index() % TOGETHER == 0) scales[(int64)here.block_x() * GROUPS + group] = scale;
    for (int i = first; i < end; i += TOGETHER) {
      unsigned char code = E4M3::narrow(smaller(larger(own[i] * inverse, -448.0f), 448.0f));
      codes[(int64)here.block_x() * X::WIDTH + i] = code;
      out[(int64)here.block_x() * X::WIDTH + i] = E4M3::widen(code) * scale;
    }
  }
}

}  // namespace ingot
