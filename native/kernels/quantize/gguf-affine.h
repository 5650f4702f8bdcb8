// Blocks of 32 that become codes and half scales (src/methods/gguf/quantize-blocks.ts).
#pragma once
#include "gguf-batch.h"
#include "gguf-pack.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** C's conversion float -> int8 on x86: truncated to int32 (0 in the low byte where that overflows), then its low byte, signed. */
int32_t truncate_to_int8(float v) {
  if (!(v > -2147483648.0f && v < 2147483648.0f)) return 0;
  return static_cast<int8_t>(static_cast<int32_t>(v));
}

/** The first value of largest magnitude; of zeros, +0. */
float first_largest(const float* x) {
  float high, low;
  range32(x, high, low);
  if (high == 0 && low == 0) return 0;
  if (high > -low) return high;
  if (high < -low) return low;
  for (int i = 0; i < 32; i++)
    if (x[i] == high || x[i] == low) return x[i];
  return 0;  // NaN: the row is refused
}

bool is_finite(float v) { return __builtin_fabsf(v) <= 3.402823466e38f; }

template <int BITS>
void round_to_max(const float* x, uint8_t* codes, uint16_t* scale) {
  constexpr int HALF = 1 << (BITS - 1), TOP = 2 * HALF - 1;
  constexpr float OFFSET = HALF + 0.5f;
  const float d = first_largest(x) / static_cast<float>(-HALF);
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  *scale = to_f16(d);
  if (!is_finite(inverse)) {  // the scale is subnormal
    for (int i = 0; i < 32; i++)
      codes[i] = static_cast<uint8_t>(min(TOP, truncate_to_int8(x[i] * inverse + OFFSET) & 255));
    return;
  }
  for (int i = 0; i < 32; i += W) {
    const I q = __builtin_convertvector(load(x + i) * inverse + OFFSET, I);
    store_codes(codes + i, q > TOP ? splat(TOP) : q);
  }
}

template <int BITS>
void round_to_range(const float* x, uint8_t* codes, uint16_t* scale, uint16_t* shift) {
  constexpr int TOP = (1 << BITS) - 1;
  float high, low;
  range32(x, high, low);
  if (low == 0)  // the sign of the first zero is stored
    for (int i = 31; i >= 0; i--) low = x[i] == 0 ? x[i] : low;
  if (high == 0)
    for (int i = 31; i >= 0; i--) high = x[i] == 0 ? x[i] : high;
  const float d = (high - low) / static_cast<float>(TOP);
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  *scale = to_f16(d);
  *shift = to_f16(low);
  if (!is_finite(inverse)) {
    for (int i = 0; i < 32; i++) {
      const int32_t q = truncate_to_int8((x[i] - low) * inverse + 0.5f) & 255;
      codes[i] = static_cast<uint8_t>(BITS == 4 ? min(TOP, q) : q & TOP);
    }
    return;
  }
  for (int i = 0; i < 32; i += W) {
    const I q = __builtin_convertvector((load(x + i) - low) * inverse + 0.5f, I);
    store_codes(codes + i, BITS == 4 ? (q > TOP ? splat(TOP) : q) : q & TOP);
  }
}

float round_half_away(float v) {
  const float whole = __builtin_truncf(v), rest = v - whole;
  return rest >= 0.5f ? whole + 1 : rest <= -0.5f ? whole - 1 : whole;
}

void round_int8(const float* x, uint8_t* codes, uint16_t* scale) {
  float high, low;
  range32(x, high, low);
  const float d = max(high, -low) / 127.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  *scale = to_f16(d) & 0x7fff;
  if (!is_finite(inverse)) {
    for (int i = 0; i < 32; i++) {
      const float v = x[i] * inverse;
      codes[i] = static_cast<uint8_t>((is_finite(v) ? truncate_to_int8(round_half_away(v)) : 0) + 128);
    }
    return;
  }
  for (int i = 0; i < 32; i += W) {
    const V v = load(x + i) * inverse;
    const I whole = __builtin_convertvector(v, I);
    const V rest = v - __builtin_convertvector(whole, V);
    // a mask is -1
    store_codes(codes + i, whole - (rest >= 0.5f) + (rest <= -0.5f) + 128);
  }
}

/** Importance, and the mean square of the whole row as sigma2 of its groups. */
void affine_weights(const Job& job, Batch& b, size_t at, size_t count) {
  load_importance(job, b, at, count, 32);
  for (size_t i = 0; i < count; i += 32) {
    if ((at + i) % job.columns == 0) b.row_sigma2 = mean_square(job, (at + i) / job.columns);
    b.sigma2[i / 32] = b.row_sigma2;
  }
}

void affine_with_weights(const Job& job, Batch& b, size_t at, size_t count) {
  affine_weights(job, b, at, count);
  constexpr Weights RULE = Weights::IMPORTANCE_ROOT;
  const bool shifted = job.type == Q4_1 || job.type == Q5_1;
  if (shifted) search_all_asymmetric<32>(b, count, RULE, job.type == Q4_1 ? 15 : 31, WEIGHTED_SWEEP);
  else if (job.type == Q4_0) search_all_symmetric<32, 8>(b, count, RULE);
  else search_all_symmetric<32, 16>(b, count, RULE);
  for (size_t g = 0; g < count / 32; g++) {
    b.half[g] = to_f16(b.scale[g]);
    if (shifted) b.shift[g] = to_f16(b.min[g]);
  }
}

void affine_without_weights(const Job& job, Batch& b, size_t count) {
  for (size_t i = 0; i < count; i += 32) {
    uint8_t* codes = b.codes + i;
    uint16_t *scale = b.half + i / 32, *shift = b.shift + i / 32;
    switch (job.type) {
      case Q4_0: round_to_max<4>(b.x + i, codes, scale); break;
      case Q5_0: round_to_max<5>(b.x + i, codes, scale); break;
      case Q4_1: round_to_range<4>(b.x + i, codes, scale, shift); break;
      case Q5_1: round_to_range<5>(b.x + i, codes, scale, shift); break;
      default: round_int8(b.x + i, codes, scale); break;
    }
  }
}

template <Type TYPE>
void pack_batch(const Job& job, const Batch& b, size_t block, size_t blocks) {
  pack<TYPE>(b.codes, b.half, b.shift, job.out + block * bytes_of(TYPE), blocks);
}

/** Codes and scales of the run to where the job wants them. */
void store_affine(const Job& job, const Batch& b, size_t block, size_t blocks) {
  if (!job.packed) {
    copy(job.out + block * 32, b.codes, blocks * 32);
    copy(job.scale + block, b.half, blocks * sizeof(uint16_t));
    if (layout_of(job.type).halves[1] >= 0) copy(job.shift + block, b.shift, blocks * sizeof(uint16_t));
    return;
  }
  switch (job.type) {
    case Q4_0: return pack_batch<Q4_0>(job, b, block, blocks);
    case Q4_1: return pack_batch<Q4_1>(job, b, block, blocks);
    case Q5_0: return pack_batch<Q5_0>(job, b, block, blocks);
    case Q5_1: return pack_batch<Q5_1>(job, b, block, blocks);
    default: return pack_batch<Q8_0>(job, b, block, blocks);
  }
}

void quantize_affine(const Job& job, Batch& b, size_t at, size_t count) {
  if (job.importance && job.type != Q8_0) affine_with_weights(job, b, at, count);
  else affine_without_weights(job, b, count);
  store_affine(job, b, at / 32, count / 32);
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
