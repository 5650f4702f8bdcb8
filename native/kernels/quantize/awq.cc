// AWQ's search: the exports, and the choice of instruction set. src/methods/awq/oracle.ts is the definition.
#include "../cpu.h"
#include "../exports.h"
#include "awq.inc"

namespace fb::awq {
namespace {

struct Level {
  decltype(&baseline::requantize) requantize;
  decltype(&baseline::clip) clip;
  decltype(&baseline::finish) finish;
  void (*scale)(const float*, const float*, float*, size_t, size_t, size_t, int, int);
  decltype(&baseline::round) round;
  void (*norm)(const float*, const float*, float*, size_t, size_t, float, int);
  decltype(&baseline::column_sums) column_sums;
  decltype(&baseline::weight_sums) weight_sums;
  decltype(&baseline::squared_distance) squared_distance;
  decltype(&baseline::gram) gram;
  decltype(&baseline::quadratic) quadratic;
};

#define FB_AWQ_TABLE(name) \
  {name::requantize, name::clip, name::finish, name::scale, name::round, name::norm, name::column_sums, name::weight_sums, name::squared_distance, name::gram, name::quadratic}

const Level& level() {
  static constexpr Level BASELINE = FB_AWQ_TABLE(baseline);
#if defined(__x86_64__)
  static constexpr Level AVX2 = FB_AWQ_TABLE(avx2), AVX512 = FB_AWQ_TABLE(avx512);
  if (fb::level() >= LEVEL_AVX512) return AVX512;
  if (fb::level() >= LEVEL_AVX2) return AVX2;
#endif
  return BASELINE;
}

FB_INLINE size_t size(double number) { return static_cast<size_t>(number); }

/** params: rows, columns, group, arithmetic (Arithmetic), max, symmetric. */
Codes codes(const double* params) {
  Codes c = {};
  c.rows = size(params[0]);
  c.columns = size(params[1]);
  c.group = size(params[2]);
  c.arithmetic = static_cast<int>(params[3]);
  c.max = static_cast<float>(params[4]);
  c.symmetric = params[5] != 0;
  return c;
}

}  // namespace
}  // namespace fb::awq

/** Units are rows. inputs: w F32 [rows, columns], scale F32 [columns] or empty. outputs: F32 [rows, columns]. params: see codes; then 1 with scale; 1 for what is lost. */
FB_EXPORT double fb_awq_requantize(const double* args) {
  using namespace fb::awq;
  const Requantize job = {codes(args + 5), fb::pointer<const float>(args[2]),
                          args[11] != 0 ? fb::pointer<const float>(args[3]) : nullptr, fb::pointer<float>(args[4]), args[12] != 0};
  level().requantize(job, size(args[0]), size(args[1]));
  return 0;
}

/**
 * Units are runs of rows. inputs: w F32 [rows, columns], x F32 [columns, stride]. outputs: best F32 [rows, groups], scratch F32
 * [units, (CLIP_STEPS + 1) * group]. params: units, rows a unit, tokens, stride; then see codes.
 */
FB_EXPORT double fb_awq_clip(const double* args) {
  using namespace fb::awq;
  const size_t unit_rows = size(args[7]);
  Clip job = {codes(args + 10), fb::pointer<const float>(args[2]), fb::pointer<const float>(args[3]), size(args[8]), size(args[9]),
              fb::pointer<float>(args[4]), nullptr};
  for (size_t unit = size(args[0]); unit < size(args[1]); unit++) {
    job.scratch = fb::pointer<float>(args[5]) + unit * (CLIP_STEPS + 1) * job.group;
    level().clip(job, unit * unit_rows, fb::min(job.rows, (unit + 1) * unit_rows));
  }
  return 0;
}

/**
 * Units are rows. inputs: w F32 [rows, columns], clip F32 [rows, groups] or empty. outputs: codes U8 [rows, columns], scale F32 [rows, groups],
 * zero U8 [rows, groups], bad F64 [rows]. params: see codes; then 1 with clip.
 */
FB_EXPORT double fb_awq_codes(const double* args) {
  using namespace fb::awq;
  const Final job = {codes(args + 8),
                     fb::pointer<const float>(args[2]),
                     args[14] != 0 ? fb::pointer<const float>(args[3]) : nullptr,
                     fb::pointer<uint8_t>(args[4]),
                     fb::pointer<float>(args[5]),
                     fb::pointer<uint8_t>(args[6]),
                     fb::pointer<double>(args[7])};
  level().finish(job, size(args[0]), size(args[1]));
  return 0;
}

