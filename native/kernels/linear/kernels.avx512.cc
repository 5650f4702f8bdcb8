#include "table.h"

namespace fb::linear {
extern const Kernels AVX512_KERNELS;
const Kernels AVX512_KERNELS = {"avx512", scratch_bytes, form, prepare, compute, kernel};
}  // namespace fb::linear
