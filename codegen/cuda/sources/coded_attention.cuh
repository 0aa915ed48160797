// Attention on tensor cores over keys and values in codes.
#pragma once

namespace ingot {

// As FloatTiles. Codes become bfloat16, which holds them; scales multiply sums of a group's products with keys, and
// the weights of values.
template <class Shape, class Keys, class Values>
struct CodedTiles {
  using Number = BFloat16;
  CONSTANT int STEPS = (Shape::DIM + 15) / 16, COLUMNS = (Shape::VALUE_DIM + 7) / 8;
  const unsigned char* keys;
  const typename Keys::Scale::Stored* key_scales;
  const unsigned char* values;
  const typename Values::Scale::Stored* value_scales;

  static INGOT_DEVICE int element_of(int step, int inside, int i) { return step * 16 + inside * 4 + i / 2 * 2; }
  INGOT_DEVICE void score(float (&scores)[2][4], const unsigned (&high)[STEPS][4], const unsigned (&low)[STEPS][4],
                          int64 head, int offset, int group, int inside) const {
    constexpr int STEPS_OF_GROUP = Keys::GROUPS == 1 ? STEPS : Keys::GROUP / 16;
    for (int half = 0; half < 2; ++half)
      for (int number = 0; number < Keys::GROUPS; ++number) {
        float products[4] = {};
        for (int step = number * STEPS_OF_GROUP; step < (number + 1) * STEPS_OF_GROUP; ++step) {
          int element = step * 16 + inside * 4;
          unsigned b[2] = {};
          if (element < Shape::DIM) four_keys(head, offset + key_of(half, group), element, b);
          multiply_bfloat16(products, low[step], b);
          multiply_bfloat16(products, high[step], b);
        }
        for (int j = 0; j < 2; ++j) {
          int64 place = Keys::scale_at(head, offset + key_of(half, inside * 2 + j), number);
          float scale = Keys::Scale::widen(key_scales[place]);
          for (int i = j; i < 4; i += 2) scores[half][i] = fused_multiply_add(products[i], scale, scores[half][i]);
        }
      }
  }

  // Four neighbouring elements of a key.
  INGOT_DEVICE void four_keys(int64 head, int offset, int element, unsigned (&pairs)[2]) const {
    constexpr unsigned MASK = (1u << Keys::BITS) - 1;
    const unsigned char* found = keys + Keys::code_at(head, offset, element);
    unsigned word;
    if constexpr (Keys::BITS == 8) word = *reinterpret_cast<const unsigned*>(found);
    else word = *reinterpret_cast<const unsigned short*>(found);
    for (int i = 0; i < 2; ++i) {
      unsigned pair = word >> 2 * Keys::BITS * i;
      pairs[i] = pack_exact(Keys::Kind::value(pair & MASK), Keys::Kind::value(pair >> Keys::BITS & MASK));
    }
  }

  INGOT_DEVICE void weigh(float (&result)[COLUMNS][4], const float (&weights)[2][4], int64 head, int offset,
                          int num_keys, int group, int inside) const {
    constexpr int COLUMNS_OF_GROUP = Values::GROUPS == 1 ? COLUMNS : Values::GROUP / 8;
    for (int number = 0; number < Values::GROUPS; ++number) {
      float scales[4];
      typename Values::Scale::Stored stored[4];
      load_four(value_scales + Values::scale_at(head, offset + inside * 4, number), stored);
      // What lies past the end was never written, and may be no number.
      for (int i = 0; i < 4; ++i) scales[i] = inside * 4 + i < num_keys ? Values::Scale::widen(stored[i]) : 0.0f;
      unsigned high[4], low[4];
      for (int i = 0; i < 4; ++i) {
        int half = i / 2, side = i % 2;
        split_pair<BFloat16>(weights[half][side * 2] * scales[half * 2],
                             weights[half][side * 2 + 1] * scales[half * 2 + 1], high[i], low[i]);
      }
      for (int column = number * COLUMNS_OF_GROUP; column < (number + 1) * COLUMNS_OF_GROUP; ++column) {
        int element = column * 8 + group;
        unsigned b[2] = {};
        if (element < Shape::VALUE_DIM) {
          const unsigned char* found = values + Values::code_at(head, offset + inside * 4, element);
          unsigned codes = *reinterpret_cast<const unsigned*>(found);
          if constexpr (Values::BITS == 4) codes = codes >> element % 2 * 4 & 0x0f0f0f0fu;
          for (int i = 0; i < 2; ++i)
            b[i] = pack_exact(Values::Kind::value(codes >> 16 * i & 255), Values::Kind::value(codes >> (16 * i + 8) & 255));
        }
        multiply_bfloat16(result[column], low, b);
        multiply_bfloat16(result[column], high, b);
      }
    }
  }
};

}  // namespace ingot
