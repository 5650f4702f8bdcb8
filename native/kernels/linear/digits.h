// Activations as integers, for the decode kernels. A chunk of 32 has one scale; a value is scale * (d0 + d1/2^7 + d2/2^14), each digit an
// int8 (bytes form), or scale * (d0 + d1/2^15), each an int16 (words form). Integer sums are exact, so three byte digits or two words
// have float32's error. All schemes share the forms, so one prepared x serves every product that reads it.
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

template <class T>
FB_INLINE void store_digits(uint8_t* to, int lane, I value) {
  typedef T N __attribute__((vector_size(LANES * sizeof(T))));
  store((T*)to + lane, __builtin_convertvector(value, N));
}

FB_INLINE float largest(const float* x) {
  F most = {};
  for (int i = 0; i < CHUNK; i += LANES) {
    const F size = (F)((U)load<F>(x + i) & 0x7fffffff);
    most = most < size ? size : most;
  }
  float out = 0;
  for (int i = 0; i < LANES; i++) out = out < most[i] ? most[i] : out;
  return out;
}

/** One chunk of x (whole, in memory) into its digits. T is int8_t or int16_t; a digit's unit is 2^-SHIFT of the one before. */
template <class T, int SHIFT>
FB_INLINE void digits_of_chunk(const float* x, Form f, uint8_t* to, float* scale, float* sum) {
  const float most = largest(x);
  // A chunk whose reciprocal would overflow counts as zero: its values are below 1e-36.
  const float inverse = most > 1e-36f ? (float)f.top / most : 0.0f;
  const float unit = most > 1e-36f ? most / (float)f.top : 0.0f;
  float total[2] = {0, 0};
  const float step = (float)(1 << SHIFT);
  const float last = f.digits == 1 ? 1.0f : f.digits == 2 ? 1.0f / step : 1.0f / (step * step);
  for (int i = 0; i < CHUNK; i += LANES) {
    F rest = load<F>(x + i) * splat(inverse);
    F value = {};
    F weight = splat(unit);
    for (int d = 0; d < f.digits; d++) {
      const F digit = nearest(rest);
      store_digits<T>(to + d * CHUNK * (int)sizeof(T), i, __builtin_convertvector(digit, I));
      value += digit * weight;
      weight = weight * splat(1.0f / step);
      rest = (rest - digit) * splat(step);
    }
    for (int l = 0; l < LANES; l++) total[(i + l) / 16] += value[l];
  }
  *scale = unit * last;
  sum[0] = total[0];
  sum[1] = total[1];
}

template <class T, int SHIFT>
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
    digits_of_chunk<T, SHIFT>(from, f, (uint8_t*)at.digits + i * step, (float*)at.scale + i, (float*)at.sum + 2 * i);
  }
}

}  // namespace
}  // namespace fb::linear
