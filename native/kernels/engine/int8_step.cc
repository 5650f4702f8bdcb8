// LLM.int8's linear, operation by operation as src/backends/reference/int8-linear.ts: activations are rounded to half, then to int8 by
// row; columns that hold an outlier in any row of the call are multiplied as floats.
#include "../half.h"
#include "../linear/layout.h"
#include "engine.h"

namespace fb {
namespace {

const float INVERSE_127 = 1.0f / 127.0f;
const float INVERSE_127_SQUARED = static_cast<float>(1.0 / (127.0 * 127.0));

/** Half-even, as the reference rounds; NaN becomes 0. */
FB_INLINE int8_t rounded(float value) { return value == value ? static_cast<int8_t>(__builtin_rintf(value)) : 0; }

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

FB_INLINE float to_half_and_back(float value) { return from_f16(to_f16(value)); }

/** Finds the columns with an outlier in any row, and each row's largest value that is none. */
void inspect(Work& w) {
  zero(w.outlier, static_cast<size_t>(w.k));
  for (int r = 0; r < w.rows; r++) {
    const float* x = w.x + static_cast<size_t>(r) * static_cast<size_t>(w.k);
    float largest = 0;
    for (int i = 0; i < w.k; i++) {
      const float v = __builtin_fabsf(to_half_and_back(x[i]));
      if (w.threshold > 0 && v >= w.threshold) {
        w.outlier[i] = 1;
      } else if (v > largest) {
        largest = v;
      }
    }
    w.largest[r] = largest;
  }
  w.outliers = 0;
  for (int i = 0; i < w.k; i++)
    if (w.outlier[i]) w.columns[w.outliers++] = i;
}

void quantize_row(const Work& w, int r) {
  const size_t at = static_cast<size_t>(r) * static_cast<size_t>(w.k);
  const float largest = w.largest[r];
  const float inverse = 1 / largest;
  const float scale = largest == 0 ? 0 : inverse * 127;
  for (int i = 0; i < w.k; i++) w.codes[at + static_cast<size_t>(i)] = w.outlier[i] ? 0 : rounded(to_half_and_back(w.x[at + static_cast<size_t>(i)]) * scale);
}

/** Sums (int32, in the place of y) -> outputs of one row for the columns [from, to). */
void finish(const Work& w, const linear::Weight& weight, const float* absmax, const float* bias, int r, int from, int to, float* y) {
  const float* x = w.x + static_cast<size_t>(r) * static_cast<size_t>(w.k);
  for (int j = from; j < to; j++) {
    int32_t sum;
    copy(&sum, y + j, sizeof sum);
    const float row_scale = w.largest[r] * absmax[j];
    float out = static_cast<float>(sum) * row_scale;
    out = out * INVERSE_127_SQUARED;
    if (bias) out = out + bias[j];
    const uint8_t* codes = linear::panel_of(weight, j / linear::PANEL_ROWS) + j % linear::PANEL_ROWS * 4;
    double rest = 0;
    for (int i = 0; i < w.outliers; i++) {
      const int c = w.columns[i];
      const float code = static_cast<float>(static_cast<int>(codes[static_cast<size_t>(c >> 2) * linear::VECTOR + static_cast<size_t>(c & 3)]) - 128);
      const float product = code * absmax[j];
      const float value = product * INVERSE_127;
      rest += static_cast<double>(x[c]) * static_cast<double>(value);
    }
    y[j] = static_cast<float>(static_cast<double>(out) + rest);
  }
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
  inspect(w);
  by_rows(w.rows, 8, [&](int from, int count) {
    for (int r = from; r < from + count; r++) quantize_row(w, r);
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
    const int last = min(to * linear::PANEL_ROWS, w.n);
    for (int r = 0; r < w.rows; r++)
      finish(w, weight, absmax, bias, r, from * linear::PANEL_ROWS, last, y + static_cast<size_t>(r) * static_cast<size_t>(w.n));
  });
  return true;
}

}  // namespace fb
