// The nearest row of a grid for a point that is none: candidates in lanes. A candidate's distance is the sum, in order, of one term a
// coordinate, and a term depends on the coordinate's level alone; so terms are tabled once and picked by level.
#pragma once
#include "gguf-lanes.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

constexpr float LARGEST_FLOAT = 3.402823466e38f;

/** table[index] for as many low bits of index as a vector has lanes. */
FB_INLINE V pick(V table, I index) {
#if defined(__AVX512F__)
  return (V)_mm512_permutexvar_ps((__m512i)index, (__m512)table);
#elif defined(__AVX2__)
  return (V)_mm256_permutevar8x32_ps((__m256)table, (__m256i)index);
#else
  return V{table[index[0] & 3], table[index[1] & 3], table[index[2] & 3], table[index[3] & 3]};
#endif
}

/** The index of the first of the smallest lanes, or -1 where none is below LARGEST_FLOAT. */
FB_INLINE int first_smallest(V values, I order) {
  float smallest = LARGEST_FLOAT;
  int first = -1;
#if defined(__AVX512F__)
  smallest = _mm512_reduce_min_ps((__m512)values);
  if (!(smallest < LARGEST_FLOAT)) return -1;
  const __mmask16 equal = _mm512_cmpeq_ps_mask((__m512)values, _mm512_set1_ps(smallest));
  return _mm512_mask_reduce_min_epi32(equal, (__m512i)order);
#endif
  for (int i = 0; i < W; i++) {
    const bool earlier = values[i] == smallest && first >= 0 && order[i] < first;
    if (!(values[i] < smallest || earlier)) continue;
    smallest = values[i];
    first = order[i];
  }
  return first;
}

/**
 * The packed point, of `list` (its length, then points), with the smallest sum of (w * (scale * value - x))^2-like terms
 * (w * diff) * diff, diff = scale * values[level] - x; the first of equal ones; -1 where no sum is finite. `values`: one a level,
 * repeated to 16.
 */
template <int SIZE, int BITS>
FB_INLINE int nearest_candidate(const uint16_t* list, const float* x, const float* w, float scale, const float* values) {
  const int count = list[0];
  const uint16_t* points = list + 1;
  if constexpr (W >= 8) {
    const V scaled = scale * load(values);
    V terms[SIZE];
    for (int i = 0; i < SIZE; i++) {
      const V diff = scaled - x[i];
      terms[i] = (w[i] * diff) * diff;
    }
    V best = splat(LARGEST_FLOAT);
    I order = splat(-1);
    I lane;
    for (int i = 0; i < W; i++) lane[i] = i;
    for (int c = 0; c < count; c += W) {
      H packed;
      __builtin_memcpy(&packed, points + c, sizeof packed);
      const I point = __builtin_convertvector(packed, I);
      V distance = V{};
      for (int i = 0; i < SIZE; i++) distance += pick(terms[i], point >> (BITS * i));
      const I better = (distance < best) & (lane + c < count);
      best = select(better, distance, best);
      order = select(better, lane + c, order);
    }
    const int first = first_smallest(best, order);
    return first < 0 ? -1 : points[first];
  } else {
    constexpr int MASK = (1 << BITS) - 1;
    float terms[SIZE][MASK + 1];
    for (int i = 0; i < SIZE; i++)
      for (int level = 0; level <= MASK; level++) {
        const float diff = scale * values[level] - x[i];
        terms[i][level] = (w[i] * diff) * diff;
      }
    float best = LARGEST_FLOAT;
    int found = -1;
    for (int c = 0; c < count; c++) {
      float distance = 0;
      for (int i = 0; i < SIZE; i++) distance += terms[i][points[c] >> (BITS * i) & MASK];
      if (!(distance < best)) continue;
      best = distance;
      found = points[c];
    }
    return found;
  }
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
