// Stored numbers -> float32, exactly as src/core/half.ts and src/weights/ define the values.
#include "exports.h"
#include "half.h"

namespace {

/** Elements of a unit of fb_widen. */
constexpr size_t BLOCK = 4096;

enum Type { F32 = 0, F16 = 1, BF16 = 2, F64 = 3 };

}  // namespace

/** Units are runs of 4096 elements. inputs: x [count]; outputs: F32 [count]; params: units, count, type (0 F32, 1 F16, 2 BF16, 3 F64). */
FB_EXPORT double fb_widen(const double* args) {
  const size_t count = static_cast<size_t>(args[5]);
  const size_t from = static_cast<size_t>(args[0]) * BLOCK;
  const size_t to = fb::min(count, static_cast<size_t>(args[1]) * BLOCK);
  const void* x = fb::pointer<const void>(args[2]);
  float* y = fb::pointer<float>(args[3]);
  switch (static_cast<Type>(static_cast<int>(args[6]))) {
    case F32:
      fb::copy(y + from, static_cast<const float*>(x) + from, (to - from) * sizeof(float));
      break;
    case F16:
      for (size_t i = from; i < to; i++) y[i] = fb::from_f16(static_cast<const uint16_t*>(x)[i]);
      break;
    case BF16:
      for (size_t i = from; i < to; i++) y[i] = fb::from_bf16(static_cast<const uint16_t*>(x)[i]);
      break;
    case F64:
      for (size_t i = from; i < to; i++) y[i] = static_cast<float>(static_cast<const double*>(x)[i]);
      break;
  }
  return 0;
}
