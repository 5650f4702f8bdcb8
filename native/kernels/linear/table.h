// The functions of one level: included last by each kernels*.cc, which names its table.
#pragma once
#include "float.h"
#include "integers.h"
#if defined(__AVX2__)
#include "bytes.h"
#endif

namespace fb::linear {
namespace {

enum class Kind : uint8_t { Float, Bytes, Integers };

/** Which kernel runs a call: by scheme, mode and phase, never by rows. */
struct Choice {
  Kind kind;
  int digits;
};

Choice choose(const Call& c) {
  if (c.x8) return {Kind::Integers, 0};
#if defined(__AVX2__)
  const Weight& w = *c.weight;
  const bool codes = w.scheme == Scheme::Affine || is_superblock(w.scheme);
  if (c.phase == Phase::Decode && codes && w.bits < 8) return {Kind::Bytes, c.mode == Mode::Exact ? 3 : 2};
#endif
  return {Kind::Float, 0};
}

#if defined(__AVX2__)
Form form_of(const Choice& choice) { return {choice.digits, 1, 127}; }

size_t scratch_bytes(const Call& c) {
  const Choice choice = choose(c);
  return choice.digits ? row_bytes(form_of(choice), c.weight->k) * (size_t)c.rows : 0;
}

uint32_t form(const Call& c) {
  const Choice choice = choose(c);
  return choice.digits ? number_of(form_of(choice)) : 0;
}

void prepare(const Call& c, int row_from, int row_to) {
  const Choice choice = choose(c);
  if (!choice.digits) return;
  for (int row = row_from; row < row_to; row++) digits_of_row<int8_t, 7>(c, form_of(choice), row);
}
#else
size_t scratch_bytes(const Call&) { return 0; }
uint32_t form(const Call&) { return 0; }
void prepare(const Call&, int, int) {}
#endif

const char* kernel(const Call& c) {
  const Choice choice = choose(c);
  if (choice.kind == Kind::Integers) return "int8";
  if (choice.kind == Kind::Float) return "f32";
  return choice.digits == 3 ? "int8 x 3" : choice.digits == 2 ? "int8 x 2" : "int8 x 1";
}

void compute_panel(const Call& c, const Choice& choice, int panel, float* local) {
  switch (choice.kind) {
    case Kind::Integers: return integer_panel(c, panel);
    case Kind::Bytes:
#if defined(__AVX2__)
      if (choice.digits == 3) return bytes_decode<3>(c, form_of(choice), panel);
      return bytes_decode<2>(c, form_of(choice), panel);
#endif
    case Kind::Float: break;
  }
  if (c.phase == Phase::Decode) decode_panel_float(c, panel, local);
  else prefill_panel(c, panel, local);
}

void compute(const Call& c, int panel_from, int panel_to, uint8_t* local) {
  const Choice choice = choose(c);
  for (int panel = panel_from; panel < panel_to; panel++) compute_panel(c, choice, panel, (float*)local);
}

}  // namespace
}  // namespace fb::linear
