// The type in which a reference computes: every operation is rounded to it.
#pragma once
#include "half.h"

namespace fb {

enum Arithmetic { F32 = 0, F16 = 1, BF16 = 2 };

template <int ARITHMETIC>
FB_INLINE float rounded(float value) {
  if (ARITHMETIC == F16) return through_f16(value);
  return ARITHMETIC == BF16 ? through_bf16(value) : value;
}

}  // namespace fb
