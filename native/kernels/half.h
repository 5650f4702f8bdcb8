// IEEE half and bfloat16 <-> float32 in integer arithmetic, the same values as src/core/half.ts (nearest even, subnormals, NaN kept).
#pragma once
#include "base.h"

namespace fb {

FB_INLINE float from_bf16(uint16_t h) { return bits<float>(static_cast<uint32_t>(h) << 16); }

FB_INLINE float from_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t shifted = static_cast<uint32_t>(h & 0x7fff) << 13;
  const uint32_t exponent = shifted & 0x0f800000;
  if (exponent == 0x0f800000) return bits<float>(sign | (shifted + 0x70000000));  // infinity, NaN
  if (exponent != 0) return bits<float>(sign | (shifted + 0x38000000));
  // Subnormal: mantissa * 2^-24, exact.
  return bits<float>(sign | bits<uint32_t>(static_cast<float>(h & 0x3ff) * 5.9604644775390625e-8f));
}

FB_INLINE uint16_t to_f16(float value) {
  const uint32_t all = bits<uint32_t>(value);
  const uint32_t sign = (all >> 16) & 0x8000;
  const uint32_t magnitude = all & 0x7fffffff;
  if (magnitude >= 0x7f800000) return static_cast<uint16_t>(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  // A subnormal half has the unit 2^-24, and adding 0.5 in float32 rounds at exactly that unit.
  if (magnitude < 0x38800000) return static_cast<uint16_t>(sign | (bits<uint32_t>(bits<float>(magnitude) + 0.5f) - 0x3f000000));
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
}

FB_INLINE uint16_t to_bf16(float value) {
  const uint32_t all = bits<uint32_t>(value);
  if ((all & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((all >> 16) | 0x40);
  return static_cast<uint16_t>((all + 0x7fff + ((all >> 16) & 1)) >> 16);
}

/** The value rounded to a half and back, without branches: loops over it become vectors. */
FB_INLINE float through_f16(float value) {
  const int32_t all = bits<int32_t>(value), size = all & 0x7fffffff, bounded = min(size, 0x7f800000);
  const int32_t normal = (bounded + 0xfff + ((bounded >> 13) & 1)) & ~0x1fff;
  const int32_t subnormal = bits<int32_t>((bits<float>(bounded) + 0.5f) - 0.5f);
  int32_t rounded = bounded < 0x38800000 ? subnormal : normal;
  rounded = rounded > 0x477fe000 ? 0x7f800000 : rounded;
  rounded = size > 0x7f800000 ? size : rounded;  // NaN
  return bits<float>(rounded | (all & static_cast<int32_t>(0x80000000)));
}

/** As through_f16, for bfloat16. */
FB_INLINE float through_bf16(float value) {
  const uint32_t all = bits<uint32_t>(value);
  const uint32_t rounded = (all + 0x7fff + ((all >> 16) & 1)) & 0xffff0000;
  return bits<float>((all & 0x7fffffff) > 0x7f800000 ? all : rounded);
}

}  // namespace fb
