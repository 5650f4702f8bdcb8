// Activations as integers, for the decode kernels. A chunk of 32 has one scale; a value is scale * (d0 + d1/2^7 + d2/2^14), each digit an
// int8 (bytes form), or scale * (d0 + d1/2^15), each an int16 (words form). Integer sums are exact, so three byte digits or two words
// have float32's error. All schemes share the forms, so one prepared x serves every product that reads it.
//
// Where kernels take words in pairs (k, k + 2), they are stored so: 0 2 1 3 of each four.
//
// A prepared row: digits [chunk][digit][32], then scale of the last digit [chunk], then the sum of the values [chunk][2 halves of 16].
#pragma once
#include "../simd/vector.h"
#include "layout.h"

namespace fb::linear {
namespace {

/** How many digits of which size; `top` is the largest first digit. */
struct Form {
  int digits, bytes, top;
};

FB_INLINE constexpr uint32_t number_of(Form f) { return (uint32_t)f.digits | (uint32_t)f.bytes << 4 | (uint32_t)f.top << 8; }

struct Digits {
  const uint8_t* digits;
  const float* scale;
  const float* sum;
};

FB_INLINE size_t round64(size_t bytes) { return (bytes + 63) / 64 * 64; }
FB_INLINE size_t digit_bytes(Form f, int k) { return (size_t)chunks_of(k) * (size_t)(CHUNK * f.digits * f.bytes); }
FB_INLINE size_t row_bytes(Form f, int k) { return round64(digit_bytes(f, k) + (size_t)chunks_of(k) * 12); }

FB_INLINE Digits row_of(const uint8_t* scratch, Form f, int k, int row) {
  const uint8_t* at = scratch + row_bytes(f, k) * (size_t)row;
  const float* scale = (const float*)(at + digit_bytes(f, k));
  return {at, scale, scale + chunks_of(k)};
}

/** Nearest integer, halves to even, for |value| < 2^22. */
FB_INLINE F nearest(F value) { return (value + splat(12582912.0f)) - splat(12582912.0f); }

/** Words 0 2 1 3 of each four. */
FB_INLINE I in_pairs(I value) {
#if defined(__AVX512F__)
  return (I)_mm512_shuffle_epi32((__m512i)value, (_MM_PERM_ENUM)0xd8);
#elif defined(__AVX2__)
  return (I)_mm256_shuffle_epi32((__m256i)value, 0xd8);
#else
  return __builtin_shufflevector(value, value, 0, 2, 1, 3);
#endif
}

template <class T>
FB_INLINE void store_digits(uint8_t* to, int lane, I value) {
  typedef T N __attribute__((vector_size(LANES * sizeof(T))));
  store((T*)to + lane, __builtin_convertvector(value, N));
}

typedef float Quad __attribute__((vector_size(16)));

FB_INLINE float largest(const float* x) {
  F most = {};
  for (int i = 0; i < CHUNK; i += LANES) {
    const F size = (F)((U)load<F>(x + i) & 0x7fffffff);
    most = most < size ? size : most;
  }
  Quad quads[LANES / 4];
  __builtin_memcpy(quads, &most, sizeof quads);
  for (int i = 1; i < LANES / 4; i++) quads[0] = quads[0] < quads[i] ? quads[i] : quads[0];
  const float a = quads[0][0] < quads[0][1] ? quads[0][1] : quads[0][0], b = quads[0][2] < quads[0][3] ? quads[0][3] : quads[0][2];
  return a < b ? b : a;
}

/** Sum of 16 floats, in one order on every level. */
FB_INLINE float sum16(const float* x) {
  const Quad sum = (load<Quad>(x) + load<Quad>(x + 4)) + (load<Quad>(x + 8) + load<Quad>(x + 12));
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/**
 * One chunk of x (whole, in memory) into its digits. T is int8_t or int16_t; a digit's unit is 2^-SHIFT of the one before. `given`: the
 * first one's unit where x is whole numbers of it, else 0.
 */
template <class T, int SHIFT, bool PAIRS>
FB_INLINE void digits_of_chunk(const float* x, Form f, float given, uint8_t* to, float* scale, float* sum) {
  const float most = given != 0 ? given : largest(x), top = given != 0 ? 1.0f : (float)f.top;
  // A chunk whose reciprocal would overflow counts as zero: its values are below 1e-36.
  const float inverse = most > 1e-36f ? top / most : 0.0f;
  const float unit = most > 1e-36f ? most / top : 0.0f;
  float values[CHUNK];
  const float step = (float)(1 << SHIFT);
  const float last = f.digits == 1 ? 1.0f : f.digits == 2 ? 1.0f / step : 1.0f / (step * step);
  for (int i = 0; i < CHUNK; i += LANES) {
    F rest = load<F>(x + i) * splat(inverse);
    F value = {};
    F weight = splat(unit);
    for (int d = 0; d < f.digits; d++) {
      const F digit = nearest(rest);
      const I whole = __builtin_convertvector(digit, I);
      store_digits<T>(to + d * CHUNK * (int)sizeof(T), i, PAIRS ? in_pairs(whole) : whole);
      value += digit * weight;
      weight = weight * splat(1.0f / step);
      rest = (rest - digit) * splat(step);
    }
    store(values + i, value);
  }
  *scale = unit * last;
  sum[0] = sum16(values);
  sum[1] = sum16(values + 16);
}

template <class T, int SHIFT, bool PAIRS>
void digits_of_row(const Call& c, Form f, int row) {
  const int k = c.weight->k;
  const Digits at = row_of(c.scratch, f, k, row);
  const float* x = c.x + (size_t)row * (size_t)c.ldx;
  const int step = CHUNK * f.digits * f.bytes;
  for (int i = 0; i < chunks_of(k); i++) {
    float padded[CHUNK] = {0};
    const float* from = x + i * CHUNK;
    if (k - i * CHUNK < CHUNK) {
      for (int j = 0; j < k - i * CHUNK; j++) padded[j] = from[j];
      from = padded;
    }
    digits_of_chunk<T, SHIFT, PAIRS>(from, f, f.digits == 1 ? c.unit : 0.0f, (uint8_t*)at.digits + i * step, (float*)at.scale + i, (float*)at.sum + 2 * i);
  }
}

}  // namespace
}  // namespace fb::linear
