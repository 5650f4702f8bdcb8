// Q2_K to Q6_K, and Q8_1 and Q8_K of activations, -> values (src/weights/superblock/k.ts).
#pragma once
#include "half.h"

namespace fb::blocks {
namespace {

inline void decode_q2(const uint8_t* block, float* y) {
  const float d = half_at(block + 80), dmin = half_at(block + 82);
  for (int g = 0; g < 16; g++) {
    const float scale = d * static_cast<float>(block[g] & 15), least = dmin * static_cast<float>(block[g] >> 4);
    const uint8_t* codes = block + 16 + 32 * (g >> 3) + 16 * (g & 1);
    const int shift = g & 6;
    for (int l = 0; l < 16; l++) {
      const float product = scale * static_cast<float>((codes[l] >> shift) & 3);
      y[16 * g + l] = product - least;
    }
  }
}

inline void decode_q8_1(const uint8_t* block, float* y) {
  const float d = half_at(block);
  for (int i = 0; i < 32; i++) y[i] = d * static_cast<float>(static_cast<int8_t>(block[4 + i]));
}

inline void decode_q8_k(const uint8_t* block, float* y) {
  float d;
  copy(&d, block, 4);
  for (int i = 0; i < 256; i++) y[i] = d * static_cast<float>(static_cast<int8_t>(block[4 + i]));
}

struct ScaleMin {
  int scale, min;
};

/** The 6-bit scale and min j of the 12 packed bytes. */
inline ScaleMin scale_min(const uint8_t* b, int j) {
  if (j < 4) return {b[j] & 63, b[j + 4] & 63};
  return {(b[j + 4] & 15) | ((b[j - 4] >> 6) << 4), (b[j + 4] >> 4) | ((b[j] >> 6) << 4)};
}

inline void decode_q45(const uint8_t* block, bool five_bits, float* y) {
  const float d = half_at(block), dmin = half_at(block + 2);
  const uint8_t* high = block + 16;
  const uint8_t* low = five_bits ? block + 48 : block + 16;
  for (int g = 0; g < 8; g++) {
    const ScaleMin sm = scale_min(block + 4, g);
    const float scale = d * static_cast<float>(sm.scale);
    const float least = dmin * static_cast<float>(sm.min);
    for (int l = 0; l < 32; l++) {
      const int byte = low[32 * (g >> 1) + l];
      int q = g & 1 ? byte >> 4 : byte & 15;
      if (five_bits) q |= ((high[l] >> g) & 1) << 4;
      const float product = scale * static_cast<float>(q);
      y[32 * g + l] = product - least;
    }
  }
}

inline void decode_q4(const uint8_t* block, float* y) { decode_q45(block, false, y); }
inline void decode_q5(const uint8_t* block, float* y) { decode_q45(block, true, y); }

inline void decode_q6(const uint8_t* block, float* y) {
  const float d = half_at(block + 208);
  for (int e = 0; e < 256; e++) {
    const int n = e >> 7, k = (e >> 5) & 3, l = e & 31;
    const int low = block[64 * n + (k & 1 ? 32 : 0) + l];
    const int q = (k < 2 ? low & 15 : low >> 4) | (((block[128 + 32 * n + l] >> (2 * k)) & 3) << 4);
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + (e >> 4)]));
    y[e] = scale * static_cast<float>(q - 32);
  }
}

}  // namespace
}  // namespace fb::blocks
