// Types of four bits and a table, and of one and two bits with one scale a block, -> values (src/weights/superblock/four-bits.ts, few-bits.ts).
#pragma once
#include "half.h"
#include "tables.h"

namespace fb::blocks {
namespace {

/** 2 * WIDTH values: low nibbles, then high ones. */
template <int WIDTH>
FB_INLINE void decode_nibbles(const uint8_t* codes, float d, const int8_t* table, float* y) {
  for (int i = 0; i < WIDTH; i++) {
    y[i] = d * static_cast<float>(table[codes[i] & 15]);
    y[i + WIDTH] = d * static_cast<float>(table[codes[i] >> 4]);
  }
}

inline void decode_iq4_nl(const uint8_t* block, float* y) { decode_nibbles<16>(block + 2, half_at(block), IQ4_VALUES, y); }

inline void decode_mxfp4(const uint8_t* block, float* y) { decode_nibbles<16>(block + 1, e8m0_half(block[0]), E2M1_VALUES, y); }

inline void decode_nvfp4(const uint8_t* block, float* y) {
  for (int g = 0; g < 4; g++) decode_nibbles<8>(block + 4 + 8 * g, ue4m3(block[g]) * 0.5f, E2M1_VALUES, y + 16 * g);
}

/** `bytes` bytes of `trits` trits each; trit n of byte m is value n * bytes + m. */
FB_INLINE void decode_trits(const uint8_t* block, int bytes, int trits, float d, float* y) {
  constexpr uint8_t POWERS[5] = {1, 3, 9, 27, 81};
  for (int n = 0; n < trits; n++)
    for (int m = 0; m < bytes; m++) {
      const uint8_t rest = static_cast<uint8_t>(block[m] * POWERS[n]);
      y[n * bytes + m] = static_cast<float>((rest * 3 >> 8) - 1) * d;
    }
}

inline void decode_tq1(const uint8_t* block, float* y) {
  const float d = half_at(block + 52);
  decode_trits(block, 32, 5, d, y);
  decode_trits(block + 32, 16, 5, d, y + 160);
  decode_trits(block + 48, 4, 4, d, y + 240);
}

inline void decode_tq2(const uint8_t* block, float* y) {
  const float d = half_at(block + 64);
  for (int run = 0; run < 8; run++)
    for (int l = 0; l < 32; l++)
      y[32 * run + l] = static_cast<float>(((block[32 * (run >> 2) + l] >> (2 * (run & 3))) & 3) - 1) * d;
}

inline void decode_q1_0(const uint8_t* block, float* y) {
  const float d = half_at(block);
  for (int i = 0; i < 128; i++) y[i] = (block[2 + (i >> 3)] >> (i & 7)) & 1 ? d : -d;
}

inline void decode_q2_0(const uint8_t* block, float* y) {
  const float d = half_at(block);
  for (int i = 0; i < 64; i++) y[i] = static_cast<float>(((block[2 + (i >> 2)] >> (2 * (i & 3))) & 3) - 1) * d;
}

}  // namespace
}  // namespace fb::blocks
