// Fork-join: `parallel(chunks, body)` runs body(chunk, worker) for every chunk on the calling thread and the pool's workers, and
// returns when all are done. Chunks are taken one by one from a counter, so results must not depend on who runs which; a body must
// not allocate. Inside a body (or while another host thread uses the pool) parallel() runs everything on the calling thread.
#pragma once
#include "base.h"

namespace fb {

/** Threads at most, the caller included. */
constexpr int MAX_THREADS = 64;

enum class Chunks {
  /** Chunks take about the same time: the pool may judge by the fastest whether sharing pays at all. */
  even,
  uneven,
};

using ChunkBody = void (*)(void* context, size_t chunk, int worker);

void parallel(size_t chunks, ChunkBody body, void* context, Chunks kind);

template <class T>
struct Plain {
  using type = T;
};
template <class T>
struct Plain<T&> {
  using type = T;
};

/** `body(size_t chunk, int worker)`; worker is 0 (the caller) .. threads() - 1. */
template <class Body>
FB_INLINE void parallel(size_t chunks, Body&& body, Chunks kind = Chunks::even) {
  using Closure = typename Plain<Body>::type;
  parallel(
      chunks, [](void* context, size_t chunk, int worker) { (*static_cast<Closure*>(context))(chunk, worker); },
      const_cast<void*>(static_cast<const void*>(&body)), kind);
}

/** Threads that share a region at most. */
int threads();

/** Lets regions use up to `count` of the threads that exist. */
void use_threads(int count);

/** The life of worker `index` (1 ..): never returns. Called on its own thread. */
void work(int index);

}  // namespace fb
