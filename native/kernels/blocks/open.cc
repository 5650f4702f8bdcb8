// Blocks -> codes and float32 scales, for the types whose values are table[code] * scale or (code - zero) * scale: they share the tiles of
// other schemes. Exact: the products are those of the definition.
#include "../exports.h"
#include "half.h"
#include "tables.h"
#include "types.h"

namespace fb::blocks {
namespace {

/** 2 BYTES codes, low nibbles first. */
template <int BYTES>
void open_nibbles(const uint8_t* in, uint8_t* codes) {
  for (int i = 0; i < BYTES; i++) {
    codes[i] = in[i] & 15;
    codes[i + BYTES] = in[i] >> 4;
  }
}

void open_trits(const uint8_t* in, int bytes, int trits, uint8_t* codes) {
  constexpr uint8_t POWERS[5] = {1, 3, 9, 27, 81};
  for (int n = 0; n < trits; n++)
    for (int m = 0; m < bytes; m++) codes[n * bytes + m] = static_cast<uint8_t>(static_cast<uint8_t>(in[m] * POWERS[n]) * 3 >> 8);
}

void open(Type type, const uint8_t* block, uint8_t* codes, float* scale) {
  switch (type) {
    case IQ4_NL:
      *scale = half_at(block);
      return open_nibbles<16>(block + 2, codes);
    case MXFP4:
      *scale = e8m0_half(block[0]);
      return open_nibbles<16>(block + 1, codes);
    case NVFP4:
      for (int g = 0; g < 4; g++) {
        scale[g] = ue4m3(block[g]) * 0.5f;
        open_nibbles<8>(block + 4 + 8 * g, codes + 16 * g);
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
