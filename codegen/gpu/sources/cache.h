// Keys and values in pages: writing a token's, and reading one.
//
// Keys lie [page, kv_head, offset, dim], values [page, kv_head, dim, offset]: neighbours of a row of either second
// factor of a tensor core's product are neighbours in memory. A head of a page is counted through all pages.
#pragma once

namespace ingot {

// --- Floats.

template <class Element, int DIM, int PAGE_SIZE>
struct FloatKeys {
  GLOBAL const typename Element::Stored* stored;

  INGOT_DEVICE float at(int64 head, int offset, int element) const {
    return Element::widen(stored[(head * PAGE_SIZE + offset) * DIM + element]);
  }
  // The product of the key of a head, at an offset of its page, with a query.
  INGOT_DEVICE float product(GLOBAL const float* query, int64 head, int offset) const {
    GLOBAL const typename Element::Stored* found = stored + (head * PAGE_SIZE + offset) * DIM;
    float sum = 0;
    for (int i = 0; i < DIM; ++i) sum = fused_multiply_add(query[i], Element::widen(found[i]), sum);
    return sum;
  }
};

template <class Element, int DIM, int PAGE_SIZE>
struct FloatValues {
  GLOBAL const typename Element::Stored* stored;

  INGOT_DEVICE float at(int64 head, int offset, int element) const {
    return Element::widen(stored[(head * DIM + element) * PAGE_SIZE + offset]);
  }
};

// Write each token's keys and values to their slots.
template <int THREADS, class K, class V, class Element, int KV_HEADS, int DIM, int VALUE_DIM, int PAGE_SIZE>
INGOT_DEVICE void append(Here here, GLOBAL typename Element::Stored* keys, GLOBAL typename Element::Stored* values,
                         GLOBAL const float* k, GLOBAL const float* v, GLOBAL const int* slots) {
  int row = here.block_x(), page = slots[row] / PAGE_SIZE, offset = slots[row] % PAGE_SIZE;
  for (int i = here.thread_index(); i < KV_HEADS * DIM; i += THREADS) {
    int64 head = (int64)page * KV_HEADS + i / DIM;
    keys[(head * PAGE_SIZE + offset) * DIM + i % DIM] = Element::narrow(K::at(k, row)[i]);
  }
  for (int i = here.thread_index(); i < KV_HEADS * VALUE_DIM; i += THREADS) {
    int64 head = (int64)page * KV_HEADS + i / VALUE_DIM;
    values[(head * VALUE_DIM + i % VALUE_DIM) * PAGE_SIZE + offset] = Element::narrow(V::at(v, row)[i]);
  }
}

// --- Codes of 8 or 4 bits, stored from 0 on, and a scale for each GROUP elements of a head. Two codes of four bits
// that are neighbours in a head share a byte, so that no two positions do.

template <int BITS_, class Scale_, int GROUP_, int DIM_, int PAGE_SIZE_, bool ARE_KEYS>
struct CodedPages {
  using Scale = Scale_;
  using Kind = WholeCodes<BITS_, 1 << (BITS_ - 1)>;
  CONSTANT int BITS = BITS_, GROUP = GROUP_, DIM = DIM_, PAGE_SIZE = PAGE_SIZE_;
  CONSTANT int GROUPS = DIM / GROUP, PER_BYTE = 8 / BITS;

  // Where the byte with the codes of an element and its neighbours lies.
  static INGOT_DEVICE int64 code_at(int64 head, int offset, int element) {
    if constexpr (ARE_KEYS) return (head * PAGE_SIZE + offset) * (DIM / PER_BYTE) + element / PER_BYTE;
    return (head * (DIM / PER_BYTE) + element / PER_BYTE) * PAGE_SIZE + offset;
  }
  static INGOT_DEVICE int64 scale_at(int64 head, int offset, int group) {
    if constexpr (ARE_KEYS) return (head * PAGE_SIZE + offset) * GROUPS + group;
    return (head * GROUPS + group) * PAGE_SIZE + offset;
  }
  static INGOT_DEVICE float element_at(GLOBAL const unsigned char* codes, GLOBAL const typename Scale::Stored* scales,
                                       int64 head, int offset, int element) {
    unsigned code = codes[code_at(head, offset, element)] >> element % PER_BYTE * BITS;
    return Kind::value(code & ((1u << BITS) - 1)) * Scale::widen(scales[scale_at(head, offset, element / GROUP)]);
  }
};

template <class Pages>
struct CodedKeys {
  GLOBAL const unsigned char* codes;
  GLOBAL const typename Pages::Scale::Stored* scales;

