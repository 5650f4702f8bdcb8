// What quantisers of the HQQ family share: sums of float32 in torch's order (src/methods/torch-sum.ts), 32 lanes side by side carried through
// four levels, and the power of the shrinking step (src/methods/shrink.ts).
#pragma once
#include "../simd/vector.h"

namespace fb {

/** log2 of the rows that torch adds to level 0 before it carries, of a sum of `rows` rows. */
FB_INLINE int level_power(size_t rows) {
  int log = 0;
  while ((static_cast<size_t>(1) << log) < rows) log++;
  return max(4, log / 4);
}

namespace {

/** Vectors of a row of 32 lanes. */
constexpr int ROW = 32 / LANES;
constexpr int LEVELS = 4;
/** 1.5 * 2^52: adding and subtracting it rounds to the nearest integer, ties to even. */
constexpr double ROUND64 = 6755399441055744.0;

template <int N>
struct Lanes {
  F v[N];
};

template <int N>
FB_INLINE void add(Lanes<N>& sum, const Lanes<N>& values) {
  for (int i = 0; i < N; i++) sum.v[i] += values.v[i];
}

FB_INLINE void add_row(Lanes<ROW>& sum, const float* x) {
  for (int i = 0; i < ROW; i++) sum.v[i] += load<F>(x + i * LANES);
}

/** The sum of `rows` rows; `next(i, sum)` adds row i. */
template <int N, class Next>
FB_INLINE Lanes<N> cascade(size_t rows, Next&& next) {
  const int power = level_power(rows);
  const size_t step = static_cast<size_t>(1) << power, mask = step - 1;
  Lanes<N> first = {};
  size_t i = 0;
  if (rows >= step) {
    Lanes<N> level[LEVELS] = {};
    while (i + step <= rows) {
      for (size_t j = 0; j < step; j++) next(i++, level[0]);
      for (int l = 1; l < LEVELS; l++) {
        add(level[l], level[l - 1]);
        level[l - 1] = {};
        if ((i & (mask << (l * power))) != 0) break;
      }
    }
    while (i < rows) next(i++, level[0]);
    for (int l = 1; l < LEVELS; l++) add(level[0], level[l]);
    return level[0];
  }
  while (i < rows) next(i++, first);
  return first;
}

/** Ends a contiguous sum: what lies behind the rows of 32 is vectors of 8 for the first lanes, then single values. */
FB_INLINE float finish_sum(const Lanes<ROW>& rows, const float* rest, size_t count) {
  float lane[32];
  for (int i = 0; i < ROW; i++) store(lane + i * LANES, rows.v[i]);
  for (; count >= 8; count -= 8, rest += 8)
    for (int j = 0; j < 8; j++) lane[j] += rest[j];
  float total = 0;
  for (size_t i = 0; i < count; i++) total += rest[i];
  for (int j = 0; j < 8; j++) total += lane[j] + lane[8 + j] + lane[16 + j] + lane[24 + j];
  return total;
}

/** Fewer than 8 values: four accumulators. */
FB_NOINLINE float short_sum(const float* x, size_t count) {
  float a[4] = {};
  size_t i = 0;
  if (count >= 4)
    for (; i < 4; i++) a[i] += x[i];
  for (; i < count; i++) a[0] += x[i];
  return a[0] + a[1] + a[2] + a[3];
}

FB_INLINE float sum(const float* x, size_t count) {
  if (count < 8) return short_sum(x, count);
  const size_t rows = count / 32;
  const Lanes<ROW> total = cascade<ROW>(rows, [&](size_t i, Lanes<ROW>& to) FB_LAMBDA { add_row(to, x + 32 * i); });
  return finish_sum(total, x + 32 * rows, count - 32 * rows);
}

/** a^-0.3 of lanes above 0.17 as src/methods/shrink.ts computes it, in float64. */
FB_NOINLINE F shrink_power(F a) {
  typedef double D __attribute__((vector_size(LANES * 8)));
  constexpr double LN2_HIGH = 0.6931471803691238, LN2_LOW = 1.9082149292705877e-10, LOG2E = 1.4426950408889634;
  constexpr int LOG_TERMS = 13, EXP_TERMS = 14;
  const I exponent = ((I)a - 0x3f400000) >> 23;
  const D k = __builtin_convertvector(exponent, D);
  const D m = __builtin_convertvector((F)((I)a - (exponent << 23)), D);
  const D t = (m - 1.0) / (m + 1.0), t2 = t * t;
  D series = D{} + 1.0 / (2 * LOG_TERMS + 1);
  for (int n = LOG_TERMS - 1; n >= 0; n--) series = series * t2 + 1.0 / (2 * n + 1);
  const D y = static_cast<double>(static_cast<float>(0.7 - 1.0)) * (k * LN2_HIGH + (k * LN2_LOW + 2.0 * t * series));
  const D j = y * LOG2E + ROUND64 - ROUND64;
  const D f = y - j * LN2_HIGH - j * LN2_LOW;
  D power = D{} + 1.0;
  for (int n = EXP_TERMS; n >= 1; n--) power = power * f * (1.0 / n) + 1.0;
  const F scale = (F)((__builtin_convertvector(j, I) + 127) << 23);
  return __builtin_convertvector(power * __builtin_convertvector(scale, D), F);
}

}  // namespace
}  // namespace fb
