// ggml's search for one group of non-negative values, its tries one a lane (src/methods/gguf/search.ts, searchPositive): only the scale.
#pragma once
#include "gguf-search.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** The scale of N values as codes 0..limit; values may be slightly negative. */
template <int N>
float positive_scale(const float* x, const float* w, int limit) {
  float largest = 0;
  for (int i = 0; i < N; i++) largest = x[i] > largest ? x[i] : largest;
  if (largest < GROUP_EPSILON) return 0;
  const float top = static_cast<float>(limit);
  float inverse = top / largest;
  float best = 0;
  for (int i = 0; i < N; i++) {
    const float code = static_cast<float>(static_cast<uint8_t>(nearest_int(inverse * x[i])));  // -1 counts as 255
    const float difference = x[i] - (1.0f / inverse) * code;
    best += (w[i] * difference) * difference;
  }
  constexpr int TRIES = 9, VECTORS = (TRIES + W - 1) / W;
  float trials[VECTORS * W], errors[VECTORS * W];
  for (int i = 0; i < VECTORS * W; i++) trials[i] = (0.1f * static_cast<float>(i - 4) + top) / largest;
  for (int v = 0; v < VECTORS; v++) {
    const V trial = load(trials + v * W), scale = 1.0f / trial;
    V error = V{};
    for (int i = 0; i < N; i++) {
      I code = ((I)(trial * x[i] + MAGIC) & 0x7fffff) - ORIGIN;
      code = code > limit ? splat(limit) : code;
      const V difference = x[i] - scale * __builtin_convertvector(code, V);
      error += (w[i] * difference) * difference;
    }
    store(errors + v * W, error);
  }
  for (int i = 0; i < TRIES; i++) {
    if (i == 4 || !(errors[i] < best)) continue;
    best = errors[i];
    inverse = trials[i];
  }
  uint8_t codes[N];
  float sumlx = 0, suml2 = 0;
  for (int i = 0; i < N; i++) {
    const int32_t l = min(limit, nearest_int(inverse * x[i]));
    const float code = static_cast<float>(l);
    codes[i] = static_cast<uint8_t>(l);
    sumlx += (w[i] * x[i]) * code;
    suml2 += (w[i] * code) * code;
  }
  bool changed = true;
  for (int pass = 0; pass < 5 && changed; pass++) {
    changed = false;
    for (int i = 0; i < N; i++) {
      const float wx = w[i] * x[i], old = static_cast<float>(codes[i]);
      float slx = sumlx - wx * old;
      float sl2 = suml2 - (w[i] * old) * old;
      if (!(slx > 0 && sl2 > 0)) continue;
      const int32_t l = min(limit, nearest_int((x[i] * sl2) / slx));
      if (l == codes[i]) continue;
      const float now = static_cast<float>(l);
      slx += wx * now;
      sl2 += (w[i] * now) * now;
      if (!((slx * slx) * suml2 > (sumlx * sumlx) * sl2)) continue;
      codes[i] = static_cast<uint8_t>(l);
      sumlx = slx;
      suml2 = sl2;
      changed = true;
    }
  }
  return suml2 > 0 ? sumlx / suml2 : 0;
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
