// HQQ's quantiser: the passes over a weight, compiled for each instruction set (hqq.inc); hqq.cc runs them in order.
#pragma once
#include "torch-sum.h"

namespace fb::hqq {

struct Job {
  const float* w;    // regrouped matrix [rows, columns]
  uint8_t* codes;    // likewise
  float* inverse;    // 1 / scale of each group
  float* zero;       // of each group
  size_t rows, columns;
  bool strided;      // groups are columns, not rows
  float max;         // the largest code
  bool round_zero;
  // Of one iteration.
  float* partials;   // [whole chunks][32]: sums of the errors of a chunk, by lane
  float* tail;       // errors of the elements behind the whole chunks
  float* terms;      // `columns` floats for each worker, where a chunk does not hold whole groups
  uint8_t* bad;      // set where a weight is not finite

  FB_INLINE size_t count() const { return rows * columns; }
  FB_INLINE size_t groups() const { return strided ? columns : rows; }
};

/** Elements that torch adds to level 0 before it carries, in the sum of `count`: 32 lanes of a row. */
FB_INLINE size_t chunk_size(size_t count) { return static_cast<size_t>(32) << level_power(count / 32); }

/** True where a chunk holds whole groups, so that one pass gives both sums. */
FB_INLINE bool is_nested(const Job& job) { return !job.strided && chunk_size(job.count()) % job.columns == 0; }

enum Pass {
  RANGES,  // inverse scale and first zero; checks that all weights are finite
  ERRORS,  // partial sums of |w - restored|
  ZEROS,   // zeros from the codes that the old ones give
  STEPS,   // ERRORS and ZEROS in one, where is_nested
  CODES,
};

#define FB_HQQ_LEVEL(name)                                                \
  namespace name {                                                        \
  size_t units(const Job& job, Pass pass);                                \
  void run(const Job& job, Pass pass, size_t unit, int worker);           \
  float total_error(const Job& job);                                      \
  }
FB_HQQ_LEVEL(baseline)
FB_HQQ_LEVEL(avx2)
#undef FB_HQQ_LEVEL

}  // namespace fb::hqq
