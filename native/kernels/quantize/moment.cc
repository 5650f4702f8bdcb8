// Second moments: the choice of instruction set.
#include "../cpu.h"
#include "../exports.h"
#include "moment.inc"

namespace fb::moment {
namespace {

template <class Work>
void strip(const Work& job, size_t first) {
#if defined(__x86_64__)
  if (fb::level() >= LEVEL_AVX512) return avx512::strip(job, first);
  if (fb::level() >= LEVEL_AVX2) return avx2::strip(job, first);
#endif
  baseline::strip(job, first);
}

/** Units [from, to): each a strip of `of` rows in all, which begins as it stands in `before`. */
template <class Work>
void strips(const Work& job, const double* before, size_t of, const double* args) {
  for (size_t unit = static_cast<size_t>(args[0]); unit < static_cast<size_t>(args[1]); unit++) {
    const size_t from = unit * STRIP * job.columns, to = min((unit + 1) * STRIP, of) * job.columns;
    copy(job.moment + from, before + from, (to - from) * sizeof(double));
    strip(job, unit * STRIP);
  }
}

}  // namespace
}  // namespace fb::moment

/**
 * inputs: x F32 [rows, K], before F64 [K, K]; outputs: F64 [K, K] = before + x^T x, from the diagonal on (what lies below it is not
 * complete); params: units (strips of 8 rows of the moment), rows, K.
 */
FB_EXPORT double fb_second_moment(const double* args) {
  using namespace fb::moment;
  const Job job = {fb::pointer<const float>(args[2]), fb::pointer<double>(args[4]), static_cast<size_t>(args[6]), static_cast<size_t>(args[7])};
  strips(job, fb::pointer<const double>(args[3]), job.columns, args);
  return 0;
}

/**
 * inputs: wanted F32 [rows, N], given F32 [rows, N], x F32 [rows, K], before F64 [N, K]; outputs: F64 [N, K] = before + (wanted - given)^T x;
 * params: units (strips of 8 rows of the moment), rows, N, K.
 */
FB_EXPORT double fb_error_moment(const double* args) {
  using namespace fb::moment;
  const auto size = [&](int i) { return static_cast<size_t>(args[8 + i]); };
  const ErrorJob job = {fb::pointer<const float>(args[2]), fb::pointer<const float>(args[3]), fb::pointer<const float>(args[4]), fb::pointer<double>(args[6]), size(0), size(1), size(2)};
  strips(job, fb::pointer<const double>(args[5]), job.outputs, args);
  return 0;
}
