// Vectors of the compiler, as wide as the file's instruction set, and the functions that decoders need on them.
#pragma once
#include "../base.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace fb {
namespace FB_LEVEL_NAMESPACE {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));

FB_INLINE Floats load(const float* from) {
  Floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
FB_INLINE void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof v); }
FB_INLINE Floats splat(float value) { return value - Floats{}; }

/** a * b + c, fused where the instruction set has it. */
FB_INLINE Floats madd(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

FB_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
FB_INLINE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
FB_INLINE Floats magnitude(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }

/** e^x to about 2e-7; below -87 it stays at 1e-38, above 88 at 1e38. (Coefficients: Cephes expf.) */
FB_INLINE Floats exponential(Floats x) {
  x = smaller(larger(x, splat(-87.3f)), splat(88.3f));
  const Floats magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats n = (x * 1.44269504088896341f + magic) - magic;
  const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Floats y = (p * r * r + r) + 1.0f;
  const Ints power = __builtin_convertvector(n, Ints) << 23;
  return (Floats)((Ints)y + power);
}

/** tanh to about 2e-7 of its value. (Coefficients: Cephes tanhf.) */
FB_INLINE Floats hyperbolic_tangent(Floats x) {
  const Floats size = magnitude(x);
  const Floats big = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
  const Floats z = x * x;
  Floats p = splat(-5.70498872745e-3f);
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const Floats small = p * z * x + x;
  const Floats signed_big = (Floats)((Ints)big | ((Ints)x & (int32_t)0x80000000));
  return size < 0.625f ? small : signed_big;
}

/** 1 - erf(x) for x >= 0, to about 2e-7 of its value below 4. (Chebyshev fit of Numerical Recipes' erfcc.) */
FB_INLINE Floats error_complement(Floats x) {
  const Floats t = 1.0f / (x * 0.5f + 1.0f);
  Floats p = splat(0.17087277f);
  p = p * t - 0.82215223f;
  p = p * t + 1.48851587f;
  p = p * t - 1.13520398f;
  p = p * t + 0.27886807f;
  p = p * t - 0.18628806f;
  p = p * t + 0.09678418f;
  p = p * t + 0.37409196f;
  p = p * t + 1.00002368f;
  p = p * t - 1.26551223f;
  return t * exponential(p - x * x);
}

}  // namespace FB_LEVEL_NAMESPACE
}  // namespace fb
