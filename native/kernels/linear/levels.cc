// The table of levels. What a build lacks is null.
#include "linear.h"

namespace fb::linear {

extern const Kernels BASELINE_KERNELS;
extern const Kernels AVX2_KERNELS;
extern const Kernels AVX512_KERNELS;

const Kernels* kernels_of(Level level) {
  switch (level) {
    case LEVEL_SCALAR: return &BASELINE_KERNELS;
#if defined(__x86_64__)
    case LEVEL_AVX2: return &AVX2_KERNELS;
    case LEVEL_AVX512: return &AVX512_KERNELS;
#endif
    default: return nullptr;
  }
}

}  // namespace fb::linear
