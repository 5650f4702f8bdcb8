// Superblocks of 256 with integer scales (src/methods/gguf/quantize-k.ts).
#pragma once
#include "../blocks/half.h"
#include "gguf-batch.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** What the groups of the superblocks of a run become: their codes, and the half scale of each superblock. */
struct Coded {
  uint8_t codes[BATCH / 16];
  uint16_t half[W];
};

/** Codes 0..LIMIT of GROUPS scales or minima, linear to the largest; those of four bits are bytes that wrap below 0. */
template <int GROUPS, int LIMIT>
uint16_t round_groups(const float* values, uint8_t* codes) {
  float max = 0;
  for (int g = 0; g < GROUPS; g++) max = values[g] > max ? values[g] : max;
  const float inverse = max > 0 ? static_cast<float>(LIMIT) / max : 0.0f;
  for (int g = 0; g < GROUPS; g++) {
    const int32_t code = nearest_int(inverse * values[g]) & 255;
    codes[g] = static_cast<uint8_t>(LIMIT == 15 ? code : min(LIMIT, code));
  }
  return to_f16(max / static_cast<float>(LIMIT));
}

/** Scales or minima of the superblocks of a run. */
template <int GROUPS, int LIMIT>
void code_groups(const Job& job, const Batch& b, size_t count, const float* values, Coded& coded) {
  const size_t superblocks = count / 256;
  if (!job.importance) {
    for (size_t s = 0; s < superblocks; s++)
      coded.half[s] = round_groups<GROUPS, LIMIT>(values + s * GROUPS, coded.codes + s * GROUPS);
    return;
  }
  float scales[W];
  search_positive<GROUPS>(values, b.sum, LIMIT, coded.codes, scales);
  for (size_t s = 0; s < superblocks; s++) coded.half[s] = to_f16(scales[s]);
}

void negate(float* values, size_t count) {
  for (size_t i = 0; i < count; i++) values[i] = -values[i];
}

/** Rounds SIZE values anew with a group's scale and minimum as they are stored. */
template <int SIZE, int TOP>
void round_asymmetric(const float* x, uint8_t* codes, float step, float offset) {
  if (step == 0) return;  // the search's codes stay; a NaN is not zero
  for (int k = 0; k < SIZE; k += W) store_codes(codes + k, nearest((load(x + k) + offset) / step, 0, TOP) - ORIGIN);
}

void quantize_q2(const Job& job, Batch& b, size_t at, size_t count) {
  if (job.importance) {
    load_importance(job, b, at, count, 256);
    superblock_sigma2<256, 16>(b, count, 1.0f);
    search_all_asymmetric<16>(b, count, Weights::IMPORTANCE_ROOT, 3, WEIGHTED_SWEEP);
  } else {
    search_all_asymmetric<16, Error::MAGNITUDE>(b, count, Weights::MAGNITUDE, 3, Sweep{-0.5f, 0.1f, 15});
  }
  negate(b.min, count / 16);
  Coded scales, minima;
  code_groups<16, 15>(job, b, count, b.scale, scales);
  code_groups<16, 15>(job, b, count, b.min, minima);
  for (size_t s = 0; s < count / 256; s++) {
    uint8_t* block = job.out + (at / 256 + s) * 84;
    uint8_t* codes = b.codes + s * 256;
    const float d = from_f16(scales.half[s]), dmin = from_f16(minima.half[s]);
    for (int g = 0; g < 16; g++) {
      const uint8_t both = block[g] = static_cast<uint8_t>(scales.codes[s * 16 + g] | (minima.codes[s * 16 + g] << 4));
      round_asymmetric<16, 3>(b.x + s * 256 + 16 * g, codes + 16 * g, d * static_cast<float>(both & 15),
                              dmin * static_cast<float>(both >> 4));
    }
    pack_two_bits(codes, block + 16);
    blocks::put_half(block + 80, scales.half[s]);
    blocks::put_half(block + 82, minima.half[s]);
  }
}

/** The codes 0..63 for -32..31 of 16 scales, linear to the one of largest magnitude; returns the half scale. */
uint16_t round_signed(const float* scales, uint8_t* codes) {
  const float max = first_largest_of<16>(scales);
  const float inverse = -32.0f / max;
  for (int g = 0; g < 16; g++) {
    const int32_t l = static_cast<int8_t>(nearest_int(inverse * scales[g]));
    codes[g] = static_cast<uint8_t>(max == 0 ? 0 : fb::max(-32, min(31, l)) + 32);
  }
  return max == 0 ? static_cast<uint16_t>(0) : to_f16(1.0f / inverse);
}

