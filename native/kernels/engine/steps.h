// A compiled plan as flat memory: steps one after another, each a struct of float64 numbers (pointers included), written by
// src/backends/cpu/program.ts in the same order of fields. A value is an offset in floats per row into the arena of its rows.
#pragma once
#include "../base.h"

namespace fb {

enum class Op : int { embed, linear, int8_linear, norm, rotate, attend, activate, add, multiply, scale, softcap, slice, select, input, layer_norm };

struct Step {
  double op;
  double length;    // doubles of the whole step
  double selected;  // 1: runs on the wanted rows only (and the arena of those)
};

/** Rows of a table: those of the ids, or with `offset` >= 0 those at the positions plus it. */
struct EmbedStep : Step {
  double y, weight, width, scale, offset;
};

struct LinearPart {
  double weight, bias;   // bias: [N] or 0
  double residual;       // value, or -1
  double y, width, fast;
  double input_scale, input_type;  // scale 0: the input is not quantised (quantized-input.h)
};

/** Linears of one x: activations are prepared once, and all outputs are one region. */
struct LinearStep : Step {
  double x, x_width, parts;
  FB_INLINE const LinearPart* part(int i) const { return reinterpret_cast<const LinearPart*>(this + 1) + i; }
};

/** LLM.int8: activations to int8 by row, columns with outliers apart. */
struct Int8Step : Step {
  double x, x_width, y, width, weight, bias, absmax, threshold;
};

struct NormStep : Step {
  double x, y, weight, width, size, eps, add_one;
};

struct LayerNormStep : Step {
  double x, y, weight, bias, width, eps;
};

struct RotateStep : Step {
  double x, y, width, dim, rope;
};

struct AttendStep : Step {
  double q, k, v, y;
  double heads, kv_heads, dim, scale, window, softcap;  // window, softcap: 0 where there is none
  double q_rope, k_rope;                                // -1: not rotated here
  double keys, values;                                  // floats from the start of a page to this layer's
};

struct ActivateStep : Step {
  double x, up, y, width, kind;  // up: value, or -1
};

struct BinaryStep : Step {
  double a, b, y, width;
};

/** scale, softcap: `number`; slice: the first column, of x_width. */
struct UnaryStep : Step {
  double x, y, width, number, x_width;
};

/** Copies an input of the batch; `before`: floats a row of the inputs before it. */
struct InputStep : Step {
  double y, width, before;
};

}  // namespace fb
