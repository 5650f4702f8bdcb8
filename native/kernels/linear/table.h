// The functions of one level: included last by each kernels*.cc, which names its table.
#pragma once
#include "float.h"
#include "integers.h"

namespace fb::linear {
namespace {

size_t scratch_bytes(const Call&) { return 0; }
uint32_t form(const Call&) { return 0; }
void prepare(const Call&, int, int) {}
const char* kernel(const Call& c) { return c.x8 ? "int8" : "f32"; }

void compute(const Call& c, int panel_from, int panel_to, uint8_t* local) {
  for (int panel = panel_from; panel < panel_to; panel++) {
    if (c.x8) integer_panel(c, panel);
    else if (c.phase == Phase::Decode) decode_panel_float(c, panel, (float*)local);
    else prefill_panel(c, panel, (float*)local);
  }
}

}  // namespace
}  // namespace fb::linear
