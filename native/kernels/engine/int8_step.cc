// LLM.int8's linear, operation by operation as src/backends/reference/int8-linear.ts: activations are rounded to half, then to int8 by
// row; columns that hold an outlier in any row of the call are multiplied as floats.
#include "../linear/layout.h"
#include "engine.h"

namespace fb {
namespace {

struct Work {
  int rows, n, k;
  const float* x;
  float threshold;
  uint8_t* outlier;  // [k]
  int32_t* columns;  // [outliers]
  int outliers;
  float* largest;  // [rows]
  int8_t* codes;   // [rows, k]
};

/** Finds the columns with an outlier in any row, and each row's largest value that is none. */
void inspect(const OpKernels& ops, Work& w) {
  const size_t k = static_cast<size_t>(w.k);
  zero(w.outlier, k);
  for (int r = 0; r < w.rows; r++) w.largest[r] = ops.inspect_half(w.x + static_cast<size_t>(r) * k, k, w.threshold, w.outlier);
  w.outliers = 0;
  for (int i = 0; i < w.k; i++)
    if (w.outlier[i]) w.columns[w.outliers++] = i;
}

void quantize_row(const OpKernels& ops, const Work& w, int r) {
  const size_t k = static_cast<size_t>(w.k), at = static_cast<size_t>(r) * k;
  const float inverse = 1 / w.largest[r];
  ops.half_codes(w.x + at, w.outlier, k, w.largest[r] == 0 ? 0 : inverse * 127, w.codes + at);
}

}  // namespace

bool run_int8(Engine& e, const Int8Step& s) {
  Work w = {};
  w.rows = e.rows(s);
  w.n = static_cast<int>(s.width);
  w.k = static_cast<int>(s.x_width);
  w.x = e.value(s.x, s);
  w.threshold = static_cast<float>(s.threshold);
  const size_t rows = static_cast<size_t>(w.rows), k = static_cast<size_t>(w.k);
  if (!e.scratch.reserve(rows * k + rows * sizeof(float) + 5 * k + 64)) return false;
  w.largest = reinterpret_cast<float*>(e.scratch.data);
  w.columns = reinterpret_cast<int32_t*>(w.largest + rows);
  w.outlier = reinterpret_cast<uint8_t*>(w.columns + k);
  w.codes = reinterpret_cast<int8_t*>(w.outlier + k);
  inspect(*e.ops, w);
  by_rows(w.rows, 8, [&](int from, int count) {
    for (int r = from; r < from + count; r++) quantize_row(*e.ops, w, r);
  });

  const linear::Weight& weight = pointer<PreparedWeight>(s.weight)->weight;
  float* y = e.value(s.y, s);
  linear::Call call = {};
  call.weight = &weight;
  call.rows = w.rows;
  call.ldx = w.k;
  call.ldy = w.n;
  call.x8 = w.codes;
  call.y8 = reinterpret_cast<int32_t*>(y);
  const float* absmax = pointer<const float>(s.absmax);
  const float* bias = pointer<const float>(s.bias);
  const size_t chunks = static_cast<size_t>(min(weight.panels, 8 * threads()));
  parallel(chunks, [&](size_t chunk, int worker) {
    const size_t panels = static_cast<size_t>(weight.panels);
    const int from = static_cast<int>(panels * chunk / chunks), to = static_cast<int>(panels * (chunk + 1) / chunks);
    e.linear->compute(call, from, to, e.local_of(worker));
    for (int r = 0; r < w.rows; r++) {
      Int8Outputs outputs = {w.largest[r], absmax, bias, w.x + static_cast<size_t>(r) * k, w.columns, w.outliers, nullptr};
      for (int panel = from; panel < to; panel++) {
        const int first = panel * linear::PANEL_ROWS;
        outputs.codes = linear::panel_of(weight, panel);
        e.ops->int8_outputs(outputs, first, min(w.n - first, linear::PANEL_ROWS), y + static_cast<size_t>(r) * static_cast<size_t>(w.n) + first);
      }
    }
  });
  return true;
}

}  // namespace fb
