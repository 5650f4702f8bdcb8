#include "engine.h"

#include "../exports.h"
#include "../host.h"
#include "../memory.h"

namespace fb {

bool Buffer::reserve(size_t wanted) {
  if (wanted <= bytes) return true;
  release(data);
  data = static_cast<char*>(allocate(wanted));
  bytes = data ? wanted : 0;
  return data != nullptr;
}

void Buffer::free() {
  release(data);
  data = nullptr;
  bytes = 0;
}

namespace {

/** Rows of a step whose rows do little work each. */
constexpr int PIECE = 16;

template <class Kind>
FB_INLINE const Kind& as(const Step& step) {
  return static_cast<const Kind&>(step);
}

void embed(Engine& e, const EmbedStep& s) {
  const size_t width = static_cast<size_t>(s.width);
  const linear::Weight& weight = pointer<PreparedWeight>(s.weight)->weight;
  const float by = static_cast<float>(s.scale);
  const int offset = static_cast<int>(s.offset);
  by_rows(e.batch.rows, PIECE, [&](int from, int count) {
    for (int r = from; r < from + count; r++) {
      float* y = e.value(s.y, s) + static_cast<size_t>(r) * width;
      linear::decode_row(weight, offset < 0 ? e.batch.ids[r] : e.batch.positions[r] + offset, y);
      if (by != 1) e.ops->scale(y, y, width, by);
    }
  });
}

void norm(Engine& e, const NormStep& s) {
  const size_t width = static_cast<size_t>(s.width), size = static_cast<size_t>(s.size);
  by_rows(e.rows(s), PIECE, [&](int from, int count) {
    const size_t at = static_cast<size_t>(from) * width;
    e.ops->norm(e.value(s.x, s) + at, pointer<float>(s.weight), e.value(s.y, s) + at, static_cast<size_t>(count) * (width / size),
                size, s.eps, s.add_one != 0);
  });
}

void layer_norm(Engine& e, const LayerNormStep& s) {
  const size_t width = static_cast<size_t>(s.width);
  by_rows(e.rows(s), PIECE, [&](int from, int count) {
    const size_t at = static_cast<size_t>(from) * width;
    e.ops->layer_norm(e.value(s.x, s) + at, pointer<float>(s.weight), pointer<float>(s.bias), e.value(s.y, s) + at,
                      static_cast<size_t>(count), width, s.eps);
  });
}

void rotate(Engine& e, const RotateStep& s) {
  const size_t width = static_cast<size_t>(s.width), dim = static_cast<size_t>(s.dim);
  const int rope = static_cast<int>(s.rope);
  const size_t half = static_cast<size_t>(e.rope_half[rope]);
  by_rows(e.rows(s), PIECE, [&](int from, int count) {
    for (size_t r = static_cast<size_t>(from); r < static_cast<size_t>(from + count); r++) {
      e.ops->rotate(e.value(s.x, s) + r * width, e.value(s.y, s) + r * width, width / dim, dim, 2 * half,
                    e.batch.cos[rope] + r * half, e.batch.sin[rope] + r * half);
    }
  });
}

/** body(offset, count) over the floats of all rows. */
template <class Body>
FB_INLINE void by_floats(const Engine& e, const Step& s, double width, Body&& body) {
  const size_t row = static_cast<size_t>(width);
  by_rows(e.rows(s), PIECE,
          [&](int from, int count) { body(static_cast<size_t>(from) * row, static_cast<size_t>(count) * row); });
}

void activate(Engine& e, const ActivateStep& s) {
  const float* x = e.value(s.x, s);
  const float* up = s.up < 0 ? nullptr : e.value(s.up, s);
  float* y = e.value(s.y, s);
  by_floats(e, s, s.width, [&](size_t at, size_t count) {
    e.ops->activate(static_cast<Activation>(static_cast<int>(s.kind)), x + at, up ? up + at : nullptr, y + at, count);
  });
}

template <class Kernel>
FB_INLINE void binary(Engine& e, const BinaryStep& s, Kernel kernel) {
  const float* a = e.value(s.a, s);
  const float* b = e.value(s.b, s);
  float* y = e.value(s.y, s);
  by_floats(e, s, s.width, [&](size_t at, size_t count) { kernel(a + at, b + at, y + at, count); });
}

template <class Kernel>
FB_INLINE void unary(Engine& e, const UnaryStep& s, Kernel kernel) {
  const float* x = e.value(s.x, s);
  float* y = e.value(s.y, s);
  const float number = static_cast<float>(s.number);
  by_floats(e, s, s.width, [&](size_t at, size_t count) { kernel(x + at, y + at, count, number); });
}

void slice(Engine& e, const UnaryStep& s) {
  const size_t width = static_cast<size_t>(s.width), all = static_cast<size_t>(s.x_width);
  for (size_t r = 0; r < static_cast<size_t>(e.rows(s)); r++)
    copy(e.value(s.y, s) + r * width, e.value(s.x, s) + r * all + static_cast<size_t>(s.number), width * sizeof(float));
}

void select(Engine& e, const UnaryStep& s) {
  const size_t width = static_cast<size_t>(s.width);
  const float* x = reinterpret_cast<const float*>(e.arena.data) + static_cast<size_t>(s.x) * static_cast<size_t>(e.batch.rows);
  for (int i = 0; i < e.batch.outputs; i++)
    copy(e.value(s.y, s) + static_cast<size_t>(i) * width, x + static_cast<size_t>(e.batch.wanted[i]) * width, width * sizeof(float));
}

void input(Engine& e, const InputStep& s) {
  const size_t rows = static_cast<size_t>(e.batch.rows);
  copy(e.value(s.y, s), e.batch.inputs + rows * static_cast<size_t>(s.before), rows * static_cast<size_t>(s.width) * sizeof(float));
}

bool run_step(Engine& e, const Step& s) {
  switch (static_cast<Op>(static_cast<int>(s.op))) {
    case Op::embed:
      embed(e, as<EmbedStep>(s));
      return true;
    case Op::linear:
      return run_linear(e, as<LinearStep>(s));
    case Op::int8_linear:
      return run_int8(e, as<Int8Step>(s));
    case Op::norm:
      norm(e, as<NormStep>(s));
      return true;
    case Op::layer_norm:
      layer_norm(e, as<LayerNormStep>(s));
      return true;
    case Op::rotate:
      rotate(e, as<RotateStep>(s));
      return true;
    case Op::attend:
      return run_attend(e, as<AttendStep>(s));
    case Op::activate:
      activate(e, as<ActivateStep>(s));
      return true;
    case Op::add:
      binary(e, as<BinaryStep>(s), e.ops->add);
      return true;
    case Op::multiply:
      binary(e, as<BinaryStep>(s), e.ops->multiply);
      return true;
    case Op::scale:
      unary(e, as<UnaryStep>(s), e.ops->scale);
      return true;
    case Op::softcap:
      unary(e, as<UnaryStep>(s), e.ops->softcap);
      return true;
    case Op::slice:
      slice(e, as<UnaryStep>(s));
      return true;
    case Op::select:
      select(e, as<UnaryStep>(s));
      return true;
    case Op::input:
      input(e, as<InputStep>(s));
      return true;
  }
  return true;
}

/** ids, positions, slots [rows], wanted [outputs], padding to 16 numbers; for each rope cos and sin [rows, half]; the inputs [rows, width]. */
void read_batch(Engine& e, const int32_t* data, int rows, int outputs, bool decode) {
  Batch& b = e.batch;
  b.rows = rows;
  b.outputs = outputs;
  b.phase = decode ? linear::Phase::Decode : linear::Phase::Prefill;
  b.ids = data;
  b.positions = data + rows;
  b.slots = data + 2 * rows;
  b.wanted = data + 3 * rows;
  const float* table = reinterpret_cast<const float*>(data + (3 * rows + outputs + 15) / 16 * 16);
  for (int i = 0; i < e.ropes; i++) {
    const size_t size = static_cast<size_t>(rows) * static_cast<size_t>(e.rope_half[i]);
    b.cos[i] = table;
    b.sin[i] = table + size;
    table += 2 * size;
  }
  b.inputs = table;
}

bool begin(Engine& e) {
  const size_t rows = static_cast<size_t>(e.batch.rows), outputs = static_cast<size_t>(e.batch.outputs);
  return e.arena.reserve(rows * e.row_floats * sizeof(float)) && e.selected.reserve(outputs * e.selected_floats * sizeof(float)) &&
         extend_sequences(e);
}

constexpr double DONE = -1;
constexpr double NO_MEMORY = -2;

}  // namespace
}  // namespace fb

