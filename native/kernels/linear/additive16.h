// Tables of int16, for machines with vpermi2b: a table of 256 values is eight registers, four of low bytes and four of high ones, and 64 rows
// are looked up at once. A block of groups has one scale such that the sums of its looked-up values fit int16. The tables are products of
// codebooks and x in 15 bits each (vpdpwssd), so rounding to a table's 12 bits is the only error that counts: about 1e-3 of the span.
#pragma once
#include "pieces.h"

namespace fb::linear {
namespace {

constexpr int TABLE16_BYTES = 512;
/** Looked-up values that are added in int16. */
constexpr int SUMMANDS = 16;
constexpr float LARGEST16 = 32767.0f / SUMMANDS;
/** Panels that pass while a table is in registers. */
constexpr int PANELS16 = 6;

/** Values of x in a group whose products with a codebook's words fit 32 bits. */
constexpr int MOST_VALUES = 64;

inline bool has_tables16(const Weight& w) { return has_byte_permutes() && w.table_unit > 0 && w.codebooks <= SUMMANDS && w.group <= MOST_VALUES; }

inline int block_groups(const Weight& w) { return SUMMANDS / w.codebooks; }
inline int blocks16(const Weight& w) { return (w.k / w.group + block_groups(w) - 1) / block_groups(w); }

/** Tables, then the scale of each block. */
inline size_t tables16_bytes(const Weight& w) {
  return (size_t)(w.k / w.group * w.codebooks) * TABLE16_BYTES + ((size_t)blocks16(w) * 4 + 63) / 64 * 64;
}
inline size_t scales16_at(const Weight& w) { return (size_t)(w.k / w.group * w.codebooks) * TABLE16_BYTES; }

/** Codes that are fetched into the second cache while tables are filled, which leaves the memory idle. */
constexpr int FETCHED_BYTES = 256 * 1024;

/** Blocks of the codes whose fetching filling begins, half of them at most: looking up goes on with the others. */
inline int fetched_blocks(const Weight& w) { return min(blocks16(w) / 2, FETCHED_BYTES / (w.panels * SUMMANDS * ADDITIVE_ROWS)); }

void fetch_codes(const Weight& w, int block) {
  const int bytes = block_groups(w) * w.codebooks * ADDITIVE_ROWS;
  for (int panel = 0; panel < w.panels; panel++) {
    const uint8_t* codes = w.tile + w.panel_bytes * (size_t)panel + (size_t)(block * bytes);
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(codes + i, 0, 2);
  }
}

/** x of a block of groups as words, those of odd groups filled up to pairs. -> their unit; infinite or NaN where a value is. */
float words_of_x(const float* x, int groups, int group, int16_t* out) {
  uint32_t largest = 0;  // of the magnitudes' bits: NaN is above all
  for (int i = 0; i < groups * group; i++) largest = max(largest, bits<uint32_t>(x[i]) & 0x7fffffff);
  const float top = bits<float>(largest), most = (float)min(32767, 0x7fffffff / (LARGEST_WORD * group));
  const float inverse = top > 1e-30f && largest < 0x7f800000 ? most / top : 0;
  const bool even = group % 2 == 0;
  const int runs = even ? 1 : groups, length = even ? groups * group : group;
  for (int run = 0; run < runs; run++, x += length, out += length + 1) {
    for (int i = 0; i < length; i++) out[i] = (int16_t)(int)__builtin_rintf(x[i] * inverse);
    if (!even) out[length] = 0;
  }
  return top / most;
}

/** Products of all entries of a codebook with G groups, `apart` values from one group's to the next, PAIRS pairs (0: `pairs`) each. -> largest magnitude */
template <int G, int PAIRS>
FB_INLINE __m512i products(const int16_t* book, int entries, int pairs, const int16_t* x, int32_t* table, size_t apart, __m512i largest) {
  if (PAIRS) pairs = PAIRS;
  const auto pair_of_x = [&](int g, int p) FB_LAMBDA { return _mm512_set1_epi32(load<int32_t>(x + 2 * (g * pairs + p))); };
  // Few enough to stay in registers: read for every vector of entries they would take longer than the products.
  __m512i kept[G][max(PAIRS, 1)];
  for (int g = 0; PAIRS && g < G; g++) {
    for (int p = 0; p < PAIRS; p++) {
      kept[g][p] = pair_of_x(g, p);
      asm("" : "+v"(kept[g][p]));
    }
  }
  for (int e = 0; e < entries; e += LANES) {
    __m512i sums[G];
    for (int g = 0; g < G; g++) sums[g] = _mm512_setzero_si512();
    for (int p = 0; p < pairs; p++) {
      const __m512i words = _mm512_loadu_si512(book + (size_t)(p * entries + e) * 2);
      for (int g = 0; g < G; g++) sums[g] = _mm512_dpwssd_epi32(sums[g], words, PAIRS ? kept[g][p] : pair_of_x(g, p));
    }
    for (int g = 0; g < G; g++) {
      largest = _mm512_max_epi32(largest, _mm512_abs_epi32(sums[g]));
      _mm512_storeu_si512(table + (size_t)g * apart + e, sums[g]);
    }
  }
  return largest;
}

template <int PAIRS>
int32_t block_products(const Weight& w, int groups, const int16_t* x, int32_t* tables) {
  const int pairs = word_pairs(w), entries = word_entries(w);
  const size_t apart = (size_t)w.codebooks * 256;
  __m512i largest = _mm512_setzero_si512();
  for (int b = 0; b < w.codebooks; b++) {
    const int16_t* book = word_codebooks(w) + (size_t)(b * pairs * entries) * 2;
    int g = 0;
    for (; g + 4 <= groups; g += 4) largest = products<4, PAIRS>(book, entries, pairs, x + 2 * g * pairs, tables + (size_t)(g * w.codebooks + b) * 256, apart, largest);
    for (; g < groups; g++) largest = products<1, PAIRS>(book, entries, pairs, x + 2 * g * pairs, tables + (size_t)(g * w.codebooks + b) * 256, apart, largest);
  }
  return _mm512_reduce_max_epi32(largest);
}

/** Where the low bytes of 64 values lie that two packs of int32 to int16 have left. */
struct LowBytes {
  uint8_t at[64];
  constexpr LowBytes() : at() {
    for (int e = 0; e < 64; e++) at[e] = (uint8_t)(2 * (e / 32 * 32 + e % 16 / 4 * 8 + e % 32 / 16 * 4 + e % 4));
  }
};
constexpr LowBytes LOW_BYTES;

/** 64 values times `factor` as low and high bytes. */
__attribute__((target("avx512vbmi"), always_inline)) inline void split(const int32_t* values, __m512 factor, uint8_t* low, uint8_t* high) {
  __m512i q[4];
  for (int v = 0; v < 4; v++) q[v] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(values + v * LANES)), factor));
  const __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
  const __m512i at = _mm512_loadu_si512(LOW_BYTES.at);
  _mm512_storeu_si512(low, _mm512_permutex2var_epi8(a, at, b));
  _mm512_storeu_si512(high, _mm512_permutex2var_epi8(a, _mm512_add_epi8(at, _mm512_set1_epi8(1)), b));
}

