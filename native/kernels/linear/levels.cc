// The table of levels. What a build lacks is null.
#include "linear.h"

namespace fewbit {

extern const LinearKernels linearScalar;

const LinearKernels* linearKernels(Level level) {
  switch (level) {
    case Level::Scalar:
      return &linearScalar;
    default:
      return nullptr;
  }
}

}  // namespace fewbit