/**
 * (program, its doubles, floats a row, floats a wanted row, floats a page, threads, ropes, half of each rope ...) -> engine, 0 without
 * memory. The program stays the caller's. Kernels are those of the level in use now.
 */
FB_EXPORT double fb_engine_new(const double* args) {
  using namespace fb;
  Engine* e = static_cast<Engine*>(allocate(sizeof(Engine)));
  if (!e) return 0;
  zero(e, sizeof *e);
  e->program = pointer<const double>(args[0]);
  e->program_doubles = static_cast<size_t>(args[1]);
  e->row_floats = static_cast<size_t>(args[2]);
  e->selected_floats = static_cast<size_t>(args[3]);
  e->page_floats = static_cast<size_t>(args[4]);
  e->threads = static_cast<int>(args[5]);
  e->ropes = static_cast<int>(args[6]);
  for (int i = 0; i < e->ropes; i++) e->rope_half[i] = static_cast<int>(args[7 + i]);
  e->linear = best_linear(level());
  e->ops = op_kernels(level());
  if (e->local.reserve(linear::LOCAL_BYTES * static_cast<size_t>(e->threads))) return number(e);
  release(e);
  return 0;
}

/** (engine) */
FB_EXPORT double fb_engine_free(const double* args) {
  fb::Engine& e = *fb::pointer<fb::Engine>(args[0]);
  fb::Buffer* buffers[] = {&e.arena, &e.selected, &e.scratch, &e.local, &e.blocks};
  for (fb::Buffer* buffer : buffers) buffer->free();
  fb::free_sequences(e);
  fb::release(&e);
  return 0;
}

