// 8-bit floats as floats: sign and magnitude of a code, moved to their places, are a float that is the value times 2^(bias - 127). Codes of
// subnormals are subnormal there too (a machine that is slow with these meets one code in ten thousand); nothing is rounded. For a
// product x is brought up by a power of two first, so that nothing else is subnormal.
//
// A prepared row: x times a power of two [k, padded with zeros to chunks], then the inverse of that power.
#pragma once
#include "../simd/vector.h"
#include "layout.h"

namespace fb::linear {
namespace {

/** Byte J of each lane as a float. M: bits of the mantissa. */
template <int M, int J>
FB_INLINE F float8_of_byte(U codes) {
  const I high = (I)(codes << (24 - 8 * J));
  return (F)(high >> (M + 1) & splat((int32_t)(0x80000000u | 0x7fu << (23 - M))));
}

/** Powers of two from 2^-126 to 2^127. */
FB_INLINE float power_of_two(int exponent) { return bits<float>((uint32_t)(127 + exponent) << 23); }

/** The largest |x| of a row is brought to this power of two: far from both ends with any code and any k. */
constexpr int FLOAT8_TOP = 90;
/** A value is sum * 2^FLOAT8_HALF * unit; both together are 2^(127 - bias), which may overflow as a factor of its own. */
constexpr int FLOAT8_HALF = 60;

FB_INLINE size_t float8_row_bytes(int k) { return ((size_t)(chunks_of(k) * CHUNK) * sizeof(float) + 127) / 64 * 64; }

struct Float8Row {
  const float* x;
  float inverse;
};

FB_INLINE Float8Row float8_row(const uint8_t* scratch, int k, int row) {
  const float* x = (const float*)(scratch + float8_row_bytes(k) * (size_t)row);
  return {x, x[chunks_of(k) * CHUNK]};
}

inline void prepare_float8(const Call& c, int row) {
  const int k = c.weight->k;
  const float* x = c.x + (size_t)row * (size_t)c.ldx;
  float* out = (float*)(c.scratch + float8_row_bytes(k) * (size_t)row);
  uint32_t most = 0;
  for (int i = 0; i < k; i++) {
    const uint32_t size = bits<uint32_t>(x[i]) & 0x7fffffff;
    most = most < size ? size : most;
  }
  const int exponent = min(FLOAT8_TOP + 127 - (int)(most >> 23), 126);
  const float power = power_of_two(exponent);
  for (int i = 0; i < k; i++) out[i] = x[i] * power;
  for (int i = k; i < chunks_of(k) * CHUNK; i++) out[i] = 0;
  out[chunks_of(k) * CHUNK] = power_of_two(-exponent);
}

}  // namespace
}  // namespace fb::linear
