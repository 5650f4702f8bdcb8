// GGUF quantisers: the export, and the choice of instruction set.
#include "../cpu.h"
#include "../exports.h"
#include "gguf.inc"

/**
 * Units are rows. inputs: x [rows, columns]; importance F32 [experts, columns], or empty; the type's
 * grid as places I32 and candidates U16, or empty. outputs: blocks, or, where `packed` is 0, for the types that are affine codes U8
 * [rows, columns]; their scale and shift, half bits [rows * columns / 32], where the type has them; flags U8 [rows] (fb::gguf::Flag).
 * params: rows, columns, source (0 F32, 1 F16, 2 BF16), type (fb::blocks::Type), rows that share importance (0: none), packed.
 */
FB_EXPORT double fb_gguf_quantize(const double* args) {
  using namespace fb::gguf;
  const size_t expert_rows = static_cast<size_t>(args[14]);
  const Job job = {
      .x = fb::pointer<const void>(args[2]),
      .importance = expert_rows ? fb::pointer<const float>(args[3]) : nullptr,
      .out = fb::pointer<uint8_t>(args[6]),
      .scale = fb::pointer<uint16_t>(args[7]),
      .shift = fb::pointer<uint16_t>(args[8]),
      .flags = fb::pointer<uint8_t>(args[9]),
      .grid = {fb::pointer<const int32_t>(args[4]), fb::pointer<const uint16_t>(args[5])},
      .source = static_cast<Source>(static_cast<int>(args[12])),
      .type = static_cast<Type>(static_cast<int>(args[13])),
      .columns = static_cast<size_t>(args[11]),
      .expert_rows = expert_rows,
      .packed = args[15] != 0,
  };
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
#if defined(__x86_64__)
  if (fb::level() >= fb::LEVEL_AVX512) avx512::quantize_rows(job, from, to);
  else if (fb::level() >= fb::LEVEL_AVX2) avx2::quantize_rows(job, from, to);
  else baseline::quantize_rows(job, from, to);
#else
  baseline::quantize_rows(job, from, to);
#endif
  return 0;
}
