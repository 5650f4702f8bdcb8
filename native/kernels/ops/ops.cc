// The baseline's kernels, and the choice among all of them.
#include "ops.inc"

namespace fb {

#if defined(__x86_64__)
namespace avx2 {
extern const OpKernels OPS;
}
namespace avx512 {
extern const OpKernels OPS;
}
#endif

const OpKernels* op_kernels(Level level) {
#if defined(__x86_64__)
  if (level >= LEVEL_AVX512) return &avx512::OPS;
  if (level >= LEVEL_AVX2) return &avx2::OPS;
#endif
  (void)level;
  return &baseline::OPS;
}

}  // namespace fb
