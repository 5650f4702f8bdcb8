// Blocks -> codes and float32 scales, for the types whose values are table[code] * scale or (code - zero) * scale: they share the tiles of
// other schemes. Exact: the products are those of the definition. And Q3_K as Q6_K, which holds every value of it.
#include "../exports.h"
#include "half.h"
#include "tables.h"
#include "types.h"

namespace fb::blocks {
namespace {

/** 32 codes, low nibbles first. */
void open_nibbles(const uint8_t* in, uint8_t* codes) {
  for (int i = 0; i < 16; i++) {
    codes[i] = in[i] & 15;
    codes[i + 16] = in[i] >> 4;
  }
}

void open_iq4_xs(const uint8_t* block, uint8_t* codes, float* scale) {
  const float d = half_at(block);
  const int high = half_bits_at(block + 2);
  for (int g = 0; g < 8; g++) {
    const int s = ((block[4 + (g >> 1)] >> (4 * (g & 1))) & 15) | (((high >> (2 * g)) & 3) << 4);
    scale[g] = d * static_cast<float>(s - 32);
    open_nibbles(block + 8 + 16 * g, codes + 32 * g);
  }
}

void open_trits(const uint8_t* in, int bytes, int trits, uint8_t* codes) {
  constexpr uint8_t POWERS[5] = {1, 3, 9, 27, 81};
  for (int n = 0; n < trits; n++)
    for (int m = 0; m < bytes; m++) codes[n * bytes + m] = static_cast<uint8_t>(static_cast<uint8_t>(in[m] * POWERS[n]) * 3 >> 8);
}

void open(Type type, const uint8_t* block, uint8_t* codes, float* scale) {
  switch (type) {
    case IQ4_XS: return open_iq4_xs(block, codes, scale);
    case IQ4_NL:
      *scale = half_at(block);
      return open_nibbles(block + 2, codes);
    case MXFP4:
      *scale = e8m0_half(block[0]);
      return open_nibbles(block + 1, codes);
    case NVFP4:
      for (int g = 0; g < 4; g++) {
        scale[g] = ue4m3(block[g]) * 0.5f;
        for (int i = 0; i < 8; i++) {
          codes[16 * g + i] = block[4 + 8 * g + i] & 15;
          codes[16 * g + i + 8] = block[4 + 8 * g + i] >> 4;
        }
      }
      return;
    case TQ1_0:
      *scale = half_at(block + 52);
      open_trits(block, 32, 5, codes);
      open_trits(block + 32, 16, 5, codes + 160);
      return open_trits(block + 48, 4, 4, codes + 240);
    case TQ2_0:
      *scale = half_at(block + 64);
      for (int e = 0; e < 256; e++) codes[e] = (block[32 * (e >> 7) + (e & 31)] >> (2 * ((e >> 5) & 3))) & 3;
      return;
    case Q2_0:
      *scale = half_at(block);
      for (int i = 0; i < 64; i++) codes[i] = (block[2 + (i >> 2)] >> (2 * (i & 3))) & 3;
      return;
    case Q1_0:  // +-d is 2 d times the bit, less a half
      *scale = 2 * half_at(block);
      for (int i = 0; i < 128; i++) codes[i] = block[2 + (i >> 3)] >> (i & 7) & 1;
      return;
    default: return;
  }
}

/** (d * (s - 32)) * (q - 4) is a value of Q6_K with the scale s - 32 and the code q + 28. */
void q3_as_q6(const uint8_t* q3, uint8_t* q6) {
  zero(q6, 210);
  const uint8_t* sc = q3 + 96;
  for (int g = 0; g < 16; g++) {
    const int low = g < 8 ? sc[g] & 15 : sc[g - 8] >> 4;
    q6[192 + g] = static_cast<uint8_t>((low | (((sc[8 + (g & 3)] >> (2 * (g >> 2))) & 3) << 4)) - 32);
  }
  for (int e = 0; e < 256; e++) {
    const int n = e >> 7, k = (e >> 5) & 3, l = e & 31;
    const int q = ((q3[32 + 32 * n + l] >> (2 * k)) & 3) + 4 * ((q3[l] >> (e >> 5)) & 1) + 28;
    q6[64 * n + (k & 1 ? 32 : 0) + l] |= static_cast<uint8_t>((q & 15) << (k < 2 ? 0 : 4));
    q6[128 + 32 * n + l] |= static_cast<uint8_t>((q >> 4) << (2 * k));
  }
  copy(q6 + 208, q3 + 108, 2);
}

}  // namespace
}  // namespace fb::blocks

/** Units are blocks. inputs: blocks. outputs: codes U8, scales F32 [values / group]. params: blocks, type (fb::blocks::Type), group. */
FB_EXPORT double fb_open_superblock(const double* args) {
  using namespace fb::blocks;
  const Type type = static_cast<Type>(static_cast<int>(args[6]));
  const Layout layout = layout_of(type);
  const size_t elements = static_cast<size_t>(layout.elements), scales = elements / static_cast<size_t>(args[7]);
  for (size_t b = static_cast<size_t>(args[0]); b < static_cast<size_t>(args[1]); b++)
    open(type, fb::pointer<const uint8_t>(args[2]) + b * static_cast<size_t>(layout.bytes), fb::pointer<uint8_t>(args[3]) + b * elements,
         fb::pointer<float>(args[4]) + b * scales);
  return 0;
}

/** Units are blocks. inputs: Q3_K blocks. outputs: Q6_K blocks. params: blocks. */
FB_EXPORT double fb_q3_as_q6(const double* args) {
  using namespace fb::blocks;
  for (size_t b = static_cast<size_t>(args[0]); b < static_cast<size_t>(args[1]); b++)
    q3_as_q6(fb::pointer<const uint8_t>(args[2]) + b * 110, fb::pointer<uint8_t>(args[3]) + b * 210);
  return 0;
}
