// The tile of additive codebooks: written here, found again by every kernel. Codebooks lie entry by entry for each value of a group, so that
// neighbouring entries are neighbours in memory; codebooks that tables are made of lie there once more in 15 bits, pairs of values together.
#pragma once
#include "layout.h"

namespace fb::linear {
namespace {

inline size_t additive_codes_bytes(const Weight& w) {
  return (size_t)(w.k / w.group) * (size_t)w.codebooks * ADDITIVE_ROWS * (size_t)code_bytes(w);
}

inline const float* additive_codebooks(const Weight& w) { return (const float*)(w.tile + w.panel_bytes * (size_t)w.panels); }

/** Largest value of a codebook in 15 bits: 8 products with as large a value of x fit 32 bits. */
constexpr int LARGEST_WORD = 16383;
/** Entries for which there is room in a codebook of words. */
inline int word_entries(const Weight& w) { return max(64, 1 << w.bits); }
inline int word_pairs(const Weight& w) { return (w.group + 1) / 2; }

inline size_t float_codebooks_bytes(const Weight& w) {
  const size_t bytes = (size_t)w.codebooks * (size_t)(w.out * w.group) * ((size_t)4 << w.bits);
  return (bytes + 63) / 64 * 64;
}
inline size_t word_codebooks_bytes(const Weight& w) { return (size_t)(w.codebooks * word_pairs(w) * word_entries(w)) * 4; }

/** int16 [codebooks][pairs of a group][entries][2], in units of table_unit; where table_unit is above 0. */
inline const int16_t* word_codebooks(const Weight& w) { return (const int16_t*)((const uint8_t*)additive_codebooks(w) + float_codebooks_bytes(w)); }

/** 16 rows of a panel of 64. */
struct AdditiveRows {
  const uint8_t* codes;  // of group 0 and codebook 0; ADDITIVE_ROWS codes further the next
  const float* scales;
  const float* codebooks;
  int first;  // row
};

/** `panel` as panel_of gives it. */
inline AdditiveRows additive_rows(const Weight& w, const uint8_t* panel) {
  const size_t offset = (size_t)(panel - w.tile), block = offset / w.panel_bytes;
  const int first = (int)(offset % w.panel_bytes) / code_bytes(w);
  const float* scales = (const float*)(w.tile + block * w.panel_bytes + additive_codes_bytes(w));
  return {panel, scales + first, additive_codebooks(w), (int)block * ADDITIVE_ROWS + first};
}

/** The unit of codebooks in words; 0 where no tables are made, a value is not finite, or all are too small to divide by. */
inline float word_unit(const Source& s) {
  if (s.bits > 8 || s.out != 1) return 0;
  const size_t count = (size_t)s.codebooks * (size_t)s.group << s.bits;
  float largest = 0;
  for (size_t i = 0; i < count; i++) {
    const float value = s.table[i] < 0 ? -s.table[i] : s.table[i];
    if (!(value - value == 0)) return 0;
    largest = max(largest, value);
  }
  return largest > 1e-30f ? largest / LARGEST_WORD : 0;
}

inline void describe_additive(const Source& s, Weight& w) {
  w.bits = (uint8_t)s.bits;
  w.group = s.group;
  w.codebooks = s.codebooks;
  w.out = s.out;
  w.panels = (s.n + ADDITIVE_ROWS - 1) / ADDITIVE_ROWS;
  w.panel_bytes = additive_codes_bytes(w) + ADDITIVE_ROWS * 4;
  w.table_unit = word_unit(s);
  w.shared_bytes = float_codebooks_bytes(w) + (w.table_unit > 0 ? word_codebooks_bytes(w) : 0);
}

inline void write_word_codebooks(const Source& s, const Weight& w, int16_t* out) {
  zero(out, word_codebooks_bytes(w));
  const int entries = 1 << s.bits, pairs = word_pairs(w), room = word_entries(w);
  for (int c = 0; c < s.codebooks; c++) {
    for (int e = 0; e < entries; e++) {
      const float* values = s.table + ((size_t)c * (size_t)entries + (size_t)e) * (size_t)s.group;
      for (int i = 0; i < s.group; i++) {
        const float word = values[i] / w.table_unit;
        out[((size_t)(c * pairs + i / 2) * (size_t)room + (size_t)e) * 2 + (size_t)(i % 2)] = (int16_t)(word + (word < 0 ? -0.5f : 0.5f));
      }
    }
  }
}

inline void tile_additive(const Source& s, const Weight& w, uint8_t* out, int panel) {
  zero(out, w.panel_bytes);
  const size_t groups = (size_t)(s.k / s.group) * (size_t)s.codebooks, bytes = (size_t)code_bytes(w);
  float* scales = (float*)(out + additive_codes_bytes(w));
  for (int lane = 0; lane < ADDITIVE_ROWS && panel * ADDITIVE_ROWS + lane < s.n; lane++) {
    const size_t r = (size_t)((panel * ADDITIVE_ROWS + lane) / s.out);
    for (size_t at = 0; at < groups; at++) copy(out + (at * ADDITIVE_ROWS + (size_t)lane) * bytes, s.data + (r * groups + at) * bytes, bytes);
    scales[lane] = s.scale[r];
  }
  if (panel != 0) return;
  float* book = (float*)(out + w.panel_bytes * (size_t)w.panels);
  const size_t size = (size_t)(s.out * s.group), entries = (size_t)1 << s.bits;
  for (size_t c = 0; c < (size_t)s.codebooks; c++) {
    for (size_t e = 0; e < entries; e++) {
      for (size_t d = 0; d < size; d++) book[(c * size + d) * entries + e] = s.table[(c * entries + e) * size + d];
    }
  }
  if (w.table_unit > 0) write_word_codebooks(s, w, (int16_t*)((uint8_t*)book + float_codebooks_bytes(w)));
}

inline void decode_additive_row(const Weight& w, int row, float* out) {
  const AdditiveRows rows = additive_rows(w, panel_of(w, row / PANEL_ROWS));
  const int lane = row % PANEL_ROWS, entries = 1 << w.bits, a = row % w.out;
  for (int k = 0; k < w.k; k++) {
    float sum = 0;
    for (int c = 0; c < w.codebooks; c++) {
      const uint8_t* code = rows.codes + (((size_t)(k / w.group) * (size_t)w.codebooks + (size_t)c) * ADDITIVE_ROWS + (size_t)lane) * (size_t)code_bytes(w);
      const int entry = w.bits > 8 ? code[0] | code[1] << 8 : code[0];
      sum += rows.codebooks[((size_t)c * (size_t)(w.out * w.group) + (size_t)(a * w.group + k % w.group)) * (size_t)entries + (size_t)entry];
    }
    out[k] = sum * rows.scales[lane];
  }
}

}  // namespace
}  // namespace fb::linear
