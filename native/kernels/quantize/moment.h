// Second moments of recorded inputs, added to what is there.
#pragma once
#include "../base.h"

namespace fb::moment {

/** Rows of x whose products are added in float32, and rows of the moment that a unit holds. */
constexpr size_t CHUNK = 256;
constexpr size_t STRIP = 8;

struct Job {
  const float* x;  // [rows, columns]
  double* moment;  // [columns, columns]
  size_t rows, columns;
};

/** Of what outputs lack with the inputs. */
struct ErrorJob {
  const float *wanted, *given;  // [rows, outputs]
  const float* x;               // [rows, columns]
  double* moment;               // [outputs, columns]
  size_t rows, outputs, columns;
};

/** Rows [first, first + STRIP) of the moment, from the diagonal on at least; or whole. */
#define FB_MOMENT_LEVEL(name) \
  namespace name { void strip(const Job& job, size_t first); void strip(const ErrorJob& job, size_t first); }
FB_MOMENT_LEVEL(baseline)
FB_MOMENT_LEVEL(avx2)
FB_MOMENT_LEVEL(avx512)
#undef FB_MOMENT_LEVEL

}  // namespace fb::moment
