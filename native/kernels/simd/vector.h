// One vector of the level that a file is compiled for: 16, 8 or 4 lanes of 32 bits. Arithmetic is the compilers' vector extension
// (+ - * & >> work on it); only what the extension lacks is written for each instruction set.
#pragma once
#include "../base.h"
#include "../half.h"
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#define FB_LAMBDA __attribute__((always_inline))

namespace fb {
namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float F __attribute__((vector_size(LANES * 4)));
typedef int32_t I __attribute__((vector_size(LANES * 4)));
typedef uint32_t U __attribute__((vector_size(LANES * 4)));

template <class V, class T>
FB_INLINE V load(const T* from) {
  V out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}

template <class V, class T>
FB_INLINE void store(T* to, V value) {
  __builtin_memcpy(to, &value, sizeof value);
}

FB_INLINE F splat(float value) { return value - F{}; }
FB_INLINE I splat(int32_t value) { return value - I{}; }
FB_INLINE F to_float(I value) { return __builtin_convertvector(value, F); }

/** a * b + c, rounded once where the machine can. */
FB_INLINE F fma(F a, F b, F c) {
#if defined(__AVX512F__)
  return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

FB_INLINE F load_bf16(const uint8_t* from) {
#if defined(__AVX512F__)
  return (F)((U)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)) << 16);
#elif defined(__AVX2__)
  return (F)((U)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from)) << 16);
#else
  typedef uint16_t H __attribute__((vector_size(LANES * 2)));
  return (F)(__builtin_convertvector(load<H>(from), U) << 16);
#endif
}

FB_INLINE F load_f16(const uint8_t* from) {
#if defined(__AVX512F__)
  return (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__AVX2__)
  return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
#else
  // Finite halves: the exponent's bias is moved by one exact multiplication.
  typedef uint16_t H __attribute__((vector_size(LANES * 2)));
  const U half = __builtin_convertvector(load<H>(from), U);
  const F magnitude = (F)((half & 0x7fff) << 13) * 0x1p112f;
  return (F)((U)magnitude | (half & 0x8000) << 16);
#endif
}

/** Lanes of bytes. */
FB_INLINE I load_bytes(const uint8_t* from) {
#if defined(__AVX512F__)
  return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)from));
#elif defined(__AVX2__)
  return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)from));
#elif defined(__wasm_simd128__)
  return (I)wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(from)));
#else
  return I{from[0], from[1], from[2], from[3]};
#endif
}

FB_INLINE F load_u8(const uint8_t* from) { return to_float(load_bytes(from)); }

FB_INLINE F load_i8(const uint8_t* from) {
#if defined(__AVX512F__)
  return (F)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
#elif defined(__AVX2__)
  return (F)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
#elif defined(__wasm_simd128__)
  return to_float((I)wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(from))));
#else
  return F{(float)(int8_t)from[0], (float)(int8_t)from[1], (float)(int8_t)from[2], (float)(int8_t)from[3]};
#endif
}

/** table[index] for indices 0..15. */
FB_INLINE F pick16(const float* table, U index) {
#if defined(__AVX512F__)
  return (F)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
#elif defined(__AVX2__)
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), (__m256i)index);
  return (F)_mm256_blendv_ps(low, high, (__m256)(index << 28));
#else
  return F{table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
#endif
}

}  // namespace
}  // namespace fb
