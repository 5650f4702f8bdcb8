// The integer product of methods that quantise activations themselves, in plain C.
#pragma once
#include "layout.h"

namespace fb::linear {
namespace {

void integer_panel(const Call& c, int panel) {
  const Weight& w = *c.weight;
  const uint8_t* codes = panel_of(w, panel);
  const int zero_point = (int)w.zero_point;
  const int first = panel * PANEL_ROWS;
  for (int r = 0; r < c.rows; r++) {
    const int8_t* x = c.x8 + (size_t)r * (size_t)c.ldx;
    int32_t sums[PANEL_ROWS] = {0};
    int32_t total = 0;
    for (int k = 0; k < w.k; k++) {
      const uint8_t* q = codes + (size_t)(k >> 2) * VECTOR + (k & 3);
      for (int lane = 0; lane < PANEL_ROWS; lane++) sums[lane] += (int32_t)q[lane * 4] * x[k];
      total += x[k];
    }
    for (int lane = 0; lane < PANEL_ROWS && first + lane < w.n; lane++) {
      c.y8[(size_t)r * (size_t)c.ldy + (size_t)(first + lane)] = sums[lane] - zero_point * total;
    }
  }
}

}  // namespace
}  // namespace fb::linear
