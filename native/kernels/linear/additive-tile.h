// The tile of additive codebooks: written here, found again by every kernel. Codebooks lie entry by entry for each value of a group, so that
// neighbouring entries are neighbours in memory.
#pragma once
#include "layout.h"

namespace fb::linear {
namespace {

inline size_t additive_codes_bytes(const Weight& w) {
  return (size_t)(w.k / w.group) * (size_t)w.codebooks * ADDITIVE_ROWS * (size_t)code_bytes(w);
}

inline const float* additive_codebooks(const Weight& w) { return (const float*)(w.tile + w.panel_bytes * (size_t)w.panels); }

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

inline void describe_additive(const Source& s, Weight& w) {
  w.bits = (uint8_t)s.bits;
  w.group = s.group;
  w.codebooks = s.codebooks;
  w.out = s.out;
  w.panels = (s.n + ADDITIVE_ROWS - 1) / ADDITIVE_ROWS;
  w.panel_bytes = additive_codes_bytes(w) + ADDITIVE_ROWS * 4;
  w.shared_bytes = (size_t)s.codebooks * (size_t)(s.out * s.group) * ((size_t)4 << s.bits);
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
