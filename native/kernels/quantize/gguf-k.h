// Superblocks of 256 with integer scales (src/methods/gguf/quantize-k.ts).
#pragma once
#include "../blocks/half.h"
#include "gguf-batch.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** The 6-bit codes of eight scales or minima, linear to the largest; returns the half scale. */
uint16_t round_groups(const float* values, uint8_t* codes) {
  float max = 0;
  for (int g = 0; g < 8; g++) max = values[g] > max ? values[g] : max;
  const float inverse = max > 0 ? 63.0f / max : 0.0f;
  for (int g = 0; g < 8; g++)
    codes[g] = static_cast<uint8_t>(min(63, nearest_int(inverse * values[g]) & 255));
  return to_f16(max / 63.0f);
}

template <int BITS>
void finish_q45(const Job& job, Batch& b, size_t i, uint8_t* block) {
  constexpr int TOP = (1 << BITS) - 1;
  const float* x = b.x + i;
  uint8_t* codes = b.codes + i;
  float* scales = b.scale + i / 32;
  float minima[8];
  uint8_t ls[8], lm[8];
  for (int g = 0; g < 8; g++) minima[g] = -b.min[i / 32 + g];
  uint16_t d, dmin;
  if (job.importance) {
    d = to_f16(search_positive(scales, b.sum + i / 32, 63, ls));
    dmin = to_f16(search_positive(minima, b.sum + i / 32, 63, lm));
  } else {
    d = round_groups(scales, ls);
    dmin = round_groups(minima, lm);
  }
  const float scale = from_f16(d), min = from_f16(dmin);
  for (int g = 0; g < 8; g++) {
    const float step = scale * static_cast<float>(ls[g]);
    if (step == 0) continue;  // the search's codes stay; a NaN is not zero
    const float offset = min * static_cast<float>(lm[g]);
    for (int k = 32 * g; k < 32 * g + 32; k += W)
      store_codes(codes + k, nearest((load(x + k) + offset) / step, 0, TOP) - ORIGIN);
  }
  blocks::put_half(block, d);
  blocks::put_half(block + 2, dmin);
  for (int j = 0; j < 4; j++) {
    block[4 + j] = static_cast<uint8_t>(ls[j] | ((ls[j + 4] >> 4) << 6));
    block[8 + j] = static_cast<uint8_t>(lm[j] | ((lm[j + 4] >> 4) << 6));
    block[12 + j] = static_cast<uint8_t>((ls[j + 4] & 15) | ((lm[j + 4] & 15) << 4));
  }
  uint8_t* low = block + (BITS == 5 ? 48 : 16);
  for (int pair = 0; pair < 4; pair++)
    for (int l = 0; l < 32; l++) {
      const uint8_t even = codes[64 * pair + l], odd = codes[64 * pair + 32 + l];
      low[32 * pair + l] = static_cast<uint8_t>((even & 15) | (odd << 4));
    }
  if (BITS == 4) return;
  for (int l = 0; l < 32; l++) {
    uint8_t high = 0;
    for (int g = 0; g < 8; g++) high |= static_cast<uint8_t>((codes[32 * g + l] >> 4) << g);
    block[16 + l] = high;
  }
}

void finish_q6(Batch& b, size_t i, uint8_t* block) {
  const float* x = b.x + i;
  uint8_t* codes = b.codes + i;
  const float* scales = b.scale + i / 16;
  float max = 0, largest = 0;  // two variables: clang 19 miscompiles |scale| > |max| here
  for (int g = 0; g < 16; g++) {
    const float magnitude = __builtin_fabsf(scales[g]);
    if (!(magnitude > largest)) continue;
    largest = magnitude;
    max = scales[g];
  }
  zero(block, 210);
  if (largest < GROUP_EPSILON) return;
  const float inverse = -128.0f / max;
  const uint16_t half = to_f16(1.0f / inverse);
  const float d = from_f16(half);
  for (int g = 0; g < 16; g++) {
    const int8_t code = static_cast<int8_t>(min(127, nearest_int(inverse * scales[g])));
    block[192 + g] = static_cast<uint8_t>(code);
    const float step = d * static_cast<float>(code);
    if (step == 0) continue;
    for (int k = 16 * g; k < 16 * g + 16; k += W)
      store_codes(codes + k, nearest(load(x + k) / step, -32, 31) - (ORIGIN - 32));
  }
  blocks::put_half(block + 208, half);
  for (int n = 0; n < 2; n++)
    for (int l = 0; l < 32; l++) {
      const uint8_t* q = codes + 128 * n + l;
      block[64 * n + l] = static_cast<uint8_t>((q[0] & 15) | (q[64] << 4));
      block[64 * n + 32 + l] = static_cast<uint8_t>((q[32] & 15) | (q[96] << 4));
      block[128 + 32 * n + l] =
          static_cast<uint8_t>((q[0] >> 4) | ((q[32] >> 4) << 2) | ((q[64] >> 4) << 4) | ((q[96] >> 4) << 6));
    }
}

template <Type TYPE>
void quantize_q45(const Job& job, Batch& b, size_t at, size_t count) {
  constexpr int BITS = TYPE == Q4_K ? 4 : 5;
  constexpr Sweep PLAIN = BITS == 4 ? Sweep{-1.0f, 0.1f, 20} : Sweep{-0.5f, 0.1f, 15};
  if (job.importance) {
    load_importance(job, b, at, count, 256);
    superblock_sigma2<256, 32>(b, count, 2.0f);
    search_all_asymmetric(b, count, Weights::IMPORTANCE_ROOT, (1 << BITS) - 1, WEIGHTED_SWEEP);
  } else {
    search_all_asymmetric(b, count, Weights::MEAN_PLUS_MAGNITUDE, (1 << BITS) - 1, PLAIN);
  }
  constexpr size_t BYTES = layout_of(TYPE).bytes;
  for (size_t i = 0; i < count; i += 256) finish_q45<BITS>(job, b, i, job.out + (at + i) / 256 * BYTES);
}

void quantize_q6(const Job& job, Batch& b, size_t at, size_t count) {
  if (job.importance) load_importance(job, b, at, count, 256);
  search_all_symmetric<16, 32>(b, count, job.importance ? Weights::IMPORTANCE : Weights::SQUARE);
  for (size_t i = 0; i < count; i += 256) finish_q6(b, i, job.out + (at + i) / 256 * 210);
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
