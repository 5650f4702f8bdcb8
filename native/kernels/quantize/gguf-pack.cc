// GGUF blocks of 32 <-> codes and half scales (src/weights/affine-blocks.ts says the layout), and floats -> half or bfloat16.
#include "../exports.h"
#include "../half.h"
#include "gguf-pack.h"
#include "gguf.h"

namespace {

using namespace fb::gguf;

template <Type TYPE>
void unpack(const uint8_t* block, uint8_t* codes, uint16_t* scale, uint16_t* shift, size_t count) {
  constexpr bool SHIFTED = TYPE == Q4_1 || TYPE == Q5_1, FIVE = TYPE == Q5_0 || TYPE == Q5_1;
  for (size_t b = 0; b < count; b++, codes += 32, block += bytes_of(TYPE)) {
    const uint8_t* p = block;
    fb::copy(scale + b, p, 2);
    p += 2;
    if (SHIFTED) {
      fb::copy(shift + b, p, 2);
      p += 2;
    }
    if (TYPE == Q8_0) {
      for (int j = 0; j < 32; j++) codes[j] = p[j] ^ 0x80;
      continue;
    }
    uint32_t high = 0;
    if (FIVE) {
      fb::copy(&high, p, 4);
      p += 4;
    }
    for (int j = 0; j < 16; j++) {
      codes[j] = p[j] & 15;
      codes[j + 16] = p[j] >> 4;
    }
    if (FIVE)
      for (int j = 0; j < 32; j++) codes[j] |= static_cast<uint8_t>(((high >> j) & 1) << 4);
  }
}

template <Type TYPE>
void run_pack(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  pack<TYPE>(fb::pointer<const uint8_t>(args[2]) + from * 32, fb::pointer<const uint16_t>(args[3]) + from,
             fb::pointer<const uint16_t>(args[4]) + from, fb::pointer<uint8_t>(args[5]) + from * bytes_of(TYPE), to - from);
}

template <Type TYPE>
void run_unpack(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  unpack<TYPE>(fb::pointer<const uint8_t>(args[2]) + from * bytes_of(TYPE), fb::pointer<uint8_t>(args[3]) + from * 32,
               fb::pointer<uint16_t>(args[4]) + from, fb::pointer<uint16_t>(args[5]) + from, to - from);
}

using Run = void (*)(const double*);

/** The type's place among the affine ones. */
size_t index_of(double number) {
  const int type = static_cast<int>(number);
  return static_cast<size_t>(type < Q5_0 ? type - Q4_0 : type - Q5_0 + 2);
}

}  // namespace

/** Units are blocks. inputs: codes U8, scale F16, shift F16 (or empty). outputs: blocks. params: blocks, an affine fb::blocks::Type. */
FB_EXPORT double fb_gguf_pack(const double* args) {
  constexpr Run RUNS[] = {run_pack<Q4_0>, run_pack<Q4_1>, run_pack<Q5_0>, run_pack<Q5_1>, run_pack<Q8_0>};
  RUNS[index_of(args[7])](args);
  return 0;
}

/** Units are blocks. inputs: blocks. outputs: codes U8, scale F16, shift F16 (or empty). params: blocks, an affine fb::blocks::Type. */
FB_EXPORT double fb_gguf_unpack(const double* args) {
  constexpr Run RUNS[] = {run_unpack<Q4_0>, run_unpack<Q4_1>, run_unpack<Q5_0>, run_unpack<Q5_1>, run_unpack<Q8_0>};
  RUNS[index_of(args[7])](args);
  return 0;
}

/**
 * Units are rows. inputs: x [rows, columns]. outputs: the same in the target type; flags U8 [rows]: 1 where x is not finite, 2 where the
 * result is not. params: rows, columns, source (0 F32, 1 F16, 2 BF16), target (likewise).
 */
FB_EXPORT double fb_gguf_convert(const double* args) {
  using fb::gguf::BF16;
  using fb::gguf::F16;
  using fb::gguf::F32;
  const size_t columns = static_cast<size_t>(args[6]);
  const int source = static_cast<int>(args[7]), target = static_cast<int>(args[8]);
  uint8_t* flags = fb::pointer<uint8_t>(args[4]);
  for (size_t row = static_cast<size_t>(args[0]); row < static_cast<size_t>(args[1]); row++) {
    const size_t at = row * columns;
    const float* single = fb::pointer<const float>(args[2]) + at;
    const uint16_t* half = fb::pointer<const uint16_t>(args[2]) + at;
    float* to_single = fb::pointer<float>(args[3]) + at;
    uint16_t* to_half = fb::pointer<uint16_t>(args[3]) + at;
    bool not_finite = false, overflow = false;
    for (size_t i = 0; i < columns; i++) {
      const float v = source == F32 ? single[i] : source == F16 ? fb::from_f16(half[i]) : fb::from_bf16(half[i]);
      not_finite |= !(__builtin_fabsf(v) <= 3.402823466e38f);
      if (target == F32) {
        to_single[i] = v;
        continue;
      }
      to_half[i] = target == F16 ? fb::to_f16(v) : fb::to_bf16(v);
      overflow |= target == F16 ? (to_half[i] & 0x7c00) == 0x7c00 : (to_half[i] & 0x7f80) == 0x7f80;
    }
    flags[row] = not_finite ? 1 : overflow ? 2 : 0;
  }
  return 0;
}
