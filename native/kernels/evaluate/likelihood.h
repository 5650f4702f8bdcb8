// Sums over rows of logits, compiled for each instruction set (likelihood.inc), chosen in likelihood.cc. float64, in eight lanes on
// every instruction set: the same bits everywhere.
#pragma once
#include "../base.h"

namespace fb::evaluate {

/** What src/evaluate/likelihood.ts makes everything of. */
struct RowSums {
  double largest;
  double total;  // sum of exp(logit - largest)
  double top;    // index of the first largest logit
};

#define FB_DECLARE_LEVEL(level)                                                                         \
  namespace level {                                                                                     \
  RowSums row_sums(const float* logits, size_t width);                                                  \
  /* sum of exp(baseline - largest) * (baseline - model) */                                             \
  double weighted_difference(const float* baseline, const float* model, size_t width, double largest);  \
  }
FB_DECLARE_LEVEL(baseline)
FB_DECLARE_LEVEL(avx2)
FB_DECLARE_LEVEL(avx512)
#undef FB_DECLARE_LEVEL

}  // namespace fb::evaluate
