// Inputs of linears that are quantised with one scale for all values (src/weights/quantized-input.ts): x becomes
// scale * nearest(x / scale), nearest of int8 or of an 8-bit float. No branches: the loop becomes vectors.
#pragma once
#include "float8.h"

namespace fb {

enum class InputType : int { int8, e4m3fn, e5m2, e4m3fnuz };

FB_INLINE void quantize_int8(const float* FB_RESTRICT x, float* FB_RESTRICT y, size_t count, float scale) {
  for (size_t i = 0; i < count; i++) {
    float v = x[i] / scale;
    v = v < -128.0f ? -128.0f : v;
    v = v > 127.0f ? 127.0f : v;
    y[i] = ((v + 12582912.0f) - 12582912.0f) * scale;
  }
}

FB_INLINE void quantize_float8(const float* FB_RESTRICT x, float* FB_RESTRICT y, size_t count, float scale, Float8 type) {
  for (size_t i = 0; i < count; i++) y[i] = type.nearest(x[i] / scale) * scale;
}

inline void quantize_input(const float* x, float* y, size_t count, float scale, InputType type) {
  switch (type) {
    case InputType::e4m3fn: return quantize_float8(x, y, count, scale, float8(3, 7, 448));
    case InputType::e5m2: return quantize_float8(x, y, count, scale, float8(2, 15, 57344));
    case InputType::e4m3fnuz: return quantize_float8(x, y, count, scale, float8(3, 8, 240));
    default: return quantize_int8(x, y, count, scale);
  }
}

}  // namespace fb
