// What this machine can run, aligned memory, and one call of a product as a single thread makes it.
#pragma once
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "cases.h"

struct Free {
  void operator()(void* p) const { free(p); }
};
using Bytes = std::unique_ptr<uint8_t[], Free>;
/** In large pages where there are some, as the engine keeps its weights. */
inline Bytes aligned(size_t bytes) {
  constexpr size_t PAGE = 2 << 20;
  const size_t whole = (bytes + 4096 + PAGE - 1) / PAGE * PAGE;
  uint8_t* block = (uint8_t*)aligned_alloc(PAGE, whole);
#ifdef __linux__
  madvise(block, whole, MADV_HUGEPAGE);
#endif
  return Bytes(block);
}

inline std::vector<const fb::linear::Kernels*> levels() {
  using namespace fb;
  std::vector<const fb::linear::Kernels*> found{fb::linear::kernels_of(LEVEL_SCALAR)};
#ifdef __x86_64__
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  if (avx2) found.push_back(fb::linear::kernels_of(LEVEL_AVX2));
  if (avx512) found.push_back(fb::linear::kernels_of(LEVEL_AVX512));
#endif
  std::erase(found, nullptr);
  return found;
}

struct Tiled {
  fb::linear::Weight weight;
  Bytes bytes;
};

inline Tiled tiled(const Case& c) {
  Tiled t{fb::linear::describe(c.source), nullptr};
  t.bytes = aligned(fb::linear::tile_bytes(t.weight));
  t.weight.tile = t.bytes.get();
  fb::linear::tile(c.source, t.weight, t.bytes.get(), 0, t.weight.panels);
  return t;
}

/** The call as the engine makes it: all rows prepared, then panels in pieces of `piece`. */
inline void run(const fb::linear::Kernels& kernels, fb::linear::Call& call, int piece) {
  static Bytes local = aligned(fb::linear::LOCAL_BYTES);
  Bytes scratch = aligned(kernels.scratch_bytes(call));
  call.scratch = scratch.get();
  kernels.prepare(call, 0, call.rows);
  for (int p = 0; p < call.weight->panels; p += piece) kernels.compute(call, p, std::min(call.weight->panels, p + piece), local.get());
}
