// 8-bit floats (src/weights/float8.ts): the nearest code, and the nearest value, of a finite number; ties to even, bounded by the largest.
#pragma once
#include "base.h"

namespace fb {

struct Float8 {
  float max, smallest, unit;  // largest value, smallest normal one, one subnormal step
  int32_t drop, rebias;       // bits of a float32's mantissa that fall away; difference of the exponents' biases, in place

  /** The code of |value|. */
  FB_INLINE int32_t magnitude(float value) const {
    const float size = min(__builtin_fabsf(value), max);
    const int32_t whole = bits<int32_t>(size) - rebias;
    const int32_t normal = (whole + (1 << (drop - 1)) - 1 + ((whole >> drop) & 1)) >> drop;
    const int32_t subnormal = static_cast<int32_t>((size / unit + 12582912.0f) - 12582912.0f);
    return size < smallest ? subnormal : normal;
  }

  FB_INLINE float nearest(float value) const {
    const float size = min(__builtin_fabsf(value), max);
    const int32_t whole = bits<int32_t>(size);
    const float normal = bits<float>((whole + (1 << (drop - 1)) - 1 + ((whole >> drop) & 1)) >> drop << drop);
    const float subnormal = ((size / unit + 12582912.0f) - 12582912.0f) * unit;
    const int32_t sign = bits<int32_t>(value) & static_cast<int32_t>(0x80000000);
    return bits<float>(bits<int32_t>(size < smallest ? subnormal : normal) | sign);
  }
};

FB_INLINE Float8 float8(int32_t mantissa, int32_t bias, float largest) {
  return {largest, bits<float>((128 - bias) << 23), bits<float>((128 - bias - mantissa) << 23), 23 - mantissa, (127 - bias) << 23};
}

}  // namespace fb
