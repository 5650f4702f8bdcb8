// Four bits that look up a value (src/methods/gguf/quantize-four-bits.ts).
#pragma once
#include "../blocks/half.h"
#include "../blocks/tables.h"
#include "gguf-batch.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** Where one value of IQ4 ends and the next begins: half way; the middle belongs to the upper one. */
constexpr float IQ4_MIDDLES[15] = {-115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f,
                                   7.0f,    19.0f,  31.5f,  45.5f,  61.0f,  79.0f,  101.0f};

/** Codes of the nearest values of IQ4; of NaN the last. */
FB_INLINE I nearest_iq4(V v) {
  I code = splat(15);
  for (float middle : IQ4_MIDDLES) code += v < middle;  // a mask is -1
  return code;
}

FB_INLINE V iq4_values(I codes) {
#if defined(__AVX512F__)
  alignas(64) constexpr float VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return (V)_mm512_permutexvar_ps((__m512i)codes, _mm512_load_ps(VALUES));
#else
  V values;
  for (int lane = 0; lane < W; lane++) values[lane] = blocks::IQ4_VALUES[codes[lane]];
  return values;
#endif
}

/** The scales with which W groups of 32 fit best; 0 for values that count as zero. */
FB_NOINLINE void search_iq4(const Groups<32>& g, float* scales) {
  V largest;
  const V max = signed_largest(g.x, largest);
  const I empty = largest < GROUP_EPSILON;
  V scale = V{}, best = V{};
  for (int turn = 0; turn < 16; turn++) {
    const V inverse = turn == 0 ? 1.0f / (-max / -127.0f) : static_cast<float>(turn - 8 - 127) / max;
    V sumqx = V{}, sumq2 = V{};
    for (int i = 0; i < 32; i++) {
      const V q = iq4_values(nearest_iq4(inverse * g.x[i]));
      const V wq = g.w[i] * q;
      sumqx += wq * g.x[i];
      sumq2 += wq * q;
    }
    I better = sumq2 > 0.0f;
    if (turn != 0) better &= sumqx * sumqx > best * sumq2;
    scale = select(better, sumqx / sumq2, scale);
    best = select(better, scale * sumqx, best);
  }
  store(scales, select(empty, V{}, scale));
}

template <int SUPER>
void search_all_iq4(const Job& job, Batch& b, size_t at, size_t count) {
  if (job.importance) {
    load_importance(job, b, at, count, SUPER);
    superblock_sigma2<SUPER, 32>(b, count, 2.0f);
  }
  Groups<32> groups;
  const Weights rule = job.importance ? Weights::IMPORTANCE_ROOT : Weights::SQUARE;
  for (size_t i = 0; i < count; i += W * 32) {
    load_groups<32>(groups, rule, b.x + i, job.importance ? b.importance + i : nullptr, b.sigma2 + i / 32);
    search_iq4(groups, b.scale + i / 32);
  }
}

/** The codes of 32 values with the unrounded scale, as nibbles. */
void pack_iq4(const float* x, float scale, uint8_t* out) {
  const float inverse = scale == 0 ? 0.0f : 1.0f / scale;
  uint8_t codes[32];
  for (int i = 0; i < 32; i += W) store_codes(codes + i, nearest_iq4(load(x + i) * inverse));
  for (int i = 0; i < 16; i++) out[i] = static_cast<uint8_t>(codes[i] | (codes[i + 16] << 4));
}

void quantize_iq4_nl(const Job& job, Batch& b, size_t at, size_t count) {
  search_all_iq4<32>(job, b, at, count);
  for (size_t g = 0; g < count / 32; g++) {
    uint8_t* block = job.out + (at / 32 + g) * 18;
    blocks::put_half(block, to_f16(b.scale[g]));
    pack_iq4(b.x + 32 * g, b.scale[g], block + 2);
  }
}

void quantize_iq4_xs(const Job& job, Batch& b, size_t at, size_t count) {
  search_all_iq4<256>(job, b, at, count);
  for (size_t s = 0; s < count / 256; s++) {
    uint8_t* block = job.out + (at / 256 + s) * 136;
    const float* scales = b.scale + 8 * s;
    const float d = -first_largest_of<8>(scales) / 32.0f;
    const float inverse = d == 0 ? 0.0f : 1.0f / d;
    uint16_t high = 0;
    uint8_t low[4] = {0, 0, 0, 0};
    for (int g = 0; g < 8; g++) {
      const int32_t l = fb::max(-32, min(31, nearest_int(inverse * scales[g])));
      high |= static_cast<uint16_t>(((l + 32) >> 4) << (2 * g));
      low[g >> 1] |= static_cast<uint8_t>(((l + 32) & 15) << (4 * (g & 1)));
      pack_iq4(b.x + 256 * s + 32 * g, d * static_cast<float>(l), block + 8 + 16 * g);
    }
    blocks::put_half(block, to_f16(d));
    copy(block + 2, &high, 2);
    copy(block + 4, low, 4);
  }
}

