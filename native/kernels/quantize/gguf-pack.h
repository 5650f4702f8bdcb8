// Codes and half scales -> GGUF blocks of 32 (src/weights/affine-blocks.ts says the layout); compiled for each instruction set.
#pragma once
#include "../blocks/types.h"

namespace fb::gguf {
namespace {

using namespace blocks;

constexpr int bytes_of(Type type) { return layout_of(type).bytes; }

template <Type TYPE>
void pack(const uint8_t* codes, const uint16_t* scale, const uint16_t* shift, uint8_t* block, size_t count) {
  constexpr bool SHIFTED = TYPE == Q4_1 || TYPE == Q5_1, FIVE = TYPE == Q5_0 || TYPE == Q5_1;
  for (size_t b = 0; b < count; b++, codes += 32, block += bytes_of(TYPE)) {
    uint8_t* p = block;
    copy(p, scale + b, 2);
    p += 2;
    if (SHIFTED) {
      copy(p, shift + b, 2);
      p += 2;
    }
    if (TYPE == Q8_0) {
      for (int j = 0; j < 32; j++) p[j] = codes[j] ^ 0x80;
      continue;
    }
    if (FIVE) {
      uint32_t high = 0;
      for (int j = 0; j < 32; j++) high |= static_cast<uint32_t>(codes[j] >> 4) << j;
      copy(p, &high, 4);
      p += 4;
    }
    for (int j = 0; j < 16; j++) p[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] << 4));
  }
}

}  // namespace
}  // namespace fb::gguf
