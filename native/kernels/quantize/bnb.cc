// bitsandbytes 0.50.2 on a CPU: 4-bit blocks, nested scales, LLM.int8 rows. Equal to src/methods/bitsandbytes/oracle.ts bit for bit:
// every operation is one float32 rounding. Values that have no code (NaN, infinity, float16 overflow) show in the absmax of their block
// (not finite) or row (65536), and the caller refuses.
#include "../exports.h"

namespace {

constexpr size_t MAX_BLOCK = 4096;

/** Bits of |x|: for floats that are not negative, order of bits is order of values. */
FB_INLINE int32_t magnitude(float x) { return fb::bits<int32_t>(x) & 0x7fffffff; }

FB_INLINE float clamp1(float s) { return fb::min(fb::max(s, -1.0f), 1.0f); }

typedef float F32x4 __attribute__((vector_size(16)));
typedef int32_t I32x4 __attribute__((vector_size(16)));

/** Number of the 15 bounds strictly below each s; `count` is rounded up to a multiple of 8, the arrays have room for it. */
FB_INLINE void count_below(const float* s, const F32x4* bounds, int32_t* below, size_t count) {
  for (size_t i = 0; i < count; i += 8) {
    F32x4 a, b;
    fb::copy(&a, s + i, sizeof a);
    fb::copy(&b, s + i + 4, sizeof b);
    I32x4 k = {}, l = {};
#pragma GCC unroll 15
    for (int n = 0; n < 15; n++) {
      k -= bounds[n] < a;
      l -= bounds[n] < b;
    }
    fb::copy(below + i, &k, sizeof k);
    fb::copy(below + i + 4, &l, sizeof l);
  }
}

/** Bits of 65520, the smallest float that rounds to an infinite half; such a row is refused. */
constexpr int32_t F16_OVERFLOW = 0x477ff000;

/** x rounded to float16 and back, without branches; everything from 65520 on, infinity and NaN included, becomes +-65536. */
FB_INLINE float through_f16(float x) {
  const int32_t all = fb::bits<int32_t>(x);
  const int32_t size = fb::min(all & 0x7fffffff, F16_OVERFLOW);
  const int32_t normal = (size + 0xfff + ((size >> 13) & 1)) & ~0x1fff;
  // A subnormal half has the unit 2^-24, and adding 0.5 in float32 rounds at exactly that unit.
  const int32_t subnormal = fb::bits<int32_t>((fb::bits<float>(size) + 0.5f) - 0.5f);
  const int32_t sign = all & static_cast<int32_t>(0x80000000);
  return fb::bits<float>((size < 0x38800000 ? subnormal : normal) | sign);
}

}  // namespace

/**
 * Units are blocks of the flat x. inputs: x F32 [count], bounds F32 [15], order U8 [16] (codes in ascending order of value); outputs:
 * codes U8 [count], absmax F32 [blocks]; params: blocks, count, blockSize.
 */
FB_EXPORT double fb_bnb_4bit(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const float* x = fb::pointer<const float>(args[2]);
  const float* given_bounds = fb::pointer<const float>(args[3]);
  const uint8_t* order = fb::pointer<const uint8_t>(args[4]);
  uint8_t* codes = fb::pointer<uint8_t>(args[5]);
  float* absmax = fb::pointer<float>(args[6]);
  const size_t count = static_cast<size_t>(args[8]), size = static_cast<size_t>(args[9]);
  const float epsilon = 1e-38f;  // a subnormal: nothing here may flush
  FB_ALIGN(16) float scaled[MAX_BLOCK];
  FB_ALIGN(16) int32_t below[MAX_BLOCK];
  F32x4 bounds[15];
  for (int n = 0; n < 15; n++) bounds[n] = F32x4{} + given_bounds[n];
  for (size_t block = from; block < to; block++) {
    const size_t start = block * size;
    const size_t length = fb::min(count - start, size);
    const float* row = x + start;
    int32_t largest = 0;
    for (size_t i = 0; i < length; i++) largest = fb::max(largest, magnitude(row[i]));
    const float max = fb::bits<float>(largest);
    const float floor = fb::max(max, epsilon);
    if (length == size) {
      const float reciprocal = 1.0f / floor;
      for (size_t i = 0; i < length; i++) scaled[i] = clamp1(row[i] * reciprocal);
      absmax[block] = max;
    } else {
      for (size_t i = 0; i < length; i++) scaled[i] = clamp1(row[i] / floor);
      absmax[block] = floor;
    }
    uint8_t* out = codes + start;
    for (size_t i = length; i % 8 != 0; i++) scaled[i] = 0;
    count_below(scaled, bounds, below, length);
    for (size_t i = 0; i < length; i++) out[i] = order[below[i]];
  }
  return 0;
}

/**
 * Units are blocks of scales. inputs: absmax F32 [count], table U8 [65536] (dynamic code of -1 + 2 i / 65535); outputs: codes U8 [count],
 * nested absmax F32 [blocks]; params: blocks, count, blockSize, offset.
 */
FB_EXPORT double fb_bnb_nested(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const float* x = fb::pointer<const float>(args[2]);
  const uint8_t* table = fb::pointer<const uint8_t>(args[3]);
  uint8_t* codes = fb::pointer<uint8_t>(args[4]);
  float* nested = fb::pointer<float>(args[5]);
  const size_t count = static_cast<size_t>(args[7]), size = static_cast<size_t>(args[8]);
  const float offset = static_cast<float>(args[9]);
  for (size_t block = from; block < to; block++) {
    const size_t start = block * size;
    const size_t end = fb::min(count, start + size);
    float max = 0;
    for (size_t i = start; i < end; i++) max = fb::max(max, __builtin_fabsf(x[i] - offset));
    nested[block] = max;
    const float inverse = max == 0 ? 0 : 1.0f / max;
    for (size_t i = start; i < end; i++) {
      const float t = clamp1((x[i] - offset) * inverse);
      const float u = (t + 1.0f) * 0.5f;
      // The reference fuses multiply and add: one rounding, which float64 gives exactly.
      const float y = static_cast<float>(static_cast<double>(u) * 65535.0 + 0.5);
      // A subnormal max has an infinite inverse, and 0 times that is NaN.
      codes[i] = max > 0 && y > 0 ? table[static_cast<int32_t>(y)] : 0;
    }
  }
  return 0;
}

/** Units are rows. inputs: x F32 [rows, K]; outputs: codes + 128 U8 [rows, K], absmax F32 [rows]; params: rows, K. */
FB_EXPORT double fb_bnb_int8(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const float* x = fb::pointer<const float>(args[2]);
  uint8_t* codes = fb::pointer<uint8_t>(args[3]);
  float* scb = fb::pointer<float>(args[4]);
  const size_t columns = static_cast<size_t>(args[6]);
  constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, half to even
  for (size_t row = from; row < to; row++) {
    const float* FB_RESTRICT in = x + row * columns;
    uint8_t* FB_RESTRICT out = codes + row * columns;
    int32_t largest = 0;
    for (size_t i = 0; i < columns; i++) largest = fb::max(largest, magnitude(through_f16(in[i])));
    const float max = fb::bits<float>(largest);
    scb[row] = max;
    if (max >= 65536.0f) continue;
    const float scale = max == 0 ? 0 : (1.0f / max) * 127.0f;  // two roundings: not 127 / max
    for (size_t i = 0; i < columns; i++) {
      const float rounded = (through_f16(in[i]) * scale + ROUND) - ROUND;
      out[i] = static_cast<uint8_t>(static_cast<int32_t>(rounded) + 128);
    }
  }
  return 0;
}
