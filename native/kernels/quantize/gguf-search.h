// ggml's searches for the scale (and minimum) of a group, W groups at once, one a lane: within a lane every sum runs in the reference's
// order, so the result is that of src/methods/gguf/search.ts bit for bit. Improvements are masked updates.
#pragma once
#include "gguf-lanes.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {

constexpr float GROUP_EPSILON = 1e-15f;

#if defined(__clang__)
#define FB_UNROLL _Pragma("clang loop unroll_count(8)")
#else
#define FB_UNROLL _Pragma("GCC unroll 8")
#endif

/** How a value is weighed. sigma2 is per group, importance per value. */
enum class Weights { MEAN_PLUS_MAGNITUDE, MAGNITUDE, IMPORTANCE_ROOT, SQUARE, IMPORTANCE };

/** W groups of SIZE values, one a lane. */
template <int SIZE>
struct Groups {
  V x[SIZE];
  V w[SIZE];
};

/** x[lane * STRIDE + i] -> out[i][lane]. */
template <int SIZE, int STRIDE = SIZE>
FB_INLINE void lanes_of(const float* x, V* out) {
  float turned[SIZE][W];
  for (int i = 0; i < SIZE; i += 4)
    for (int lane = 0; lane < W; lane++) {
      const float* from = x + lane * STRIDE + i;
      const float a = from[0], b = from[1], c = from[2], d = from[3];
      turned[i][lane] = a;
      turned[i + 1][lane] = b;
      turned[i + 2][lane] = c;
      turned[i + 3][lane] = d;
    }
  for (int i = 0; i < SIZE; i++) out[i] = load(turned[i]);
}

/** in[i][lane] + offset, whole numbers, -> out[lane * SIZE + i]. */
template <int SIZE>
FB_INLINE void codes_of(const V* in, int32_t offset, uint8_t* out) {
  uint8_t turned[SIZE][W];
  for (int i = 0; i < SIZE; i++) store_codes(turned[i], __builtin_convertvector(in[i], I) + offset);
  for (int lane = 0; lane < W; lane++)
    for (int i = 0; i < SIZE; i++) out[lane * SIZE + i] = turned[i][lane];
}

/** Loads W groups and weighs them. `importance` and `sigma2` as the rule needs them, else null. */
template <int SIZE>
FB_INLINE void load_groups(Groups<SIZE>& g, Weights rule, const float* x, const float* importance, const float* sigma2) {
  lanes_of<SIZE>(x, g.x);
  if (importance) lanes_of<SIZE>(importance, g.w);
  V mean = V{}, sigma = V{};
  if (rule == Weights::MEAN_PLUS_MAGNITUDE) {
    for (int i = 0; i < SIZE; i++) mean += g.x[i] * g.x[i];
    mean = root(mean / static_cast<float>(SIZE));
  }
  if (rule == Weights::IMPORTANCE_ROOT) sigma = load(sigma2);
  for (int i = 0; i < SIZE; i++) {
    const V x2 = g.x[i] * g.x[i];
    if (rule == Weights::MEAN_PLUS_MAGNITUDE) g.w[i] = mean + absolute(g.x[i]);
    if (rule == Weights::IMPORTANCE_ROOT) g.w[i] = g.w[i] * root(sigma + x2);
    if (rule == Weights::MAGNITUDE) g.w[i] = absolute(g.x[i]);
    if (rule == Weights::SQUARE) g.w[i] = x2;
  }
}

template <int SIZE>
FB_INLINE V sum_of_weights(const Groups<SIZE>& g) {
  V sum = V{};
  for (int i = 0; i < SIZE; i++) sum += g.w[i];
  return sum;
}

/** The value of largest magnitude with its sign, the first of several; `largest` becomes its magnitude. */
template <int SIZE>
FB_INLINE V signed_largest(const V (&x)[SIZE], V& largest) {
  largest = V{};
  V max = V{};
  for (int i = 0; i < SIZE; i++) {
    const V magnitude = absolute(x[i]);
    const I more = magnitude > largest;
    largest = select(more, magnitude, largest);
    max = select(more, x[i], max);
  }
  return max;
}

