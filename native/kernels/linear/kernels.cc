// Every scheme in plain C: decode a piece of a panel, multiply, add. The level that all others are compared with.
#include "decode.h"
#include "layout.h"

namespace fb::linear {
namespace {

constexpr int PIECE = 256;

size_t scratch_bytes(const Call&) { return 0; }
uint32_t form(const Call&) { return 0; }
void prepare(const Call&, int, int) {}
const char* kernel(const Call& call) { return call.x8 ? "scalar int8" : "scalar f32"; }

void store(const Call& c, int row, int panel, const float* sums) {
  const int first = panel * PANEL_ROWS;
  const int count = c.weight->n - first < PANEL_ROWS ? c.weight->n - first : PANEL_ROWS;
  float* y = c.y + (size_t)row * (size_t)c.ldy + first;
  for (int lane = 0; lane < count; lane++) {
    float value = sums[lane];
    if (c.bias) value += c.bias[first + lane];
    if (c.residual) value += c.residual[(size_t)row * (size_t)c.ldr + (size_t)(first + lane)];
    y[lane] = value;
  }
}

void panel_float(const Call& c, int panel, float* piece) {
  const Weight& w = *c.weight;
  constexpr int ROWS = 64;  // rows at a time: their sums lie behind the decoded piece
  float* sums = piece + PIECE * PANEL_ROWS;
  for (int base = 0; base < c.rows; base += ROWS) {
    const int rows = c.rows - base < ROWS ? c.rows - base : ROWS;
    for (int i = 0; i < rows * PANEL_ROWS; i++) sums[i] = 0;
    for (int k = 0; k < w.k; k += PIECE) {
      const int to = k + PIECE < w.k ? k + PIECE : w.k;
      decode_panel(w, panel_of(w, panel), k, to, piece);
      for (int r = 0; r < rows; r++) {
        const float* x = c.x + (size_t)(base + r) * (size_t)c.ldx;
        float part[PANEL_ROWS] = {0};
        for (int i = k; i < to; i++) {
          const float* p = piece + (i - k) * PANEL_ROWS;
          for (int lane = 0; lane < PANEL_ROWS; lane++) part[lane] += p[lane] * x[i];
        }
        for (int lane = 0; lane < PANEL_ROWS; lane++) sums[r * PANEL_ROWS + lane] += part[lane];
      }
    }
    for (int r = 0; r < rows; r++) store(c, base + r, panel, sums + r * PANEL_ROWS);
  }
}

void panel_int8(const Call& c, int panel) {
  const Weight& w = *c.weight;
  const uint8_t* codes = panel_of(w, panel);
  const int zero = (int)w.zero_point;
  const int first = panel * PANEL_ROWS;
  for (int r = 0; r < c.rows; r++) {
    const int8_t* x = c.x8 + (size_t)r * (size_t)c.ldx;
    for (int lane = 0; lane < PANEL_ROWS && first + lane < w.n; lane++) {
      int32_t sum = 0;
      for (int k = 0; k < w.k; k++) sum += x[k] * ((int)codes[(size_t)(k >> 2) * VECTOR + (size_t)(lane * 4 + (k & 3))] - zero);
      c.y8[(size_t)r * (size_t)c.ldy + (size_t)(first + lane)] = sum;
    }
  }
}

void compute(const Call& c, int panel_from, int panel_to, uint8_t* local) {
  for (int panel = panel_from; panel < panel_to; panel++) {
    if (c.x8) panel_int8(c, panel);
    else panel_float(c, panel, (float*)local);
  }
}

}  // namespace

extern const Kernels SCALAR_KERNELS;
const Kernels SCALAR_KERNELS = {"scalar", scratch_bytes, form, prepare, compute, kernel};

}  // namespace fb::linear
