// One compiled model on this side: its program, the arenas of values, the caches of its sequences. Everything is allocated between
// steps by the host's thread; a decode step in the steady state allocates nothing.
#pragma once
#include "../base.h"
#include "../linear/linear.h"
#include "../ops/ops.h"
#include "../pool.h"
#include "steps.h"

namespace fb {

constexpr int MAX_ROPES = 8;

/** A tiled weight and the memory of its tile. `source` is valid only until tiling is done. */
struct PreparedWeight {
  linear::Source source;
  linear::Weight weight;
  uint8_t* tile;
};

/** A block that grows; its content is lost when it does. */
struct Buffer {
  char* data;
  size_t bytes;
  /** False where memory is exhausted. */
  bool reserve(size_t wanted);
  void free();
};

/** Keys and values of one sequence: pages of PAGE_POSITIONS positions, all layers of a position together. */
struct Sequence {
  float** pages;
  int count, capacity;
};

struct Batch {
  int rows, outputs;
  linear::Phase phase;
  const int32_t* ids;
  const int32_t* positions;
  const int32_t* slots;
  const int32_t* wanted;
  const float* cos[MAX_ROPES];
  const float* sin[MAX_ROPES];
  const float* inputs;
};

struct Engine {
  const double* program;
  size_t program_doubles;
  size_t row_floats, selected_floats;  // arenas, floats a row
  size_t page_floats;
  int threads;
  int ropes;
  int rope_half[MAX_ROPES];
  const linear::Kernels* linear;
  const OpKernels* ops;
  Buffer arena, selected, scratch, local, blocks;
  Sequence* sequences;
  int sequence_count;
  Batch batch;

  FB_INLINE float* value(double offset, const Step& step) const {
    return step.selected != 0 ? at(selected, offset, batch.outputs) : at(arena, offset, batch.rows);
  }
  FB_INLINE int rows(const Step& step) const { return step.selected != 0 ? batch.outputs : batch.rows; }
  FB_INLINE uint8_t* local_of(int worker) const {
    return reinterpret_cast<uint8_t*>(local.data) + linear::LOCAL_BYTES * static_cast<size_t>(worker);
  }

 private:
  FB_INLINE static float* at(const Buffer& arena, double offset, int rows) {
    return reinterpret_cast<float*>(arena.data) + static_cast<size_t>(offset) * static_cast<size_t>(rows);
  }
};

/** The linear kernels of a level, or the best below it that this build has. */
FB_INLINE const linear::Kernels* best_linear(Level level) {
  for (int i = level; i > LEVEL_SCALAR; i--)
    if (const linear::Kernels* found = linear::kernels_of(static_cast<Level>(i))) return found;
  return linear::kernels_of(LEVEL_SCALAR);
}

// Each returns false where memory is exhausted.
bool run_linear(Engine& engine, const LinearStep& step);
bool run_int8(Engine& engine, const Int8Step& step);
bool run_attend(Engine& engine, const AttendStep& step);

/** Gives every sequence of the batch the pages that its positions need. */
bool extend_sequences(Engine& engine);
void truncate(Engine& engine, int slot, int length);
void free_sequences(Engine& engine);
size_t cache_bytes(const Engine& engine);

/** Runs body(first row, rows) over `rows` rows: at once where there are few, else shared in pieces of `piece`. */
template <class Body>
FB_INLINE void by_rows(int rows, int piece, Body&& body) {
  if (rows <= piece) return body(0, rows);
  const size_t chunks = static_cast<size_t>((rows + piece - 1) / piece);
  parallel(chunks, [&](size_t chunk, int) {
    const int from = static_cast<int>(chunk) * piece;
    body(from, min(piece, rows - from));
  });
}

}  // namespace fb
