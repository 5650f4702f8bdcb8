// Half and bfloat conversions in plain integer arithmetic, exact both ways or reported as not exact.
#pragma once
#include <stdint.h>

namespace fewbit {
namespace {

inline uint32_t bitsOf(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  return bits;
}

inline float floatOf(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

inline float fromBF16(uint16_t bits) { return floatOf((uint32_t)bits << 16); }

inline float fromF16(uint16_t bits) {
  const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
  const uint32_t magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return floatOf(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // Multiplying by 2^112 moves the exponent's bias and makes subnormals normal in one exact step.
  return floatOf(sign | bitsOf(floatOf(magnitude << 13) * 0x1p112f));
}

/** True and the half's bits where `value` is exactly a finite half. */
inline bool toF16Exactly(float value, uint16_t* out) {
  const uint32_t bits = bitsOf(value);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x477fe000) return false;
  uint32_t half;
  if (magnitude >= 0x38800000) {
    if (magnitude & 0x1fff) return false;
    half = (magnitude - 0x38000000) >> 13;
  } else {
    const float units = floatOf(magnitude) * 0x1p24f;
    half = (uint32_t)units;
    if ((float)half != units) return false;
  }
  *out = (uint16_t)((bits >> 16 & 0x8000) | half);
  return true;
}

inline bool toBF16Exactly(float value, uint16_t* out) {
  const uint32_t bits = bitsOf(value);
  *out = (uint16_t)(bits >> 16);
  return (bits & 0xffff) == 0;
}

}  // namespace
}  // namespace fewbit
