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

/** Rows [first, first + STRIP) of the moment, from the diagonal on at least. */
namespace baseline { void strip(const Job& job, size_t first); }
namespace avx2 { void strip(const Job& job, size_t first); }
namespace avx512 { void strip(const Job& job, size_t first); }

}  // namespace fb::moment