void pack_q3(const uint8_t* codes, const uint8_t* groups, uint16_t half, uint8_t* block) {
  for (int l = 0; l < 32; l++) {
    uint8_t high = 0;
    for (int n = 0; n < 8; n++) high |= static_cast<uint8_t>((codes[32 * n + l] >> 2) << n);
    block[l] = high;
  }
  pack_two_bits(codes, block + 32);
  for (int j = 0; j < 8; j++) block[96 + j] = static_cast<uint8_t>((groups[j] & 15) | ((groups[j + 8] & 15) << 4));
  for (int j = 0; j < 4; j++)
    block[104 + j] = static_cast<uint8_t>((groups[j] >> 4) | ((groups[j + 4] >> 4) << 2) | ((groups[j + 8] >> 4) << 4) |
                                          ((groups[j + 12] >> 4) << 6));
  blocks::put_half(block + 108, half);
}

void quantize_q3(const Job& job, Batch& b, size_t at, size_t count) {
  Coded scales;
  if (job.importance) {
    load_importance(job, b, at, count, 256);
    superblock_sigma2<256, 16>(b, count, 2.0f);
    search_all_symmetric<16, 4>(b, count, Weights::IMPORTANCE_ROOT);
    Groups<16> groups;  // the scales of a superblock are a group weighed by the sums
    lanes_of<16>(b.scale, groups.x);
    lanes_of<16>(b.sum, groups.w);
    float d[W];
    search_symmetric<16, 32>(groups, scales.codes, d);
    for (int s = 0; s < W; s++) scales.half[s] = to_f16(d[s]);
  } else {
    Groups<16> groups;
    for (size_t i = 0; i < count; i += W * 16) {
      load_groups<16>(groups, Weights::SQUARE, b.x + i, nullptr, nullptr);
      refine_symmetric<16, 4>(groups, b.codes + i, b.scale + i / 16);
    }
    for (size_t s = 0; s < count / 256; s++) scales.half[s] = round_signed(b.scale + 16 * s, scales.codes + 16 * s);
  }
  for (size_t s = 0; s < count / 256; s++) {
    uint8_t* codes = b.codes + s * 256;
    const float d = from_f16(scales.half[s]);
    for (int g = 0; g < 16; g++) {
      const float step = d * static_cast<float>(scales.codes[s * 16 + g] - 32);
      if (step == 0) continue;
      for (int k = 16 * g; k < 16 * g + 16; k += W)
        store_codes(codes + k, nearest(load(b.x + s * 256 + k) / step, -4, 3) - (ORIGIN - 4));
    }
    pack_q3(codes, scales.codes + s * 16, scales.half[s], job.out + (at / 256 + s) * 110);
  }
}

template <int BITS>
void pack_q45(const uint8_t* codes, const uint8_t* ls, const uint8_t* lm, uint16_t d, uint16_t dmin, uint8_t* block) {
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

template <Type TYPE>
void quantize_q45(const Job& job, Batch& b, size_t at, size_t count) {
  constexpr int BITS = TYPE == Q4_K ? 4 : 5, TOP = (1 << BITS) - 1;
  constexpr Sweep PLAIN = BITS == 4 ? Sweep{-1.0f, 0.1f, 20} : Sweep{-0.5f, 0.1f, 15};
  if (job.importance) {
    load_importance(job, b, at, count, 256);
    superblock_sigma2<256, 32>(b, count, 2.0f);
    search_all_asymmetric<32>(b, count, Weights::IMPORTANCE_ROOT, TOP, WEIGHTED_SWEEP);
  } else {
    search_all_asymmetric<32>(b, count, Weights::MEAN_PLUS_MAGNITUDE, TOP, PLAIN);
  }
  negate(b.min, count / 32);
  Coded scales, minima;
  code_groups<8, 63>(job, b, count, b.scale, scales);
  code_groups<8, 63>(job, b, count, b.min, minima);
  constexpr size_t BYTES = layout_of(TYPE).bytes;
  for (size_t s = 0; s < count / 256; s++) {
    uint8_t* codes = b.codes + s * 256;
    const float d = from_f16(scales.half[s]), dmin = from_f16(minima.half[s]);
    const uint8_t *ls = scales.codes + s * 8, *lm = minima.codes + s * 8;
    for (int g = 0; g < 8; g++)
      round_asymmetric<32, TOP>(b.x + s * 256 + 32 * g, codes + 32 * g, d * static_cast<float>(ls[g]),
                                dmin * static_cast<float>(lm[g]));
    pack_q45<BITS>(codes, ls, lm, scales.half[s], minima.half[s], job.out + (at / 256 + s) * BYTES);
  }
}

void finish_q6(Batch& b, size_t i, uint8_t* block) {
  const float* x = b.x + i;
  uint8_t* codes = b.codes + i;
  const float* scales = b.scale + i / 16;
  const float max = first_largest_of<16>(scales);
  zero(block, 210);
  if (__builtin_fabsf(max) < GROUP_EPSILON) return;
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

void quantize_q6(const Job& job, Batch& b, size_t at, size_t count) {
  if (job.importance) load_importance(job, b, at, count, 256);
  search_all_symmetric<16, 32>(b, count, job.importance ? Weights::IMPORTANCE : Weights::SQUARE);
  for (size_t i = 0; i < count; i += 256) finish_q6(b, i, job.out + (at + i) / 256 * 210);
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
