// One table of products: every entry of a codebook with a group of x.
#pragma once
#include "pieces.h"

namespace fb::linear {
namespace {

template <int STEP>
FB_INLINE void fill_entries(const float* book, size_t entries, int group, const float* x, float* table) {
  F sums[STEP] = {};
  for (int i = 0; i < group; i++, book += entries) {
    const F value = splat(x[i]);
    for (int s = 0; s < STEP; s++) sums[s] = fma(value, load<F>(book + s * LANES), sums[s]);
  }
  for (int s = 0; s < STEP; s++) store(table + s * LANES, sums[s]);
}

/** table[entry] = entry of codebook b . x; groups of one row. */
FB_INLINE void fill_table(const Weight& w, const float* x, int b, float* table) {
  const size_t entries = (size_t)1 << w.bits;
  const float* book = additive_codebooks(w) + (size_t)(b * w.group) * entries;
  size_t e = 0;
  for (; e + 4 * LANES <= entries; e += 4 * LANES) fill_entries<4>(book + e, entries, w.group, x, table + e);
  for (; e + LANES <= entries; e += LANES) fill_entries<1>(book + e, entries, w.group, x, table + e);
  for (; e < entries; e++) {
    float sum = 0;
    for (int i = 0; i < w.group; i++) sum += x[i] * book[(size_t)i * entries + e];
    table[e] = sum;
  }
}

}  // namespace
}  // namespace fb::linear