__attribute__((target("avx512vbmi"))) void fill_tables16(const Weight& w, const float* x, uint8_t* out) {
  FB_ALIGN(64) int32_t tables[SUMMANDS * 256];
  FB_ALIGN(64) int16_t words[SUMMANDS * MOST_VALUES];
  const int groups = w.k / w.group, step = block_groups(w), entries = word_entries(w), pairs = word_pairs(w);
  const int every = blocks16(w) / max(fetched_blocks(w), 1);
  float* scales = (float*)(out + scales16_at(w));
  for (int from = 0, block = 0; from < groups; from += step, block++) {
    if (block % every == 0 && block / every < fetched_blocks(w)) fetch_codes(w, block / every);
    const int count = min(groups, from + step) - from;
    const float unit = words_of_x(x + from * w.group, count, w.group, words);
    const int32_t top = pairs == 4 ? block_products<4>(w, count, words, tables) : block_products<0>(w, count, words, tables);
    const float most = (float)max(top, 1);
    *scales++ = w.table_unit * unit * (most / LARGEST16);
    const __m512 factor = _mm512_set1_ps(LARGEST16 / most);
    for (int t = 0; t < count * w.codebooks; t++, out += TABLE16_BYTES) {
      for (int e = 0; e < entries; e += 64) split(tables + t * 256 + e, factor, out + e, out + 256 + e);
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
    typedef int16_t Words __attribute__((vector_size(32)));
    const __m256i words = _mm256_set_m128i(_mm_load_si128((const __m128i*)(b + part * 8)), _mm_load_si128((const __m128i*)(a + part * 8)));
    const F value = to_float(__builtin_convertvector((Words)words, I));
    store(sums + part * LANES, fma(value, scale, load<F>(sums + part * LANES)));
  }
}

/**
 * Adds what a block of `count` tables says of panels that lie `w.panel_bytes` apart; fetches their codes of `ahead` bytes further on, one
 * panel's after another's: the machine follows runs of lines.
 */
template <int PANELS>
__attribute__((target("avx512vbmi"))) FB_NOINLINE void look_up_block(const Weight& w, const uint8_t* tables, int count, float scale, const uint8_t* codes, int ahead, float* sums) {
  __m512i low[PANELS], high[PANELS];
  for (int p = 0; p < PANELS; p++) low[p] = high[p] = _mm512_setzero_si512();
  for (int t = 0; t < count; t++, tables += TABLE16_BYTES) {
    __m512i first[4], second[4];
    for (int v = 0; v < 4; v++) first[v] = _mm512_loadu_si512(tables + v * 64);
    for (int v = 0; v < 4; v++) second[v] = _mm512_loadu_si512(tables + 256 + v * 64);
    for (int p = 0; p < PANELS; p++) {
      const int line = t * PANELS + p;
      __builtin_prefetch(codes + w.panel_bytes * (size_t)(line / SUMMANDS) + line % SUMMANDS * ADDITIVE_ROWS + ahead, 0, 2);
      const __m512i code = _mm512_loadu_si512(codes + w.panel_bytes * (size_t)p + t * ADDITIVE_ROWS);
      const __mmask64 upper = _mm512_movepi8_mask(code);
      const __m512i l = look_up_bytes(first, code, upper), h = look_up_bytes(second, code, upper);
      low[p] = _mm512_add_epi16(low[p], _mm512_unpacklo_epi8(l, h));
      high[p] = _mm512_add_epi16(high[p], _mm512_unpackhi_epi8(l, h));
    }
  }
  for (int p = 0; p < PANELS; p++) widen_sums(low[p], high[p], splat(scale), sums + p * ADDITIVE_ROWS);
}

/** sums[panel][64] of the rows of panels [from, to), without their scales: all panels pass a block of tables while it lies in the first cache. */
void look_up16(const Weight& w, const uint8_t* tables, int from, int to, float* sums) {
  constexpr decltype(&look_up_block<1>) OF_PANELS[] = {look_up_block<1>, look_up_block<2>, look_up_block<3>, look_up_block<4>, look_up_block<5>, look_up_block<6>};
  const float* scales = (const float*)(tables + scales16_at(w));
  const int all = w.k / w.group * w.codebooks, step = block_groups(w) * w.codebooks, ahead = max(fetched_blocks(w), 1) * step * ADDITIVE_ROWS;
  const int passes = (to - from + PANELS16 - 1) / PANELS16;
  for (int i = 0; i < (to - from) * ADDITIVE_ROWS; i += LANES) store(sums + i, F{});
  for (int at = 0; at < all; at += step, tables += step * TABLE16_BYTES) {
    const uint8_t* codes = w.tile + (size_t)at * ADDITIVE_ROWS;
    for (int pass = 0, panel = from; pass < passes; pass++) {
      const int panels = (to - panel + passes - pass - 1) / (passes - pass);
      OF_PANELS[panels - 1](w, tables, min(all - at, step), scales[at / step], codes + w.panel_bytes * (size_t)panel, ahead, sums + (panel - from) * ADDITIVE_ROWS);
      panel += panels;
    }
  }
}

}  // namespace
}  // namespace fb::linear
