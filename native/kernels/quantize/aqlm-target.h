// The weight that AQLM approximates, W + alpha D (H + lambda I)^-1, by a Cholesky factor, and what other data say of it.
// src/methods/aqlm/target.ts is the definition.
#pragma once
#include "../base.h"

namespace fb::aqlm_target {

/** Pivots that are eliminated together. */
constexpr size_t PANEL = 32;
/** Rows of the weight that are solved side by side. */
constexpr size_t LANES_A_UNIT = 32;

struct Job {
  const float* w;        // [rows, columns]
  const double* d;       // [rows, columns]
  const double* other_d; // of other data; null where nothing is judged
  const float* other_h;  // [columns, columns]
  float* target;         // [rows, columns]
  double* judged;        // [rows, 2]: delta other_d, and delta other_h delta, of delta = D (H + lambda I)^-1
  double alpha;
  double* factor;   // [columns, columns]: U above and on the diagonal, its mirror image below once it is complete
  size_t rows, columns;
};

#define FB_AQLM_TARGET_LEVEL(name)                                        \
  namespace name {                                                        \
  void eliminate(const Job& job, size_t first);                           \
  void update(const Job& job, size_t first, size_t row);                  \
  void solve(const Job& job, size_t unit, double* local);                 \
  }
FB_AQLM_TARGET_LEVEL(baseline)
FB_AQLM_TARGET_LEVEL(avx2)
FB_AQLM_TARGET_LEVEL(avx512)
#undef FB_AQLM_TARGET_LEVEL

}  // namespace fb::aqlm_target
