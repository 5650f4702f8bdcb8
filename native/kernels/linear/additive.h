// Products with additive codebooks. Decode, codes up to 8 bits: for each row of x the products of every entry with its group of x are tabled
// once, T[group][codebook][entry], and a row of the weight is a sum of looked-up values times its scale: blocks of tables that fit the first
// cache, panels of 64 rows inside. Everything else decodes pieces to float32.
#pragma once
#include "additive-table.h"
#include "float.h"
#if defined(__AVX512F__)
#include "additive16.h"
#endif

namespace fb::linear {
namespace {

/** Bytes of tables that stay in the first cache while panels pass. */
constexpr int TABLE_BYTES = 32 * 1024;
/** Panels whose sums lie in local memory at a time. */
constexpr int MOST_PANELS = (int)(LOCAL_BYTES / (ADDITIVE_ROWS * sizeof(float)));

enum class AdditiveKernel : uint8_t { Float, Tables, Tables16 };

AdditiveKernel choose_additive(const Call& c) {
  const Weight& w = *c.weight;
  // A table pays where there are rows enough to read it.
  if (c.phase == Phase::Prefill || w.bits > 8 || w.out != 1 || (w.codebooks << w.bits) > 16 * w.n) return AdditiveKernel::Float;
#if defined(__AVX512F__)
  if (c.mode == Mode::Fastest && has_tables16(w)) return AdditiveKernel::Tables16;
#endif
  return AdditiveKernel::Tables;
}

inline size_t table_floats(const Weight& w) { return (size_t)(w.k / w.group) * ((size_t)w.codebooks << w.bits); }

size_t additive_scratch(const Call& c) {
  switch (choose_additive(c)) {
    case AdditiveKernel::Float: return 0;
#if defined(__AVX512F__)
    case AdditiveKernel::Tables16: return tables16_bytes(*c.weight) * (size_t)c.rows;
#endif
    default: return table_floats(*c.weight) * sizeof(float) * (size_t)c.rows;
  }
}

/** Tables belong to a weight's own codebooks: nobody shares them. */
uint32_t additive_form(const Call& c) {
  const AdditiveKernel kernel = choose_additive(c);
  if (kernel == AdditiveKernel::Float) return 0;
  return 0x80000000u | (kernel == AdditiveKernel::Tables16 ? 0x40000000u : 0) | ((uint32_t)((uintptr_t)c.weight->tile >> 6) & 0x3fffffff);
}

void additive_prepare(const Call& c, int row_from, int row_to) {
  const Weight& w = *c.weight;
  const int entries = 1 << w.bits;
  for (int row = row_from; row < row_to; row++) {
    const float* x = c.x + (size_t)row * (size_t)c.ldx;
#if defined(__AVX512F__)
    if (choose_additive(c) == AdditiveKernel::Tables16) {
      fill_tables16(w, x, c.scratch + tables16_bytes(w) * (size_t)row);
      continue;
    }
#endif
    float* table = (float*)c.scratch + table_floats(w) * (size_t)row;
    for (int j = 0; j < w.k / w.group; j++) {
      for (int b = 0; b < w.codebooks; b++, table += entries) fill_table(w, x + j * w.group, b, table);
    }
  }
}

/** sums[panel][64] += the looked-up values of groups [from, to). */
void look_up(const Weight& w, const float* tables, int from, int to, int panel_from, int panel_to, float* sums) {
  constexpr int VECTORS = ADDITIVE_ROWS / LANES, SHARE = VECTORS < 8 ? VECTORS : 8;
  const int entries = 1 << w.bits;
  for (int panel = panel_from; panel < panel_to; panel++) {
    float* to_sums = sums + (panel - panel_from) * ADDITIVE_ROWS;
    for (int share = 0; share < VECTORS; share += SHARE) {
      const uint8_t* codes = w.tile + w.panel_bytes * (size_t)panel + (size_t)(from * w.codebooks * ADDITIVE_ROWS + share * LANES);
      const float* table = tables + (size_t)(from * w.codebooks) * (size_t)entries;
      F acc[SHARE];
      for (int v = 0; v < SHARE; v++) acc[v] = load<F>(to_sums + (share + v) * LANES);
      for (int at = from * w.codebooks; at < to * w.codebooks; at++, codes += ADDITIVE_ROWS, table += entries) {
        for (int v = 0; v < SHARE; v++) acc[v] += pick(table, load_bytes(codes + v * LANES));
      }
      for (int v = 0; v < SHARE; v++) store(to_sums + (share + v) * LANES, acc[v]);
    }
  }
}

/** y of a panel of 64 rows from its sums without scales. */
void finish_additive(const Call& c, int row, int panel, float* sums) {
  const Weight& w = *c.weight;
  const float* scales = (const float*)(w.tile + w.panel_bytes * (size_t)panel + additive_codes_bytes(w));
  for (int i = 0; i < ADDITIVE_ROWS; i += LANES) store(sums + i, load<F>(sums + i) * load<F>(scales + i));
  for (int s = 0; s < 4 && panel * ADDITIVE_ROWS + s * PANEL_ROWS < w.n; s++) finish(c, row, panel * 4 + s, sums + s * PANEL_ROWS);
}

void additive_tables(const Call& c, int panel_from, int panel_to, float* sums) {
  const Weight& w = *c.weight;
  const int groups = w.k / w.group, step = max(1, TABLE_BYTES / (w.codebooks * 4 << w.bits));
  for (int row = 0; row < c.rows; row++) {
    const float* tables = (const float*)c.scratch + table_floats(w) * (size_t)row;
    for (int i = 0; i < (panel_to - panel_from) * ADDITIVE_ROWS; i += LANES) store(sums + i, F{});
    for (int j = 0; j < groups; j += step) look_up(w, tables, j, min(groups, j + step), panel_from, panel_to, sums);
    for (int p = panel_from; p < panel_to; p++) finish_additive(c, row, p, sums + (p - panel_from) * ADDITIVE_ROWS);
  }
}

void additive_compute(const Call& c, int panel_from, int panel_to, uint8_t* local) {
  const Weight& w = *c.weight;
  const AdditiveKernel kernel = choose_additive(c);
  if (kernel == AdditiveKernel::Float) {
    for (int panel = panel_from * 4; panel < panel_to * 4 && panel * PANEL_ROWS < w.n; panel++) {
      if (c.phase == Phase::Decode) decode_panel_float(c, panel, (float*)local);
      else prefill_panel(c, panel, (float*)local);
    }
    return;
  }
  for (int from = panel_from; from < panel_to; from += MOST_PANELS) {
    const int to = min(panel_to, from + MOST_PANELS);
#if defined(__AVX512F__)
    if (kernel == AdditiveKernel::Tables16) {
      for (int row = 0; row < c.rows; row++) {
        float* sums = (float*)local;
        look_up16(w, c.scratch + tables16_bytes(w) * (size_t)row, from, to, sums);
        for (int p = from; p < to; p++) finish_additive(c, row, p, sums + (p - from) * ADDITIVE_ROWS);
      }
      continue;
    }
#endif
    additive_tables(c, from, to, (float*)local);
  }
}

const char* additive_kernel(const Call& c) {
  const AdditiveKernel kernel = choose_additive(c);
  return kernel == AdditiveKernel::Tables ? "tables" : kernel == AdditiveKernel::Tables16 ? "int16 tables" : "f32";
}

}  // namespace
}  // namespace fb::linear
