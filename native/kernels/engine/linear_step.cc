// Linears of a plan: one region over the panels of all outputs that read the same x.
#include "engine.h"
#include "../quantized-input.h"

namespace fb {
namespace {

constexpr int MAX_PARTS = 8;

/** Below this a region costs more than it gains. */
constexpr double SHORTEST_REGION_US = 15;
constexpr double CHUNK_US = 12;

linear::Call call_of(const Engine& e, const LinearStep& s, const LinearPart& p) {
  linear::Call call = {};
  call.weight = &pointer<PreparedWeight>(p.weight)->weight;
  call.rows = e.rows(s);
  call.x = e.value(s.x, s);
  call.ldx = static_cast<int>(s.x_width);
  call.y = e.value(p.y, s);
  call.ldy = static_cast<int>(p.width);
  call.bias = pointer<const float>(p.bias);
  call.residual = p.residual < 0 ? nullptr : e.value(p.residual, s);
  call.ldr = static_cast<int>(p.width);
  const bool whole = p.input_scale != 0 && static_cast<InputType>(static_cast<int>(p.input_type)) == InputType::int8;
  call.unit = whole ? static_cast<float>(p.input_scale) : 0;
  call.mode = static_cast<linear::Mode>(static_cast<int>(p.fast));
  call.phase = e.batch.phase;
  return call;
}

/** What one thread takes, roughly: reading the weight, or arithmetic on it. */
double microseconds(const linear::Call& call) {
  const double bytes = static_cast<double>(linear::tile_bytes(*call.weight)) / 12e3;
  const double operations = 2.0 * call.weight->n * call.weight->k * call.rows / 60e3;
  return max(bytes, operations);
}

/** True where two parts see the same x. */
bool same_input(const LinearPart& a, const LinearPart& b) { return a.input_scale == b.input_scale && a.input_type == b.input_type; }

/** Gives each call its scratch, and its x where that is quantised; calls that see and prepare x alike share one. False without memory. */
bool place_scratch(Engine& e, const LinearStep& s, linear::Call* calls, bool* prepares, int parts) {
  size_t offsets[MAX_PARTS], inputs[MAX_PARTS], total = 0;
  for (int i = 0; i < parts; i++) {
    if (s.part(i)->input_scale == 0) continue;
    int same = 0;
    while (same < i && !same_input(*s.part(same), *s.part(i))) same++;
    inputs[i] = same < i ? inputs[same] : total;
    if (same == i) total += (static_cast<size_t>(calls[i].rows) * static_cast<size_t>(calls[i].ldx) * sizeof(float) + 63) / 64 * 64;
  }
  for (int i = 0; i < parts; i++) {
    const uint32_t form = e.linear->form(calls[i]);
    int same = 0;
    while (same < i && !(form != 0 && same_input(*s.part(same), *s.part(i)) && e.linear->form(calls[same]) == form)) same++;
    prepares[i] = same == i && form != 0;
    offsets[i] = same < i ? offsets[same] : total;
    if (same == i) total += (e.linear->scratch_bytes(calls[i]) + 63) / 64 * 64;
  }
  if (!e.scratch.reserve(total)) return false;
  for (int i = 0; i < parts; i++) {
    calls[i].scratch = reinterpret_cast<uint8_t*>(e.scratch.data) + offsets[i];
    if (s.part(i)->input_scale != 0) calls[i].x = reinterpret_cast<const float*>(e.scratch.data + inputs[i]);
  }
  return true;
}

/** Writes the quantised x of the calls, each once. */
void quantize_inputs(const Engine& e, const LinearStep& s, const linear::Call* calls, int parts) {
  const float* x = e.value(s.x, s);
  for (int i = 0; i < parts; i++) {
    const LinearPart& part = *s.part(i);
    bool done = part.input_scale == 0;
    for (int j = 0; j < i; j++) done = done || calls[j].x == calls[i].x;
    if (done) continue;
    const size_t width = static_cast<size_t>(calls[i].ldx);
    float* y = const_cast<float*>(calls[i].x);
    by_rows(calls[i].rows, 8, [&](int from, int count) {
      const size_t at = static_cast<size_t>(from) * width;
      quantize_input(x + at, y + at, static_cast<size_t>(count) * width, static_cast<float>(part.input_scale), static_cast<InputType>(static_cast<int>(part.input_type)));
    });
  }
}

}  // namespace

bool run_linear(Engine& e, const LinearStep& s) {
  const int parts = static_cast<int>(s.parts);
  linear::Call calls[MAX_PARTS];
  bool prepares[MAX_PARTS];
  int panels = 0;
  double cost = 0;
  for (int i = 0; i < parts; i++) {
    calls[i] = call_of(e, s, *s.part(i));
    panels += calls[i].weight->panels;
    cost += microseconds(calls[i]);
  }
  if (!place_scratch(e, s, calls, prepares, parts)) return false;
  quantize_inputs(e, s, calls, parts);
  for (int i = 0; i < parts; i++) {
    if (prepares[i]) by_rows(calls[i].rows, 8, [&](int from, int count) { e.linear->prepare(calls[i], from, from + count); });
  }
  const int wanted = cost < SHORTEST_REGION_US ? 1 : static_cast<int>(min(cost / CHUNK_US + 1, 8.0 * threads()));
  const size_t chunks = static_cast<size_t>(min(max(wanted, min(threads(), wanted * 2)), panels));
  parallel(chunks, [&](size_t chunk, int worker) {
    int from = static_cast<int>(static_cast<size_t>(panels) * chunk / chunks);
    int to = static_cast<int>(static_cast<size_t>(panels) * (chunk + 1) / chunks);
    for (int i = 0; i < parts && to > 0; i++) {
      const int count = calls[i].weight->panels;
      if (from < count) e.linear->compute(calls[i], max(from, 0), min(to, count), e.local_of(worker));
      from -= count;
      to -= count;
    }
  });
  return true;
}

}  // namespace fb