/**
 * (engine, batch, rows, outputs, 1 for decode, place, milliseconds): runs the program from `place` (0: begins) until that time is over.
 * -> the place to go on from, -1 when the program is done, -2 without memory.
 */
FB_EXPORT double fb_engine_run(const double* args) {
  using namespace fb;
  Engine& e = *pointer<Engine>(args[0]);
  size_t place = static_cast<size_t>(args[5]);
  use_threads(e.threads);
  read_batch(e, pointer<const int32_t>(args[1]), static_cast<int>(args[2]), static_cast<int>(args[3]), args[4] != 0);
  if (place == 0 && !begin(e)) return NO_MEMORY;
  const int64_t end = host_nanoseconds() + static_cast<int64_t>(args[6] * 1e6);
  while (place < e.program_doubles) {
    const Step& step = *reinterpret_cast<const Step*>(e.program + place);
    if (!run_step(e, step)) return NO_MEMORY;
    place += static_cast<size_t>(step.length);
    if (host_nanoseconds() > end && place < e.program_doubles) return static_cast<double>(place);
  }
  return DONE;
}

/** (engine, offset, 1 for wanted rows) -> pointer to that value after a run. */
FB_EXPORT double fb_engine_value(const double* args) {
  const fb::Engine& e = *fb::pointer<fb::Engine>(args[0]);
  fb::Step step = {0, 0, args[2]};
  return fb::number(e.value(args[1], step));
}

/** (engine, slot, length): forgets the positions from `length` on. */
FB_EXPORT double fb_engine_truncate(const double* args) {
  fb::truncate(*fb::pointer<fb::Engine>(args[0]), static_cast<int>(args[1]), static_cast<int>(args[2]));
  return 0;
}

/** (engine) -> bytes of key/value pages, values and scratch. */
FB_EXPORT double fb_engine_bytes(const double* args) {
  const fb::Engine& e = *fb::pointer<fb::Engine>(args[0]);
  const size_t buffers = e.arena.bytes + e.selected.bytes + e.scratch.bytes + e.local.bytes + e.blocks.bytes;
  return static_cast<double>(fb::cache_bytes(e) + buffers);
}
