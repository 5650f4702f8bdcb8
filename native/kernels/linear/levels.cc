// The table of levels. What a build lacks is null.
#include "linear.h"

namespace fb::linear {

extern const Kernels SCALAR_KERNELS;

const Kernels* kernels_of(Level level) {
  switch (level) {
    case LEVEL_SCALAR:
      return &SCALAR_KERNELS;
    default:
      return nullptr;
  }
}

}  // namespace fb::linear
