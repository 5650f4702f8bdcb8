// Second moments: the choice of instruction set.
#include "../cpu.h"
#include "../exports.h"
#include "moment.inc"

/**
 * inputs: x F32 [rows, K], before F64 [K, K]; outputs: F64 [K, K] = before + x^T x, from the diagonal on (what lies below it is not
 * complete); params: units (strips of 8 rows of the moment), rows, K.
 */
FB_EXPORT double fb_second_moment(const double* args) {
  using namespace fb::moment;
  const double* before = fb::pointer<const double>(args[3]);
  Job job = {fb::pointer<const float>(args[2]), fb::pointer<double>(args[4]), static_cast<size_t>(args[6]), static_cast<size_t>(args[7])};
#if defined(__x86_64__)
  const auto strip = fb::level() >= fb::LEVEL_AVX512 ? avx512::strip : fb::level() >= fb::LEVEL_AVX2 ? avx2::strip : baseline::strip;
#else
  const auto strip = baseline::strip;
#endif
  for (size_t unit = static_cast<size_t>(args[0]); unit < static_cast<size_t>(args[1]); unit++) {
    const size_t from = unit * STRIP * job.columns, to = fb::min((unit + 1) * STRIP, job.columns) * job.columns;
    fb::copy(job.moment + from, before + from, (to - from) * sizeof(double));
    strip(job, unit * STRIP);
  }
  return 0;
}
