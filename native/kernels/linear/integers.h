// The integer product of methods that quantise activations themselves: unsigned 8-bit codes times int8, summed exactly in 32 bits
// (k up to 65,000), in 16-bit lanes where the level has them.
#pragma once
#include "words.h"

namespace fb::linear {
namespace {

FB_INLINE void store_integers(const Call& c, int row, int panel, const int32_t* sums, int32_t total) {
  const Weight& w = *c.weight;
  const int first = panel * PANEL_ROWS;
  const int32_t shift = (int32_t)w.zero_point * total;
  int32_t* y = c.y8 + (size_t)row * (size_t)c.ldy + first;
  for (int lane = 0; lane < PANEL_ROWS && first + lane < w.n; lane++) y[lane] = sums[lane] - shift;
}

#if defined(FB_WORDS)

/** Four int8 as words, repeated over the vector. */
FB_INLINE W broadcast_bytes(const int8_t* from) {
#if defined(__AVX512F__)
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  return (W)_mm512_cvtepi8_epi16(_mm256_set1_epi32(four));
#elif defined(__AVX2__)
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  return (W)_mm256_cvtepi8_epi16(_mm_set1_epi32(four));
#elif defined(__SSE2__)
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  const __m128i bytes = _mm_cvtsi32_si128(four);
  const __m128i words = _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
  return (W)_mm_unpacklo_epi64(words, words);
#else
  return (W)wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(from));
#endif
}

#if defined(__AVX512VNNI__)

FB_INLINE int32_t sum_of_bytes(const int8_t* x, int count) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  int i = 0;
  for (; i + VECTOR <= count; i += VECTOR) sum = _mm512_dpbusd_epi32(sum, ones, _mm512_loadu_si512(x + i));
  const __mmask64 rest = ((__mmask64)1 << (count - i)) - 1;
  return _mm512_reduce_add_epi32(_mm512_dpbusd_epi32(sum, ones, _mm512_maskz_loadu_epi8(rest, x + i)));
}

/**
 * R rows at once; one row alone has four chains of sums, because each waits for its last. A line takes so few instructions that the machine
 * runs ahead by itself: fetching lines by hand cost a quarter of the speed (Zen 4).
 */
template <int R>
FB_INLINE void integer_rows(const Call& c, int row, int panel) {
  constexpr int CHAINS = R == 1 ? 4 : 1;
  const Weight& w = *c.weight;
  const uint8_t* tile = panel_of(w, panel);
  const int whole = w.k / 4;
  const int8_t* x[R];
  __m512i sums[R][CHAINS] = {};
  for (int r = 0; r < R; r++) x[r] = c.x8 + (size_t)(row + r) * (size_t)c.ldx;
  const auto add = [&](int block, int chain, int count) FB_LAMBDA {
    const __m512i codes = _mm512_loadu_si512(tile + (size_t)block * VECTOR);
    for (int r = 0; r < R; r++) {
      int32_t four = 0;
      __builtin_memcpy(&four, x[r] + block * 4, (size_t)count);
      sums[r][chain] = _mm512_dpbusd_epi32(sums[r][chain], codes, _mm512_set1_epi32(four));
    }
  };
  int block = 0;
  for (; block + CHAINS <= whole; block += CHAINS) {
    for (int chain = 0; chain < CHAINS; chain++) add(block + chain, chain, 4);
  }
  for (; block < whole; block++) add(block, 0, 4);
  if (w.k % 4) add(whole, 0, w.k % 4);
  for (int r = 0; r < R; r++) {
    for (int chain = 1; chain < CHAINS; chain++) sums[r][0] = _mm512_add_epi32(sums[r][0], sums[r][chain]);
    int32_t out[PANEL_ROWS];
    _mm512_storeu_si512(out, sums[r][0]);
    store_integers(c, row + r, panel, out, sum_of_bytes(x[r], w.k));
  }
}

#else

/** R rows at once: the codes are widened once for all of them. */
template <int R>
FB_INLINE void integer_rows(const Call& c, int row, int panel) {
  const Weight& w = *c.weight;
  const uint8_t* tile = panel_of(w, panel);
  I low[R][SIDES] = {}, high[R][SIDES] = {};
  int32_t total[R] = {};
  const int8_t* x[R];
  for (int r = 0; r < R; r++) x[r] = c.x8 + (size_t)(row + r) * (size_t)c.ldx;
  const int8_t* a[R];
  const auto add = [&](const uint8_t* codes) FB_LAMBDA {
    W first[SIDES], second[SIDES];
    for (int side = 0; side < SIDES; side++) {
      const U bytes = load<U>(codes + side * LANES * 4);
      first[side] = interleave_low(bytes, U{});
      second[side] = interleave_high(bytes, U{});
    }
    for (int r = 0; r < R; r++) {
      const W words = broadcast_bytes(a[r]);
      for (int side = 0; side < SIDES; side++) {
        low[r][side] += pair_sums(first[side], words);
        high[r][side] += pair_sums(second[side], words);
      }
    }
  };
  for (int b = 0; b < w.k / 4; b++, tile += VECTOR) {
    __builtin_prefetch(tile + AHEAD);
    for (int r = 0; r < R; r++) a[r] = x[r] + b * 4;
    add(tile);
  }
  int8_t rest[R][4] = {};
  if (w.k % 4) {
    for (int r = 0; r < R; r++) {
      for (int i = 0; i < w.k % 4; i++) rest[r][i] = x[r][w.k / 4 * 4 + i];
      a[r] = rest[r];
    }
    add(tile);
  }
  for (int r = 0; r < R; r++) {
    for (int k = 0; k < w.k; k++) total[r] += x[r][k];
    int32_t sums[PANEL_ROWS];
    for (int side = 0; side < SIDES; side++) store(sums + side * LANES, join(low[r][side], high[r][side]));
    store_integers(c, row + r, panel, sums, total[r]);
  }
}

#endif

void integer_panel(const Call& c, int panel) {
  constexpr int ROWS = LANES == 16 ? 8 : LANES == 8 ? 2 : 1;
  int row = 0;
  for (; row + ROWS <= c.rows; row += ROWS) integer_rows<ROWS>(c, row, panel);
  for (; row < c.rows; row++) integer_rows<1>(c, row, panel);
}

#else

void integer_panel(const Call& c, int panel) {
  const Weight& w = *c.weight;
  for (int row = 0; row < c.rows; row++) {
    const int8_t* x = c.x8 + (size_t)row * (size_t)c.ldx;
    int32_t sums[PANEL_ROWS] = {0};
    int32_t total = 0;
    for (int k = 0; k < w.k; k++) {
      const uint8_t* q = panel_of(w, panel) + (size_t)(k >> 2) * VECTOR + (k & 3);
      for (int lane = 0; lane < PANEL_ROWS; lane++) sums[lane] += (int32_t)q[lane * 4] * x[k];
      total += x[k];
    }
    store_integers(c, row, panel, sums, total);
  }
}

#endif

}  // namespace
}  // namespace fb::linear
