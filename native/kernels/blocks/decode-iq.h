// The IQ types -> values (src/weights/superblock/iq.ts). `grid` holds the values of all rows, 8 or 4 a row.
#pragma once
#include "half.h"

namespace fb::blocks {
namespace {

/** Signs of 8 values from 7 bits: bit 7 is their parity. */
inline uint32_t even_signs(uint32_t bits) {
  uint32_t parity = bits ^ bits >> 4;
  parity ^= parity >> 2;
  return bits | ((parity ^ parity >> 1) & 1) << 7;
}

inline uint32_t word_at(const uint8_t* at) {
  uint32_t word;
  copy(&word, at, 4);
  return word;
}

inline uint32_t half_word_at(const uint8_t* at) { return static_cast<uint32_t>(at[0] | at[1] << 8); }

/** A row times scale, minus where a bit of `signs` is set. */
template <int SIZE>
void put_row(const int8_t* grid, uint32_t row, float scale, uint32_t signs, float* y) {
  for (uint32_t i = 0; i < SIZE; i++) {
    const float value = scale * static_cast<float>(grid[row * SIZE + i]);
    y[i] = bits<float>(bits<uint32_t>(value) ^ (signs >> i & 1) << 31);
  }
}

/** (d * (0.5 + code)) * factor. */
inline float half_step(float d, uint32_t code, float factor) { return d * (0.5f + static_cast<float>(code)) * factor; }

inline void decode_iq2_xxs(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = half_at(block);
  for (int g = 0; g < 8; g++) {
    const uint8_t* rows = block + 2 + 8 * g;
    const uint32_t tail = word_at(rows + 4);
    const float scale = half_step(d, tail >> 28, 0.25f);
    for (int k = 0; k < 4; k++) put_row<8>(grid, rows[k], scale, even_signs(tail >> 7 * k & 127), y + 32 * g + 8 * k);
  }
}

/** Number k of the 4-bit codes at `at`, two a byte. */
inline uint32_t nibble(const uint8_t* at, int k) { return at[k >> 1] >> (k & 1 ? 4 : 0) & 15; }

inline void decode_iq2_xs(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = half_at(block);
  for (int k = 0; k < 32; k++) {
    const uint32_t code = half_word_at(block + 2 + 2 * k);
    put_row<8>(grid, code & 511, half_step(d, nibble(block + 66, k >> 1), 0.25f), even_signs(code >> 9), y + 8 * k);
  }
}

inline void decode_iq2_s(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = half_at(block);
  for (int k = 0; k < 32; k++) {
    const uint32_t row = block[2 + k] | (block[66 + (k >> 2)] >> 2 * (k & 3) & 3u) << 8;
    put_row<8>(grid, row, half_step(d, nibble(block + 74, k >> 1), 0.25f), block[34 + k], y + 8 * k);
  }
}

inline void decode_iq3_xxs(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = half_at(block);
  for (int g = 0; g < 8; g++) {
    const uint32_t tail = word_at(block + 66 + 4 * g);
    const float scale = half_step(d, tail >> 28, 0.5f);
    for (int k = 0; k < 8; k++) {
      const uint32_t signs = even_signs(tail >> 7 * (k >> 1) & 127) >> (k & 1 ? 4 : 0);
      put_row<4>(grid, block[2 + 8 * g + k], scale, signs, y + 32 * g + 4 * k);
    }
  }
}

inline void decode_iq3_s(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = half_at(block);
  for (int g = 0; g < 8; g++) {
    const float scale = d * static_cast<float>(1 + 2 * nibble(block + 106, g));
    for (int k = 0; k < 8; k++) {
      const uint32_t row = block[2 + 8 * g + k] | (block[66 + g] >> k & 1u) << 8;
      const uint32_t signs = static_cast<uint32_t>(block[74 + 4 * g + (k >> 1)]) >> (k & 1 ? 4 : 0);
      put_row<4>(grid, row, scale, signs, y + 32 * g + 4 * k);
    }
  }
}

/** scale * (value + delta), delta = -+1/8. */
inline void put_shifted_row(const int8_t* grid, uint32_t row, float scale, bool down, float* y) {
  const float delta = down ? -0.125f : 0.125f;
  for (uint32_t i = 0; i < 8; i++) y[i] = scale * (static_cast<float>(grid[row * 8 + i]) + delta);
}

inline void decode_iq1_s(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = half_at(block);
  for (int g = 0; g < 8; g++) {
    const uint32_t high = half_word_at(block + 34 + 2 * g);
    const float scale = d * static_cast<float>(2 * (high >> 12 & 7) + 1);
    for (int k = 0; k < 4; k++) {
      const uint32_t row = block[2 + 4 * g + k] | (high >> 3 * k & 7) << 8;
      put_shifted_row(grid, row, scale, high & 0x8000, y + 32 * g + 8 * k);
    }
  }
}

/** The half scale of IQ1_M lies in the top nibbles of its four words of scales. */
inline uint16_t iq1_m_half(const uint8_t* block) {
  uint32_t half = 0;
  for (int i = 0; i < 4; i++) half |= static_cast<uint32_t>(block[49 + 2 * i] >> 4) << 4 * i;
  return static_cast<uint16_t>(half);
}

inline void decode_iq1_m(const uint8_t* block, const int8_t* grid, float* y) {
  const float d = from_f16(iq1_m_half(block));
  for (int g = 0; g < 16; g++) {
    const uint32_t scales = half_word_at(block + 48 + 2 * (g >> 2));
    const float scale = d * static_cast<float>(2 * (scales >> 3 * (g & 3) & 7) + 1);
    for (int k = 0; k < 2; k++) {
      const uint32_t code = static_cast<uint32_t>(block[32 + g]) >> 4 * k;
      put_shifted_row(grid, block[2 * g + k] | (code & 7) << 8, scale, code & 8, y + 16 * g + 8 * k);
    }
  }
}

}  // namespace
}  // namespace fb::blocks