/** Codes of the first values of E2M1 that are nearest when multiplied by d. */
FB_INLINE I nearest_e2m1(V x, float d) {
  I code = I{};
  V least = absolute(static_cast<float>(blocks::E2M1_VALUES[0]) * d - x);
  for (int i = 1; i < 16; i++) {
    const V error = absolute(static_cast<float>(blocks::E2M1_VALUES[i]) * d - x);
    const I better = error < least;
    code = select(better, splat(i), code);
    least = select(better, error, least);
  }
  return code;
}

/** The codes of 2 * WIDTH values as nibbles. */
template <int WIDTH>
void pack_e2m1(const float* x, float d, uint8_t* out) {
  uint8_t codes[2 * WIDTH];
  for (int i = 0; i < 2 * WIDTH; i += W) store_codes(codes + i, nearest_e2m1(load(x + i), d));
  for (int i = 0; i < WIDTH; i++) out[i] = static_cast<uint8_t>(codes[i] | (codes[i + WIDTH] << 4));
}

/**
 * floor(log2f(x)): the exponent, but the next one where x is so close below a power of two that the logarithm, rounded to float32,
 * is that whole number: n units of 2^-24 below 2^t, n / ln 2 less than half the distance to the float next to t.
 */
int32_t floor_log2(float x) {
  const uint32_t all = bits<uint32_t>(x);
  const int32_t exponent = static_cast<int32_t>(all >> 23) - 127;
  if (exponent == -127) return 31 - __builtin_clz(all) - 149;
  const int32_t t = exponent + 1;
  if (t == 0) return exponent;  // floats next to 0 are dense
  const uint32_t size = static_cast<uint32_t>(t < 0 ? -t : t);
  const int32_t top = 31 - __builtin_clz(size);
  const bool halved = t > 0 && (size & (size - 1)) == 0;  // below a power of two floats are twice as dense
  const float half_gap = static_cast<float>(1 << top) * (halved ? 0.5f : 1.0f);
  const float n = static_cast<float>(0x800000 - (all & 0x7fffff));
  return n * 1.44269504f < half_gap ? t : exponent;
}

void quantize_mxfp4(const Job& job, Batch& b, size_t at, size_t count) {
  for (size_t g = 0; g < count / 32; g++) {
    uint8_t* block = job.out + (at / 32 + g) * 17;
    const float max = largest_magnitude<32>(b.x + 32 * g);
    block[0] = static_cast<uint8_t>(max > 0 ? floor_log2(max) + 125 : 0);
    pack_e2m1<16>(b.x + 32 * g, blocks::e8m0_half(block[0]), block + 1);
  }
}

/** The unsigned E4M3 nearest to x, half up; at most 448. */
uint8_t to_ue4m3(float x) {
  if (!(x > 0)) return 0;
  const uint32_t all = bits<uint32_t>(min(x, 448.0f));
  const int32_t exponent = static_cast<int32_t>(all >> 23) - 120;
  if (exponent <= 0) return static_cast<uint8_t>(min(7, static_cast<int32_t>(x * 512.0f + 0.5f)));
  const int32_t code = (exponent << 3) + static_cast<int32_t>((all >> 20) & 7) + static_cast<int32_t>((all >> 19) & 1);
  return static_cast<uint8_t>(min(0x7e, code));  // a carry out of the mantissa raises the exponent
}

void quantize_nvfp4(const Job& job, Batch& b, size_t at, size_t count) {
  for (size_t i = 0; i < count; i += 64) {
    uint8_t* block = job.out + (at + i) / 64 * 36;
    for (int g = 0; g < 4; g++) {
      const float* x = b.x + i + 16 * g;
      block[g] = to_ue4m3(largest_magnitude<16>(x) / 6.0f);
      pack_e2m1<8>(x, blocks::ue4m3(block[g]) * 0.5f, block + 4 + 8 * g);
    }
  }
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
