// Tables and small floats of the four-bit types (src/weights/superblock/four-bits.ts).
#pragma once
#include "../base.h"

namespace fb::blocks {

/** Values of IQ4_NL and IQ4_XS. */
constexpr int8_t IQ4_VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/** Twice the values of E2M1. */
constexpr int8_t E2M1_VALUES[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/** 2^(e - 128). */
FB_INLINE float e8m0_half(uint8_t e) { return bits<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23); }

/** An unsigned float of 4 exponent and 3 mantissa bits; 0x7f is no number and counts as 0. */
FB_INLINE float ue4m3(uint8_t x) {
  if (x == 0 || x == 0x7f) return 0;
  const int exponent = (x >> 3) & 15, mantissa = x & 7;
  if (exponent == 0) return static_cast<float>(mantissa) * (1.0f / 512);
  return bits<float>(static_cast<uint32_t>(exponent + 120) << 23 | static_cast<uint32_t>(mantissa) << 20);
}

}  // namespace fb::blocks
