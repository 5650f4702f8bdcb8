// One and two bits with the largest or the mean magnitude as scale (src/methods/gguf/quantize-few-bits.ts).
#pragma once
#include "../blocks/half.h"
#include "gguf-batch.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** Codes round(x * inverse) + 1, half away from zero, within 0..TOP; `odd` where x * inverse is not finite. */
template <int SIZE, int TOP>
void round_codes(const float* x, float inverse, uint8_t odd, uint8_t* codes) {
  for (int i = 0; i < SIZE; i += W) {
    const V v = load(x + i) * inverse;
    const I finite = absolute(v) <= 3.402823466e38f;
    const V safe = select(finite, v, V{});
    const I whole = __builtin_convertvector(safe, I);
    const V rest = safe - __builtin_convertvector(whole, V);
    // a mask is -1
    const I code = clamp(whole - (rest >= 0.5f) + (rest <= -0.5f) + 1, 0, TOP);
    store_codes(codes + i, select(finite, code, splat(odd)));
  }
}

float inverse_of(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }

/** Runs of `bytes` bytes with `trits` trits each, as fractions of 243 in 256ths; trit n of byte m is value n * bytes + m. */
void pack_trits(const uint8_t* codes, int bytes, int trits, uint8_t* out) {
  for (int m = 0; m < bytes; m++) {
    int q = 0;
    for (int n = 0; n < 5; n++) q = 3 * q + (n < trits ? codes[n * bytes + m] : 0);
    out[m] = static_cast<uint8_t>((q * 256 + 242) / 243);
  }
}

void quantize_tq1(const Job& job, Batch& b, size_t at, size_t count) {
  for (size_t s = 0; s < count / 256; s++) {
    uint8_t* block = job.out + (at / 256 + s) * 54;
    uint8_t codes[256];
    const float scale = largest_magnitude<256>(b.x + 256 * s);
    round_codes<256, 2>(b.x + 256 * s, inverse_of(scale), 1, codes);
    pack_trits(codes, 32, 5, block);
    pack_trits(codes + 160, 16, 5, block + 32);
    pack_trits(codes + 240, 4, 4, block + 48);
    blocks::put_half(block + 52, to_f16(scale));
  }
}

void quantize_tq2(const Job& job, Batch& b, size_t at, size_t count) {
  for (size_t s = 0; s < count / 256; s++) {
    uint8_t* block = job.out + (at / 256 + s) * 66;
    uint8_t codes[256];
    const float scale = largest_magnitude<256>(b.x + 256 * s);
    round_codes<256, 2>(b.x + 256 * s, inverse_of(scale), 1, codes);
    pack_two_bits(codes, block);
    blocks::put_half(block + 64, to_f16(scale));
  }
}

void quantize_q2_0(const Job& job, Batch& b, size_t at, size_t count) {
  for (size_t i = 0; i < count; i += 64) {
    uint8_t* block = job.out + (at + i) / 64 * 18;
    uint8_t codes[64];
    const float scale = largest_magnitude<64>(b.x + i);
    round_codes<64, 3>(b.x + i, inverse_of(scale), 0, codes);
    blocks::put_half(block, to_f16(scale));
    for (int j = 0; j < 16; j++)
      block[2 + j] = static_cast<uint8_t>(codes[4 * j] | (codes[4 * j + 1] << 2) | (codes[4 * j + 2] << 4) | (codes[4 * j + 3] << 6));
  }
}

/** Sums of magnitudes run in order, so blocks are taken in lanes. */
void quantize_q1_0(const Job& job, Batch& b, size_t at, size_t count) {
  constexpr int SIZE = 128, PIECE = 16;
  for (size_t i = 0; i < count; i += W * SIZE) {
    V sum = V{};
    for (int k = 0; k < SIZE; k += PIECE) {
      V x[PIECE];
      lanes_of<PIECE, SIZE>(b.x + i + k, x);
      for (int j = 0; j < PIECE; j++) sum += absolute(x[j]);
    }
    const V mean = sum / static_cast<float>(SIZE);
    for (int lane = 0; lane < W && i + lane * SIZE < count; lane++) {
      const float* x = b.x + i + lane * SIZE;
      uint8_t* block = job.out + ((at + i) / SIZE + lane) * 18;
      blocks::put_half(block, to_f16(mean[lane]));
      for (int j = 0; j < 16; j++) {
        int bits = 0;
        for (int k = 0; k < 8; k++) bits |= (x[8 * j + k] >= 0) << k;
        block[2 + j] = static_cast<uint8_t>(bits);
      }
    }
  }
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
