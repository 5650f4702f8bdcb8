// The vectors of one instruction set for the GGUF quantisers: W floats, written with the compiler's vector types so that one text
// serves all sets. Nothing here rounds differently from scalar float32: multiply and add stay apart, comparisons select lanes.
#pragma once
#include "../base.h"
#include "../half.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace fb::gguf::FB_LEVEL_NAMESPACE {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint8_t B __attribute__((vector_size(W)));
typedef uint16_t H __attribute__((vector_size(2 * W)));

FB_INLINE V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
FB_INLINE void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
FB_INLINE V splat(float x) { return x - V{}; }
FB_INLINE I splat(int32_t x) { return x - I{}; }

FB_INLINE V select(I mask, V yes, V no) { return (V)((mask & (I)yes) | (~mask & (I)no)); }
FB_INLINE I select(I mask, I yes, I no) { return (mask & yes) | (~mask & no); }
FB_INLINE V absolute(V v) { return (V)((I)v & 0x7fffffff); }
FB_INLINE I clamp(I v, int32_t low, int32_t high) {
  // in this form compilers find the max and min instructions
  const I least = splat(low), most = splat(high);
  v = v > least ? v : least;
  return v < most ? v : most;
}

FB_INLINE bool any(I mask) {
  typedef int64_t L __attribute__((vector_size(4 * W)));
  const L wide = (L)mask;
  int64_t all = 0;
  for (int i = 0; i < W / 2; i++) all |= wide[i];
  return all != 0;
}

FB_INLINE V root(V v) {
#if defined(__AVX512F__)
  return (V)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
  return (V)_mm256_sqrt_ps((__m256)v);
#else
  for (int i = 0; i < W; i++) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

/** 1.5 * 2^23: adding it leaves the nearest integer, half to even, in the low 23 bits, which count from 2^22. */
constexpr float MAGIC = 12582912.0f;
constexpr int32_t ORIGIN = 0x400000;

/** The nearest integers within [low, high], counted from ORIGIN; beyond 2^22 the reference's wrapped result. */
FB_INLINE I nearest(V v, int32_t low, int32_t high) {
  return clamp((I)(v + MAGIC) & 0x7fffff, ORIGIN + low, ORIGIN + high);
}
/** The same as floats, exactly. */
FB_INLINE V nearest_float(V v, int32_t low, int32_t high) { return (V)(nearest(v, low, high) | 0x4b000000) - MAGIC; }

FB_INLINE int32_t nearest_int(float v) { return (bits<int32_t>(v + MAGIC) & 0x7fffff) - ORIGIN; }

/** Codes 0..255 to bytes. */
FB_INLINE void store_codes(uint8_t* p, I v) {
  const B bytes = __builtin_convertvector(v, B);
  __builtin_memcpy(p, &bytes, sizeof bytes);
}

/** The largest and the smallest of 32 values; of zeros, either sign. */
FB_INLINE void range32(const float* x, float& high, float& low) {
  V most = load(x), least = most;
  for (int i = W; i < 32; i += W) {
    const V v = load(x + i);
    most = v > most ? v : most;
    least = v < least ? v : least;
  }
  high = most[0];
  low = least[0];
  for (int i = 1; i < W; i++) {
    high = most[i] > high ? most[i] : high;
    low = least[i] < low ? least[i] : low;
  }
}

/** Widens `count` stored values from element `at` on. */
inline void widen(const void* x, int source, size_t at, size_t count, float* out) {
  const uint16_t* half = static_cast<const uint16_t*>(x) + at;
  size_t i = 0;
  if (source == 0) {
    copy(out, static_cast<const float*>(x) + at, count * sizeof(float));
  } else if (source == 2) {
    for (; i < count; i++) out[i] = from_bf16(half[i]);
  } else {
#if defined(__F16C__)
    for (; i + 8 <= count; i += 8)
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
#endif
    for (; i < count; i++) out[i] = from_f16(half[i]);
  }
}

}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