/** Symmetric: codes 0..2*LIMIT-1; code - LIMIT times the scale. */
template <int SIZE, int LIMIT>
FB_NOINLINE void search_symmetric(const Groups<SIZE>& g, uint8_t* codes, float* scales) {
  V largest;
  const V max = signed_largest(g.x, largest);
  const I empty = largest < GROUP_EPSILON;
  V wx[SIZE];
  for (int i = 0; i < SIZE; i++) wx[i] = g.w[i] * g.x[i];
  V best_codes[SIZE];
  V scale = V{}, best = V{};
  for (int turn = 0; turn < 19; turn++) {
    const int step = turn == 0 ? 0 : turn < 10 ? turn - 10 : turn - 9;  // 0, -9 .. -1, 1 .. 9
    const V inverse = -(static_cast<float>(LIMIT) + 0.1f * static_cast<float>(step)) / max;
    V trial[SIZE];
    V sumlx = V{}, suml2 = V{};
    FB_UNROLL
    for (int i = 0; i < SIZE; i++) {
      const V l = trial[i] = nearest_float(inverse * g.x[i], -LIMIT, LIMIT - 1);
      sumlx += wx[i] * l;
      suml2 += (g.w[i] * l) * l;
    }
    if (turn == 0) {
      scale = select(suml2 == V{}, V{}, sumlx / suml2);
      best = scale * sumlx;
      for (int i = 0; i < SIZE; i++) best_codes[i] = trial[i];
      continue;
    }
    const I better = (suml2 > 0.0f) & (sumlx * sumlx > best * suml2);
    if (!any(better)) continue;
    scale = select(better, sumlx / suml2, scale);
    best = select(better, scale * sumlx, best);
    for (int i = 0; i < SIZE; i++) best_codes[i] = select(better, trial[i], best_codes[i]);
  }
  store(scales, select(empty, V{}, scale));
  for (int i = 0; i < SIZE; i++) best_codes[i] = select(empty, splat(static_cast<float>(-LIMIT)), best_codes[i]);
  codes_of<SIZE>(best_codes, LIMIT, codes);
}

/** How the asymmetric search varies the scale. */
struct Sweep {
  float low;
  float delta;
  int steps;
};

/** How an error counts: by its square or by its magnitude. */
enum class Error { SQUARE, MAGNITUDE };

template <Error ERROR, int SIZE>
FB_INLINE V weighted_error(const Groups<SIZE>& g, const V* codes, V scale, V min) {
  V error = V{};
  FB_UNROLL
  for (int i = 0; i < SIZE; i++) {
    const V difference = (scale * codes[i] + min) - g.x[i];
    error += g.w[i] * (ERROR == Error::SQUARE ? difference * difference : absolute(difference));
  }
  return error;
}

/** Asymmetric: codes 0..limit times the scale plus min (never above 0). `sums`: the sum of each group's weights. */
template <int SIZE, Error ERROR>
FB_NOINLINE void search_asymmetric(const Groups<SIZE>& g, int limit, Sweep sweep, uint8_t* codes, float* scales,
                                   float* minima, float* sums) {
  V min = g.x[0], max = g.x[0];
  V sum_w = g.w[0], sum_x = g.w[0] * g.x[0];
  for (int i = 1; i < SIZE; i++) {
    min = select(g.x[i] < min, g.x[i], min);
    max = select(g.x[i] > max, g.x[i], max);
    sum_w += g.w[i];
    sum_x += g.w[i] * g.x[i];
  }
  min = select(min > 0.0f, V{}, min);
  const I empty = max <= min;
  const V empty_min = min;
  const float top = static_cast<float>(limit);
  V inverse = top / (max - min);
  V scale = 1.0f / inverse;
  V best_codes[SIZE];
  for (int i = 0; i < SIZE; i++) best_codes[i] = nearest_float(inverse * (g.x[i] - min), 0, limit);
  V best = weighted_error<ERROR>(g, best_codes, scale, min);
  for (int step = 0; step <= sweep.steps; step++) {
    inverse = ((sweep.low + sweep.delta * static_cast<float>(step)) + top) / (max - min);
    V trial[SIZE];
    V sum_l = V{}, sum_l2 = V{}, sum_xl = V{};
    FB_UNROLL
    for (int i = 0; i < SIZE; i++) {
      const V l = trial[i] = nearest_float(inverse * (g.x[i] - min), 0, limit);
      const V wl = g.w[i] * l;
      sum_l += wl;
      sum_l2 += wl * l;
      sum_xl += wl * g.x[i];
    }
    const V determinant = sum_w * sum_l2 - sum_l * sum_l;
    V new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    V new_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    const I above = new_min > 0.0f;
    new_min = select(above, V{}, new_min);
    new_scale = select(above, sum_xl / sum_l2, new_scale);
    const V error = weighted_error<ERROR>(g, trial, new_scale, new_min);
    const I better = (determinant > 0.0f) & (error < best);
    if (!any(better)) continue;
    best = select(better, error, best);
    scale = select(better, new_scale, scale);
    min = select(better, new_min, min);
    for (int i = 0; i < SIZE; i++) best_codes[i] = select(better, trial[i], best_codes[i]);
  }
  store(scales, select(empty, V{}, scale));
  store(minima, select(empty, empty_min, min));
  if (sums) store(sums, sum_w);
  for (int i = 0; i < SIZE; i++) best_codes[i] = select(empty, V{}, best_codes[i]);
  codes_of<SIZE>(best_codes, 0, codes);
}

