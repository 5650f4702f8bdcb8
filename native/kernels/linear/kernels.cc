// The baseline of the target: SSE2, NEON or WASM SIMD, through the compiler's vectors of four.
#include "table.h"

namespace fb::linear {
extern const Kernels BASELINE_KERNELS;
const Kernels BASELINE_KERNELS = {"baseline", scratch_bytes, form, prepare, compute, kernel};
}  // namespace fb::linear