/**
 * Units are rows. inputs: x F32 [rows, columns], factors F32 [columns] or [rows]. outputs: F32 [rows, columns]. params: rows, columns,
 * arithmetic, kind (Scaling).
 */
FB_EXPORT double fb_awq_scale(const double* args) {
  using namespace fb::awq;
  level().scale(fb::pointer<const float>(args[2]), fb::pointer<const float>(args[3]), fb::pointer<float>(args[4]), size(args[6]),
                size(args[0]), size(args[1]), static_cast<int>(args[7]), static_cast<int>(args[8]));
  return 0;
}

/** Units are ELEMENTS. inputs: x F32 [count]. outputs: F32 [count]. params: units, count, arithmetic. */
FB_EXPORT double fb_round(const double* args) {
  using namespace fb::awq;
  const size_t from = size(args[0]) * ELEMENTS, to = fb::min(size(args[5]), size(args[1]) * ELEMENTS);
  level().round(fb::pointer<const float>(args[2]) + from, fb::pointer<float>(args[3]) + from, to - from, static_cast<int>(args[6]));
  return 0;
}

/** Units are rows. inputs: x F32 [rows, columns], weight F32 [columns]. outputs: F32 [rows, columns]. params: rows, columns, eps, arithmetic. */
FB_EXPORT double fb_awq_norm(const double* args) {
  using namespace fb::awq;
  const size_t from = size(args[0]), to = size(args[1]), columns = size(args[6]);
  level().norm(fb::pointer<const float>(args[2]) + from * columns, fb::pointer<const float>(args[3]),
               fb::pointer<float>(args[4]) + from * columns, to - from, columns, static_cast<float>(args[7]), static_cast<int>(args[8]));
  return 0;
}

/** Units are COLUMN_BLOCK columns. inputs: x F32 [rows, columns]. outputs: F64 [columns]. params: units, rows, columns, kind (ColumnSum). */
FB_EXPORT double fb_column_sums(const double* args) {
  using namespace fb::awq;
  const size_t rows = size(args[5]), columns = size(args[6]);
  const size_t from = size(args[0]) * COLUMN_BLOCK, to = fb::min(columns, size(args[1]) * COLUMN_BLOCK);
  level().column_sums(fb::pointer<const float>(args[2]), fb::pointer<double>(args[3]), rows, columns, from, to, static_cast<int>(args[7]));
  return 0;
}

/** Units are groups of a row. inputs: w F32 [rows, columns]. outputs: F64 [columns]. params: units, rows, columns, group, arithmetic. */
FB_EXPORT double fb_awq_weight_sums(const double* args) {
  using namespace fb::awq;
  level().weight_sums(fb::pointer<const float>(args[2]), fb::pointer<double>(args[3]), size(args[5]), size(args[6]), size(args[7]),
                      size(args[0]), size(args[1]), static_cast<int>(args[8]));
  return 0;
}

/** Units are runs of values. inputs: a, b F32 [count]. outputs: F64 [units]. params: units, count, values a unit. */
FB_EXPORT double fb_squared_distance(const double* args) {
  using namespace fb::awq;
  const float* a = fb::pointer<const float>(args[2]);
  const float* b = fb::pointer<const float>(args[3]);
  for (size_t unit = size(args[0]); unit < size(args[1]); unit++) {
    const size_t from = unit * size(args[7]), count = fb::min(size(args[7]), size(args[6]) - from);
    fb::pointer<double>(args[4])[unit] = level().squared_distance(a + from, b + from, count);
  }
  return 0;
}

/** Units are TILE_ROWS columns. inputs: x F32 [rows, columns]. outputs: F64 [columns, columns], to which x^T x is added. params: units, rows, columns. */
FB_EXPORT double fb_gram(const double* args) {
  using namespace fb::awq;
  for (size_t strip = size(args[0]); strip < size(args[1]); strip++)
    level().gram(fb::pointer<const float>(args[2]), fb::pointer<double>(args[3]), size(args[5]), size(args[6]), strip);
  return 0;
}

/**
 * Units are COLUMN_BLOCK columns. inputs: d F32 [rows, columns], h F32 [columns, columns], symmetric. outputs: F64 [rows, units], whose rows
 * sum to d h d^T. params: units, rows, columns.
 */
FB_EXPORT double fb_quadratic(const double* args) {
  using namespace fb::awq;
  for (size_t block = size(args[0]); block < size(args[1]); block++)
    level().quadratic(fb::pointer<const float>(args[2]), fb::pointer<const float>(args[3]), fb::pointer<double>(args[4]), size(args[6]),
                      size(args[7]), block, size(args[5]));
  return 0;
}
