// Dot products of unsigned codes and int8 digits.
// AVX2: vpmaddubsw adds two products in 16 bits and 4-bit codes leave room for eight of them before widening, so it takes up to 7
// bits; AVX-512: vpdpbusd takes all 8.
#pragma once
#include "digits.h"
#include "pieces.h"
#include "words.h"

namespace fb::linear {
namespace {

FB_INLINE I broadcast4(const uint8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  return splat(four);
}

/** Keeps a chain of additions a chain: the compiler would make a tree of it, and spill its leaves. */
template <class V>
FB_INLINE void in_order(V& value) {
  asm("" : "+x"(value));
}

/**
 * Sums of codes (`width` bits, without sign) x digits over k-blocks [FROM, FROM + COUNT) for all rows of a panel: sums[digit][side].
 * A broadcast serves both sides at once; kept for the other side it would only be spilled.
 */
template <class Codes, int D, int FROM, int COUNT>
FB_INLINE void dot(const Codes& stored, const uint8_t* chunk, const uint8_t* digits, I (&sums)[D][SIDES]) {
  [[maybe_unused]] constexpr int BITS = Codes::width;
  for (int d = 0; d < D; d++) {
    for (int side = 0; side < SIDES; side++) sums[d][side] = I{};
  }
#if defined(__AVX512VNNI__)
  for (int b = FROM; b < FROM + COUNT; b++) {
    const I codes = (I)stored.at(chunk, b, 0);
    for (int d = 0; d < D; d++) {
      sums[d][0] = (I)_mm512_dpbusd_epi32((__m512i)sums[d][0], (__m512i)codes, (__m512i)broadcast4(digits + d * CHUNK + 4 * (b - FROM)));
    }
  }
#else
  constexpr int ROOM = BITS <= 4 ? 8 : BITS == 5 ? 4 : BITS == 6 ? 2 : 1;
  constexpr int STEP = ROOM < COUNT ? ROOM : COUNT;
  const __m256i ones = _mm256_set1_epi16(1);
  for (int b = FROM; b < FROM + COUNT; b += STEP) {
    __m256i pairs[D][SIDES];
    for (int i = 0; i < STEP; i++) {
      __m256i codes[SIDES];
      for (int side = 0; side < SIDES; side++) codes[side] = (__m256i)stored.at(chunk, b + i, side);
      for (int d = 0; d < D; d++) {
        const __m256i a = (__m256i)broadcast4(digits + d * CHUNK + 4 * (b - FROM + i));
        for (int side = 0; side < SIDES; side++) {
          const __m256i products = _mm256_maddubs_epi16(codes[side], a);
          pairs[d][side] = i ? _mm256_add_epi16(pairs[d][side], products) : products;
          in_order(pairs[d][side]);
        }
      }
    }
    for (int d = 0; d < D; d++) {
      for (int side = 0; side < SIDES; side++) sums[d][side] += (I)_mm256_madd_epi16(pairs[d][side], ones);
    }
  }
#endif
}

/** Codes times D byte digits: sums in units of the last digit. */
template <class Codes, int D>
struct CodeByteDots {
  static constexpr int bits = Codes::bits, step = CHUNK * D, half = 16;
  Codes codes;

  template <int FROM = 0, int COUNT = 8>
  FB_INLINE void sums(const uint8_t* chunk, const uint8_t* digits, F (&out)[SIDES]) const {
    I parts[D][SIDES];
    dot<Codes, D, FROM, COUNT>(codes, chunk, digits, parts);
    for (int side = 0; side < SIDES; side++) {
      if constexpr (D == 1) out[side] = to_float(parts[0][side]);
      else if constexpr (D == 2) out[side] = to_float((parts[0][side] << 7) + parts[1][side]);
      else if constexpr (Codes::width <= 5) out[side] = to_float((((parts[0][side] << 7) + parts[1][side]) << 7) + parts[2][side]);
      else out[side] = fma(to_float(parts[0][side]), splat(16384.0f), to_float((parts[1][side] << 7) + parts[2][side]));
    }
  }
};

template <int BITS, int D>
using ByteDots = CodeByteDots<PlainCodes<BITS>, D>;

}  // namespace
}  // namespace fb::linear