/** Symmetric, weighed by the square: the nearest codes, then up to five passes that move one code at a time. */
template <int SIZE, int LIMIT>
FB_NOINLINE void refine_symmetric(const Groups<SIZE>& g, uint8_t* codes, float* scales) {
  V largest;
  const V max = signed_largest(g.x, largest);
  const I empty = largest < GROUP_EPSILON;
  const V inverse = -static_cast<float>(LIMIT) / max;
  V best_codes[SIZE];
  V sumlx = V{}, suml2 = V{};
  for (int i = 0; i < SIZE; i++) {
    const V l = best_codes[i] = nearest_float(inverse * g.x[i], -LIMIT, LIMIT - 1);
    sumlx += (g.w[i] * g.x[i]) * l;
    suml2 += (g.w[i] * l) * l;
  }
  for (int pass = 0; pass < 5; pass++) {
    I changed = I{};
    for (int i = 0; i < SIZE; i++) {
      const V wx = g.w[i] * g.x[i], old = best_codes[i];
      V slx = sumlx - wx * old;
      V sl2 = suml2 - (g.w[i] * old) * old;
      const V now = nearest_float((g.x[i] * sl2) / slx, -LIMIT, LIMIT - 1);
      I better = (slx > 0.0f) & (now != old);
      slx += wx * now;
      sl2 += (g.w[i] * now) * now;
      better &= (sl2 > 0.0f) & ((slx * slx) * suml2 > (sumlx * sumlx) * sl2);
      best_codes[i] = select(better, now, old);
      sumlx = select(better, slx, sumlx);
      suml2 = select(better, sl2, suml2);
      changed |= better;
    }
    if (!any(changed & ~empty)) break;
  }
  store(scales, select(empty | ~(suml2 > 0.0f), V{}, sumlx / suml2));
  for (int i = 0; i < SIZE; i++) best_codes[i] = select(empty, splat(static_cast<float>(-LIMIT)), best_codes[i]);
  codes_of<SIZE>(best_codes, LIMIT, codes);
}

/** The nearest integers, of any size, as the reference wraps them. */
FB_INLINE I nearest_any(V v) { return ((I)(v + MAGIC) & 0x7fffff) - ORIGIN; }
FB_INLINE I at_most(I v, int32_t limit) {
  const I most = splat(limit);
  return v < most ? v : most;
}
FB_INLINE V floats(I v) { return __builtin_convertvector(v, V); }

/** Non-negative values (the scales or minima of W superblocks, one a lane) as codes 0..limit times a scale. */
template <int SIZE>
FB_NOINLINE void search_positive(const float* values, const float* weights, int limit, uint8_t* codes, float* scales) {
  V x[SIZE], w[SIZE];
  lanes_of<SIZE>(values, x);
  lanes_of<SIZE>(weights, w);
  V max = V{};
  for (int i = 0; i < SIZE; i++) max = select(x[i] > max, x[i], max);
  const I empty = max < GROUP_EPSILON;
  const float top = static_cast<float>(limit);
  V inverse = top / max, best = V{};
  for (int turn = 0; turn < 9; turn++) {
    const int step = turn == 0 ? 0 : turn < 5 ? turn - 5 : turn - 4;  // 0, -4 .. -1, 1 .. 4
    const V trial = turn == 0 ? inverse : (0.1f * static_cast<float>(step) + top) / max;
    const V scale = 1.0f / trial;
    V error = V{};
    for (int i = 0; i < SIZE; i++) {
      const I l = nearest_any(trial * x[i]);
      const V difference = x[i] - scale * floats(turn == 0 ? l & 255 : at_most(l, limit));  // the first codes are bytes
      error += (w[i] * difference) * difference;
    }
    const I better = turn == 0 ? ~I{} : error < best;
    best = select(better, error, best);
    inverse = select(better, trial, inverse);
  }
  I best_codes[SIZE];
  V sumlx = V{}, suml2 = V{};
  for (int i = 0; i < SIZE; i++) {
    const I l = at_most(nearest_any(inverse * x[i]), limit);
    best_codes[i] = l & 255;  // -1 is stored, and counts below, as 255
    sumlx += (w[i] * x[i]) * floats(l);
    suml2 += (w[i] * floats(l)) * floats(l);
  }
  for (int pass = 0; pass < 5; pass++) {
    I changed = I{};
    for (int i = 0; i < SIZE; i++) {
      const V wx = w[i] * x[i], old = floats(best_codes[i]);
      V slx = sumlx - wx * old;
      V sl2 = suml2 - (w[i] * old) * old;
      const I l = at_most(nearest_any((x[i] * sl2) / slx), limit);
      const V now = floats(l);
      I better = (slx > 0.0f) & (sl2 > 0.0f) & (l != best_codes[i]);
      slx += wx * now;
      sl2 += (w[i] * now) * now;
      better &= (slx * slx) * suml2 > (sumlx * sumlx) * sl2;
      best_codes[i] = select(better, l & 255, best_codes[i]);
      sumlx = select(better, slx, sumlx);
      suml2 = select(better, sl2, suml2);
      changed |= better;
    }
    if (!any(changed & ~empty)) break;
  }
  store(scales, select(empty | ~(suml2 > 0.0f), V{}, sumlx / suml2));
  for (int i = 0; i < SIZE; i++) {
    const I stored = select(empty, I{}, best_codes[i]);
    for (int lane = 0; lane < W; lane++) codes[lane * SIZE + i] = static_cast<uint8_t>(stored[lane]);
  }
}

}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
