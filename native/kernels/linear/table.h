// The functions of one level: included last by each kernels*.cc, which names its table.
#pragma once
#include "additive.h"
#include "integers.h"
#include "matvec.h"
#if defined(__AVX2__)
#include "matmul8.h"
#endif

namespace fb::linear {
namespace {

enum class Kind : uint8_t { Float, Float8, Digits, Integers };

/** Which kernel runs a call: by scheme, mode and phase, never by rows. */
struct Choice {
  Kind kind;
  Form form;
};

Choice choose(const Call& c) {
  if (c.x8) return {Kind::Integers, {}};
  if (c.phase == Phase::Decode && c.weight->scheme == Scheme::Float8) return {Kind::Float8, {0, 4, FLOAT8_TOP}};
#if defined(FB_WORDS)
  const Weight& w = *c.weight;
  // Groups of 8 have no sums of activations: they go through a piece.
  if (c.phase == Phase::Decode && !is_dense(w.scheme) && w.group != 8) {
    const bool exact = c.mode == Mode::Exact;
    if (w.scheme == Scheme::Lookup16) return {Kind::Digits, {exact ? 2 : 1, 2, LOOKUP_TOP}};
    // Whole numbers are one digit, exactly. Of other x, codes of few bits take one byte, far finer than they are: a second one would cost
    // more than reading them.
    const bool one = c.unit != 0;
    [[maybe_unused]] const Form bytes = {one || (!exact && w.bits <= 3) ? 1 : exact ? 3 : 2, 1, 127};
#if defined(__AVX512VNNI__)
    return {Kind::Digits, bytes};
#elif defined(__AVX2__)
    if (w.bits < 8 && !has_wide_levels(w)) return {Kind::Digits, bytes};
#endif
    return {Kind::Digits, {one || !exact ? 1 : 2, 2, 32767}};
  }
#endif
#if defined(__AVX2__)
  if (c.phase == Phase::Prefill && (c.mode != Mode::Exact || c.unit != 0) && has_matmul8(*c.weight)) return {Kind::Digits, {1, 1, 127}};
#endif
  return {Kind::Float, {}};
}

size_t scratch_bytes(const Call& c) {
  if (c.weight->scheme == Scheme::Additive) return additive_scratch(c);
  const Choice choice = choose(c);
  if (choice.kind == Kind::Float8) return float8_row_bytes(c.weight->k) * (size_t)c.rows;
  return choice.kind == Kind::Digits ? row_bytes(choice.form, c.weight->k) * (size_t)c.rows : 0;
}

uint32_t form(const Call& c) {
  if (c.weight->scheme == Scheme::Additive) return additive_form(c);
  const Choice choice = choose(c);
  return choice.kind == Kind::Digits || choice.kind == Kind::Float8 ? number_of(choice.form) : 0;
}

void prepare(const Call& c, int row_from, int row_to) {
  if (c.weight->scheme == Scheme::Additive) return additive_prepare(c, row_from, row_to);
  const Choice choice = choose(c);
  for (int row = row_from; choice.kind == Kind::Float8 && row < row_to; row++) prepare_float8(c, row);
  if (choice.kind != Kind::Digits) return;
  for (int row = row_from; row < row_to; row++) {
    if (choice.form.bytes == 1) digits_of_row<int8_t, 7, false>(c, choice.form, row);
    else if (choice.form.top == 32767) digits_of_row<int16_t, 15, true>(c, choice.form, row);
    else digits_of_row<int16_t, LOOKUP_SHIFT, LOOKUP_PAIRS>(c, choice.form, row);
  }
}

const char* kernel(const Call& c) {
  if (c.weight->scheme == Scheme::Additive) return additive_kernel(c);
  const Choice choice = choose(c);
  if (choice.kind == Kind::Integers) return "int8";
  if (choice.kind == Kind::Float) return "f32";
  if (choice.kind == Kind::Float8) return "f32 x float8";
  if (choice.form.bytes == 1) return choice.form.digits == 3 ? "int8 x 3" : choice.form.digits == 2 ? "int8 x 2" : "int8";
  return choice.form.digits == 2 ? "int16 x 2" : "int16";
}

void compute_panel(const Call& c, const Choice& choice, int panel, float* local) {
  if (choice.kind == Kind::Integers) return integer_panel(c, panel);
  if (choice.kind == Kind::Float8) return c.weight->mantissa == 2 ? float8_panel<2>(c, panel) : float8_panel<3>(c, panel);
#if defined(__AVX2__)
  if (choice.kind == Kind::Digits && c.phase == Phase::Prefill) return matmul8_panel(c, choice.form, panel, local);
#endif
#if defined(FB_WORDS)
  if (choice.kind == Kind::Digits) {
    if (choice.form.digits == 1) return matvec_panel<1>(c, choice.form, panel);
    if (choice.form.digits == 2) return matvec_panel<2>(c, choice.form, panel);
    return matvec_panel<3>(c, choice.form, panel);
  }
#endif
  if (c.phase == Phase::Decode) decode_panel_float(c, panel, local);
  else prefill_panel(c, panel, local);
}

void compute(const Call& c, int panel_from, int panel_to, uint8_t* local) {
  if (c.weight->scheme == Scheme::Additive) return additive_compute(c, panel_from, panel_to, local);
  const Choice choice = choose(c);
  for (int panel = panel_from; panel < panel_to; panel++) compute_panel(c, choice, panel, (float*)local);
}

}  // namespace
}  // namespace fb::linear
