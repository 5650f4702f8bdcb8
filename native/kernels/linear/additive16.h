// Tables of int16, for machines with vpermi2b: a table of 256 values is eight registers, four of low bytes and four of high ones, and 64 rows
// are looked up at once. A block of groups has one scale such that the sums of its looked-up values fit int16.
// 4096 x 4096, 2x8 g8, one thread: 246 us against 639 with float32 tables; error about 1e-3 of the span.
#pragma once
#include "additive-table.h"

namespace fb::linear {
namespace {

constexpr int TABLE16_BYTES = 512;
/** Looked-up values that are added in int16. */
constexpr int SUMMANDS = 16;
constexpr float LARGEST16 = 32767.0f / SUMMANDS;
/** Panels that pass while a table is in registers. */
constexpr int PANELS16 = 4;

inline bool has_tables16(const Weight& w) { return has_byte_permutes() && w.codebooks <= SUMMANDS; }

inline int block_groups(const Weight& w) { return SUMMANDS / w.codebooks; }
inline int blocks16(const Weight& w) { return (w.k / w.group + block_groups(w) - 1) / block_groups(w); }

/** Tables, then the scale of each block. */
inline size_t tables16_bytes(const Weight& w) {
  return (size_t)(w.k / w.group * w.codebooks) * TABLE16_BYTES + ((size_t)blocks16(w) * 4 + 63) / 64 * 64;
}
inline size_t scales16_at(const Weight& w) { return (size_t)(w.k / w.group * w.codebooks) * TABLE16_BYTES; }

/** 64 values as low and high bytes. */
FB_INLINE void split(const float* values, F inverse, uint8_t* low, uint8_t* high) {
  for (int v = 0; v < 4; v++) {
    const __m512i q = _mm512_cvtps_epi32((__m512)(load<F>(values + v * LANES) * inverse));
    _mm_storeu_si128((__m128i*)(low + v * LANES), _mm512_cvtepi32_epi8(q));
    _mm_storeu_si128((__m128i*)(high + v * LANES), _mm512_cvtepi32_epi8(_mm512_srai_epi32(q, 8)));
  }
}

void fill_tables16(const Weight& w, const float* x, uint8_t* out) {
  FB_ALIGN(64) float tables[SUMMANDS * 256];
  const int groups = w.k / w.group, step = block_groups(w), entries = 1 << w.bits;
  float* scales = (float*)(out + scales16_at(w));
  for (int from = 0, block = 0; from < groups; from += step, block++) {
    const int count = (min(groups, from + step) - from) * w.codebooks;
    F largest = {};
    for (int t = 0; t < count; t++) {
      float* table = tables + t * 256;
      for (int e = entries; e < 256; e++) table[e] = 0;
      fill_table(w, x + (from + t / w.codebooks) * w.group, t % w.codebooks, table);
      for (int e = 0; e < 256; e += LANES) largest = (F)_mm512_max_ps((__m512)largest, _mm512_abs_ps((__m512)load<F>(table + e)));
    }
    const float top = _mm512_reduce_max_ps((__m512)largest);
    scales[block] = top / LARGEST16;
    const F inverse = splat(top > 0 ? LARGEST16 / top : 0);
    for (int t = 0; t < count; t++, out += TABLE16_BYTES) {
      for (int e = 0; e < 256; e += 64) split(tables + t * 256 + e, inverse, out + e, out + 256 + e);
    }
  }
}

/** table[code] for 64 codes; `table` is four registers of 64 bytes. */
__attribute__((target("avx512vbmi"), always_inline)) inline __m512i look_up_bytes(const __m512i (&table)[4], __m512i codes, __mmask64 upper) {
  const __m512i below = _mm512_permutex2var_epi8(table[0], codes, table[1]);
  return _mm512_mask_blend_epi8(upper, below, _mm512_permutex2var_epi8(table[2], codes, table[3]));
}

/** Adds the int16 sums of 64 rows, in the order that unpacking leaves, times `scale`. */
FB_INLINE void widen_sums(__m512i low, __m512i high, F scale, float* sums) {
  FB_ALIGN(64) int16_t a[32], b[32];
  _mm512_store_si512(a, low);
  _mm512_store_si512(b, high);
  for (int part = 0; part < 4; part++) {
    const __m256i words = _mm256_set_m128i(_mm_load_si128((const __m128i*)(b + part * 8)), _mm_load_si128((const __m128i*)(a + part * 8)));
    const F value = (F)_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words));
    store(sums + part * LANES, fma(value, scale, load<F>(sums + part * LANES)));
  }
}

template <int PANELS>
__attribute__((target("avx512vbmi"))) FB_NOINLINE void look_up_panels(const Weight& w, const uint8_t* tables, int panel, float* sums) {
  const float* scales = (const float*)(tables + scales16_at(w));
  const int all = w.k / w.group * w.codebooks, step = block_groups(w) * w.codebooks;
  const uint8_t* codes[PANELS];
  for (int p = 0; p < PANELS; p++) codes[p] = w.tile + w.panel_bytes * (size_t)(panel + p);
  for (int i = 0; i < PANELS * ADDITIVE_ROWS; i += LANES) store(sums + i, F{});
  for (int from = 0, block = 0; from < all; from += step, block++) {
    __m512i low[PANELS], high[PANELS];
    for (int p = 0; p < PANELS; p++) low[p] = high[p] = _mm512_setzero_si512();
    for (int at = from; at < min(all, from + step); at++, tables += TABLE16_BYTES) {
      __m512i first[4], second[4];
      for (int v = 0; v < 4; v++) first[v] = _mm512_loadu_si512(tables + v * 64);
      for (int v = 0; v < 4; v++) second[v] = _mm512_loadu_si512(tables + 256 + v * 64);
      for (int p = 0; p < PANELS; p++) {
        const __m512i code = _mm512_loadu_si512(codes[p] + (size_t)at * ADDITIVE_ROWS);
        const __mmask64 upper = _mm512_movepi8_mask(code);
        const __m512i l = look_up_bytes(first, code, upper), h = look_up_bytes(second, code, upper);
        low[p] = _mm512_add_epi16(low[p], _mm512_unpacklo_epi8(l, h));
        high[p] = _mm512_add_epi16(high[p], _mm512_unpackhi_epi8(l, h));
      }
    }
    const F scale = splat(scales[block]);
    for (int p = 0; p < PANELS; p++) widen_sums(low[p], high[p], scale, sums + p * ADDITIVE_ROWS);
  }
}

void look_up16(const Weight& w, const uint8_t* tables, int from, int to, float* sums) {
  for (; from + PANELS16 <= to; from += PANELS16, sums += PANELS16 * ADDITIVE_ROWS) look_up_panels<PANELS16>(w, tables, from, sums);
  for (; from < to; from++, sums += ADDITIVE_ROWS) look_up_panels<1>(w, tables, from, sums);
}

}  // namespace
}  // namespace fb::linear
