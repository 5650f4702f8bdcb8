#include "table.h"

namespace fb::linear {
extern const Kernels AVX2_KERNELS;
const Kernels AVX2_KERNELS = {"avx2", scratch_bytes, form, prepare, compute, kernel};
}  // namespace fb::linear
