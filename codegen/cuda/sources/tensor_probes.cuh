// How fast tensor cores multiply, where nothing has to be read.
#pragma once

namespace ingot {

struct BFloat16Products {
  using Sum = float;
  static INGOT_DEVICE void add(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_bfloat16(d, a, b);
  }
};

struct Int8Products {
  using Sum = int;
  static INGOT_DEVICE void add(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { multiply_int8(d, a, b); }
};

// CHAINS products at once, none of which waits for another; operands of many bits, as those of a model are.
template <class Products, int CHAINS>
INGOT_DEVICE void probe_products(Here here, GLOBAL float* out, int num_rounds) {
  unsigned a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = 0x3f803f81u ^ unsigned(here.thread_index() * 0x9e37 + i) % 0x7f * 0x00010001u;
  for (int i = 0; i < 2; ++i) b[i] = 0xbf823f80u ^ unsigned(here.thread_index() * 0x85eb + i) % 0x7f * 0x00010001u;
  typename Products::Sum d[CHAINS][4] = {};
  for (int round = 0; round < num_rounds; ++round)
    for (int chain = 0; chain < CHAINS; ++chain) Products::add(d[chain], a, b);
  float sum = 0;
  for (int chain = 0; chain < CHAINS; ++chain)
    for (int i = 0; i < 4; ++i) sum += float(d[chain][i]);
  // Never so, which no compiler knows: without it nothing would be computed.
  if (sum == 0.123f) out[here.thread_index()] = sum;
}

}  // namespace ingot