  INGOT_DEVICE float at(int64 head, int offset, int element) const {
    return Pages::element_at(codes, scales, head, offset, element);
  }
  INGOT_DEVICE float product(GLOBAL const float* query, int64 head, int offset) const {
    constexpr int BITS = Pages::BITS, GROUP = Pages::GROUP, PER_WORD = 32 / BITS;
    constexpr bool IN_WORDS = GROUP % PER_WORD == 0 && Pages::DIM % PER_WORD == 0;
    constexpr int AT_ONCE = IN_WORDS ? PER_WORD : Pages::PER_BYTE;
    float sum = 0;
    for (int group = 0; group < Pages::GROUPS; ++group) {
      float part = 0;
      for (int start = group * GROUP; start < (group + 1) * GROUP; start += AT_ONCE) {
        GLOBAL const unsigned char* found = codes + Pages::code_at(head, offset, start);
        unsigned word = *found;
        if constexpr (IN_WORDS) word = *reinterpret_cast<GLOBAL const unsigned*>(found);
        for (int i = 0; i < AT_ONCE; ++i) {
          float key = Pages::Kind::value(word >> BITS * i & ((1u << BITS) - 1));
          part = fused_multiply_add(query[start + i], key, part);
        }
      }
      sum = fused_multiply_add(part, Pages::Scale::widen(scales[Pages::scale_at(head, offset, group)]), sum);
    }
    return sum;
  }
};

template <class Pages>
struct CodedValues {
  GLOBAL const unsigned char* codes;
  GLOBAL const typename Pages::Scale::Stored* scales;

  INGOT_DEVICE float at(int64 head, int offset, int element) const {
    return Pages::element_at(codes, scales, head, offset, element);
  }
};

// Round a token's heads to their slot, a warp a group: the largest magnitude is the largest code. A NaN makes its
// group's scale infinite, so that it is not lost.
template <int THREADS, class X, int HEADS, class Pages>
INGOT_DEVICE void append_codes(Here here, GLOBAL unsigned char* codes, GLOBAL typename Pages::Scale::Stored* scales,
                               GLOBAL const float* x, int slot) {
  constexpr int LARGEST = (1 << (Pages::BITS - 1)) - 1, GROUP = Pages::GROUP;
  int64 first_head = (int64)(slot / Pages::PAGE_SIZE) * HEADS;
  int offset = slot % Pages::PAGE_SIZE;
  for (int number = here.warp(); number < HEADS * Pages::GROUPS; number += THREADS / WARP) {
    int64 head = first_head + number / Pages::GROUPS;
    int group = number % Pages::GROUPS;
    GLOBAL const float* own = X::at(x, here.block_x()) + number * GROUP;
    float peak = 0;
    for (int i = here.lane(); i < GROUP; i += WARP)
      peak = larger(peak, own[i] != own[i] ? bits_to_float(0x7f800000) : magnitude(own[i]));
    typename Pages::Scale::Stored stored = Pages::Scale::narrow(divide(largest_of_warp(peak), float(LARGEST)));
    float scale = Pages::Scale::widen(stored), inverse = scale > 0 ? divide(1.0f, scale) : 0.0f;
    if (here.lane() == 0) scales[Pages::scale_at(head, offset, group)] = stored;
    for (int start = 0; start < GROUP; start += WARP) {
      int i = start + here.lane();
      float code = i < GROUP ? nearest(own[i] * inverse) : 0.0f;
      int whole = nearest_integer(smaller(larger(code, -LARGEST - 1.0f), float(LARGEST))) + LARGEST + 1;
      int64 place = Pages::code_at(head, offset, group * GROUP + i);
      if constexpr (Pages::BITS == 8) {
        if (i < GROUP) codes[place] = (unsigned char)whole;
      } else {
        int neighbour = shuffle_xor(whole, 1);
        if (i < GROUP && i % 2 == 0) codes[place] = (unsigned char)(whole | neighbour << 4);
      }
    }
  }
}

}  // namespace ingot
