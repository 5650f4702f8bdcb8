// Rows of logits: the exports, and the choice of instruction set.
#include "../cpu.h"
#include "../exports.h"
#include "likelihood.inc"

namespace fb::evaluate {
namespace {

struct Level {
  RowSums (*row_sums)(const float* logits, size_t width);
  double (*weighted_difference)(const float* baseline, const float* model, size_t width, double largest);
};

Level level_in_use() {
#if defined(__x86_64__)
  if (level() >= LEVEL_AVX512) return {avx512::row_sums, avx512::weighted_difference};
  if (level() >= LEVEL_AVX2) return {avx2::row_sums, avx2::weighted_difference};
#endif
  return {baseline::row_sums, baseline::weighted_difference};
}

}  // namespace
}  // namespace fb::evaluate

/** Units are rows. inputs: logits F32 [rows, width]. outputs: RowSums, F64 [rows, 3]. params: rows, width. */
FB_EXPORT double fb_row_sums(const double* args) {
  using namespace fb::evaluate;
  const float* logits = fb::pointer<const float>(args[2]);
  RowSums* out = fb::pointer<RowSums>(args[3]);
  const size_t width = static_cast<size_t>(args[5]);
  const Level level = level_in_use();
  for (size_t row = static_cast<size_t>(args[0]); row < static_cast<size_t>(args[1]); row++) out[row] = level.row_sums(logits + row * width, width);
  return 0;
}

/**
 * Units are rows. inputs: the baseline's logits, the model's, F32 [rows, width] each. outputs: RowSums of the baseline, RowSums of the model, sum of
 * exp(b - its largest) * (b - m), F64 [rows, 7]. params: rows, width.
 */
FB_EXPORT double fb_compare_rows(const double* args) {
  using namespace fb::evaluate;
  const float* baseline = fb::pointer<const float>(args[2]);
  const float* model = fb::pointer<const float>(args[3]);
  const size_t width = static_cast<size_t>(args[6]);
  const Level level = level_in_use();
  for (size_t row = static_cast<size_t>(args[0]); row < static_cast<size_t>(args[1]); row++) {
    double* out = fb::pointer<double>(args[4]) + row * 7;
    const RowSums b = level.row_sums(baseline + row * width, width), m = level.row_sums(model + row * width, width);
    fb::copy(out, &b, sizeof b);
    fb::copy(out + 3, &m, sizeof m);
    out[6] = level.weighted_difference(baseline + row * width, model + row * width, width, b.largest);
  }
  return 0;
}
