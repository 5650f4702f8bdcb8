// Everything of a decoder step that is not a linear: norms, rotations, activations, attention. One implementation (ops.inc) on vectors
// of the compiler, compiled once for each instruction set. Sums are over lanes that do not depend on the vector's width and the
// functions (exp, tanh) are our own, so that levels differ by FMA alone.
#pragma once
#include "../base.h"
#include "../cpu.h"

namespace fb {

/** Positions of one page of a key/value cache. */
constexpr int PAGE_POSITIONS = 64;

/** Keys lie in blocks of this many positions, each [dim][positions]: a page that is partly filled is read in one piece. */
constexpr int KEY_BLOCK = 16;

/** Values of a head are padded to a multiple of this many floats in the cache. */
constexpr int HEAD_ALIGN = 16;

enum class Activation : int { silu, gelu, gelu_tanh, relu };

/** Queries that attend to the same keys: rows of one sequence times the heads of one key/value head. */
struct AttendBlock {
  int queries;
  int dim, padded;       // head size; the same rounded up to HEAD_ALIGN
  const float* q;        // [queries][padded], rotated; zeros behind dim
  const int32_t* first;  // [queries] positions seen, inclusive
  const int32_t* last;
  float* const* pages;  // the sequence's pages
  size_t keys, values;  // offsets of this head in a page: keys [4][dim][16 positions], values [64 positions][padded]
  size_t next_keys, next_values;  // of the head that comes next, to be read ahead; 0: none
  float scale;
  float softcap;  // 0: none
  float* out;     // [queries][padded]
  float* largest;  // [queries] scratch
  float* total;    // [queries] scratch
};

/** What a row of LLM.int8's outputs is made of besides its integer sums. */
struct Int8Outputs {
  float largest;          // of the row, without outliers
  const float* absmax;    // [n] of the weight's rows
  const float* bias;      // [n] or null
  const float* x;         // [k] the row
  const int32_t* columns; // [outliers]
  int outliers;
  const uint8_t* codes;   // the 16 outputs' panel (linear/layout.h), 8 bits
};

struct OpKernels {
  const char* name;
  /** y = x * rsqrt(mean(x^2) + eps) * w (or 1 + w) over `runs` runs of `size` values; the sum of squares is float64. */
  void (*norm)(const float* x, const float* w, float* y, size_t runs, size_t size, double eps, bool add_one);
  /** y = (x - mean) / sqrt(variance + eps) * w + b over `runs` runs of `size` values; mean and variance are float64. */
  void (*layer_norm)(const float* x, const float* w, const float* b, float* y, size_t runs, size_t size, double eps);
  /** Rotates the first `rotary` values of each head, halves paired; cos, sin: [rotary / 2]. y may be x. */
  void (*rotate)(const float* x, float* y, size_t heads, size_t dim, size_t rotary, const float* cos, const float* sin);
  /** y = activation(x), times `up` where that is not null. */
  void (*activate)(Activation kind, const float* x, const float* up, float* y, size_t count);
  void (*softcap)(const float* x, float* y, size_t count, float cap);
  void (*add)(const float* a, const float* b, float* y, size_t count);
  void (*multiply)(const float* a, const float* b, float* y, size_t count);
  void (*scale)(const float* x, float* y, size_t count, float by);
  /** softmax(q k^T * scale) v over the cache; a query's result does not depend on the block it came in. */
  void (*attend)(const AttendBlock& block);
  /** Marks the columns whose half is at least `threshold` (0: none); returns the largest half of the others. */
  float (*inspect_half)(const float* x, size_t count, float threshold, uint8_t* outlier);
  /** codes = round(half(x) * scale), half-even, 0 for outliers and NaN. */
  void (*half_codes)(const float* x, const uint8_t* outlier, size_t count, float scale, int8_t* codes);
  /** y = outputs [first, first + count) of a panel, whose integer sums lie in the place of y. */
  void (*int8_outputs)(const Int8Outputs& outputs, int first, int count, float* y);
};

/** The kernels of a level, or the best below it that this build has. */
const OpKernels* op_kernels(Level level);

}  // namespace fb
