// The IQ types and Q3_K opened (src/weights/superblock/iq.ts, four-bits.ts, k.ts). `grid` holds the values of all rows, 8 or 4 a row.
#pragma once
#include "half.h"
#include "open.h"

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

/** Number k of the 4-bit codes at `at`, two a byte. */
inline uint32_t nibble(const uint8_t* at, int k) { return at[k >> 1] >> (k & 1 ? 4 : 0) & 15; }

inline int8_t odd(uint32_t code) { return static_cast<int8_t>(2 * code + 1); }

/** A row, minus where a bit of `signs` is set. */
template <int SIZE>
void open_row(const int8_t* grid, uint32_t row, uint32_t signs, int8_t* levels) {
  for (uint32_t i = 0; i < SIZE; i++) {
    const int8_t value = grid[row * SIZE + i];
    levels[i] = static_cast<int8_t>(signs >> i & 1 ? -value : value);
  }
}

inline void open_iq2_xxs(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = half_bits_at(block);
  for (int g = 0; g < 8; g++) {
    const uint8_t* rows = block + 2 + 8 * g;
    const uint32_t tail = word_at(rows + 4);
    o.scales[g] = odd(tail >> 28);
    for (int k = 0; k < 4; k++) open_row<8>(grid, rows[k], even_signs(tail >> 7 * k & 127), o.levels + 32 * g + 8 * k);
  }
}

inline void open_iq2_xs(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = half_bits_at(block);
  for (int k = 0; k < 32; k++) {
    const uint32_t code = half_bits_at(block + 2 + 2 * k);
    o.scales[k >> 1] = odd(nibble(block + 66, k >> 1));
    open_row<8>(grid, code & 511, even_signs(code >> 9), o.levels + 8 * k);
  }
}

inline void open_iq2_s(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = half_bits_at(block);
  for (int k = 0; k < 32; k++) {
    o.scales[k >> 1] = odd(nibble(block + 74, k >> 1));
    open_row<8>(grid, block[2 + k] | (block[66 + (k >> 2)] >> 2 * (k & 3) & 3u) << 8, block[34 + k], o.levels + 8 * k);
  }
}

inline void open_iq3_xxs(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = half_bits_at(block);
  for (int g = 0; g < 8; g++) {
    const uint32_t tail = word_at(block + 66 + 4 * g);
    o.scales[g] = odd(tail >> 28);
    for (int k = 0; k < 8; k++) {
      const uint32_t signs = even_signs(tail >> 7 * (k >> 1) & 127) >> (k & 1 ? 4 : 0);
      open_row<4>(grid, block[2 + 8 * g + k], signs, o.levels + 32 * g + 4 * k);
    }
  }
}

inline void open_iq3_s(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = half_bits_at(block);
  for (int g = 0; g < 8; g++) {
    o.scales[g] = odd(nibble(block + 106, g));
    for (int k = 0; k < 8; k++) {
      const uint32_t row = block[2 + 8 * g + k] | (block[66 + g] >> k & 1u) << 8;
      const uint32_t signs = static_cast<uint32_t>(block[74 + 4 * g + (k >> 1)]) >> (k & 1 ? 4 : 0);
      open_row<4>(grid, row, signs, o.levels + 32 * g + 4 * k);
    }
  }
}

/** 8 * (value +- 1/8). */
inline void open_shifted_row(const int8_t* grid, uint32_t row, bool down, int8_t* levels) {
  for (uint32_t i = 0; i < 8; i++) levels[i] = static_cast<int8_t>(8 * grid[row * 8 + i] + (down ? -1 : 1));
}

inline void open_iq1_s(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = half_bits_at(block);
  for (int g = 0; g < 8; g++) {
    const uint32_t high = half_bits_at(block + 34 + 2 * g);
    o.scales[g] = odd(high >> 12 & 7);
    for (int k = 0; k < 4; k++)
      open_shifted_row(grid, block[2 + 4 * g + k] | (high >> 3 * k & 7) << 8, high & 0x8000, o.levels + 32 * g + 8 * k);
  }
}

/** The half scale of IQ1_M lies in the top nibbles of its four words of scales. */
inline uint16_t iq1_m_half(const uint8_t* block) {
  uint32_t half = 0;
  for (int i = 0; i < 4; i++) half |= static_cast<uint32_t>(block[49 + 2 * i] >> 4) << 4 * i;
  return static_cast<uint16_t>(half);
}

inline void open_iq1_m(const uint8_t* block, const int8_t* grid, OpenBlock& o) {
  o.d = iq1_m_half(block);
  for (int g = 0; g < 16; g++) {
    o.scales[g] = odd(half_bits_at(block + 48 + 2 * (g >> 2)) >> 3 * (g & 3) & 7);
    for (int k = 0; k < 2; k++) {
      const uint32_t code = static_cast<uint32_t>(block[32 + g]) >> 4 * k;
      open_shifted_row(grid, block[2 * g + k] | (code & 7) << 8, code & 8, o.levels + 16 * g + 8 * k);
    }
  }
}

inline void open_iq4_xs(const uint8_t* block, const int8_t*, OpenBlock& o) {
  o.d = half_bits_at(block);
  const int high = half_bits_at(block + 2);
  for (int g = 0; g < 8; g++) {
    o.scales[g] = static_cast<int8_t>((nibble(block + 4, g) | (high >> 2 * g & 3) << 4) - 32);
    for (int i = 0; i < 32; i++) o.levels[32 * g + i] = IQ4_VALUES[block[8 + 16 * g + (i & 15)] >> (i < 16 ? 0 : 4) & 15];
  }
}

inline void open_q3(const uint8_t* block, const int8_t*, OpenBlock& o) {
  o.d = half_bits_at(block + 108);
  const uint8_t* sc = block + 96;
  for (int g = 0; g < 16; g++) {
    const int low = g < 8 ? sc[g] & 15 : sc[g - 8] >> 4;
    o.scales[g] = static_cast<int8_t>((low | (sc[8 + (g & 3)] >> 2 * (g >> 2) & 3) << 4) - 32);
    const uint8_t* codes = block + 32 + 32 * (g >> 3) + 16 * (g & 1);
    const uint8_t* high = block + 16 * (g & 1);
    for (int i = 0; i < 16; i++) o.levels[16 * g + i] = static_cast<int8_t>(((codes[i] >> (g & 6) & 3) | (high[i] >> (g >> 1) & 1) << 2) - 4);
  }
}

/** A block by its opener. */
template <Type TYPE, Opener OPEN>
void decode_open(const uint8_t* block, const int8_t* grid, float* y) {
  constexpr OpenLayout L = open_layout(TYPE);
  OpenBlock o;
  OPEN(block, grid, o);
  const float d = from_f16(o.d);
  for (int i = 0; i < 256; i++) y[i] = d * static_cast<float>(o.scales[i / L.group]) * L.unit * static_cast<float>(o.levels[i]);
}

}  // namespace
}  // namespace fb::blocks
