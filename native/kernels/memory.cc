#include "memory.h"

#include "exports.h"
#include "host.h"

namespace fb {
namespace {

// Each block is preceded by one cache line that holds its size.
constexpr size_t LINE = 64;
size_t held = 0;

/** Lasting blocks of one allocation; it is given back when the last of them is. */
struct Slab {
  size_t used;
  size_t live;
};
#ifdef __wasm__
constexpr size_t SLAB_BYTES = 0;  // no large pages, and an address space to be saved
#else
constexpr size_t SLAB_BYTES = 16 * LARGE_PAGE - LINE;
#endif
Slab* open_slab = nullptr;
uint32_t slabs_locked = 0;

struct SlabLock {
  SlabLock() {
    while (__atomic_exchange_n(&slabs_locked, 1u, __ATOMIC_ACQUIRE)) host_pause();
  }
  ~SlabLock() { __atomic_store_n(&slabs_locked, 0u, __ATOMIC_RELEASE); }
};

/** Room for `bytes` in the open slab, or in a new one; null without memory. */
char* from_slab(size_t bytes, Slab** slab) {
  if (!open_slab || open_slab->used + bytes > SLAB_BYTES) {
    Slab* next = static_cast<Slab*>(allocate(SLAB_BYTES));
    if (!next) return nullptr;
    *next = {LINE, 0};
    open_slab = next;
  }
  char* at = reinterpret_cast<char*>(open_slab) + open_slab->used;
  open_slab->used += bytes;
  open_slab->live++;
  *slab = open_slab;
  return at;
}

}  // namespace

void* allocate(size_t bytes) {
  if (bytes > SIZE_MAX - 2 * LINE) return nullptr;
  const size_t total = (bytes + LINE - 1) / LINE * LINE + LINE;
  char* base = static_cast<char*>(host_allocate(total));
  if (!base) return nullptr;
  *reinterpret_cast<size_t*>(base) = total;
  __atomic_fetch_add(&held, total, __ATOMIC_RELAXED);
  return base + LINE;
}

void release(void* block) {
  if (!block) return;
  char* base = static_cast<char*>(block) - LINE;
  const size_t total = *reinterpret_cast<size_t*>(base);
  __atomic_fetch_sub(&held, total, __ATOMIC_RELAXED);
  host_release(base, total);
}

// A lasting block is preceded by one cache line that names its slab, null where it has an allocation of its own.

void* allocate_lasting(size_t bytes) {
  if (bytes > SIZE_MAX - 4 * LINE) return nullptr;
  const size_t total = (bytes + LINE - 1) / LINE * LINE + LINE;
  Slab* slab = nullptr;
  char* base;
  if (total > SLAB_BYTES / 4) {
    base = static_cast<char*>(allocate(total));
  } else {
    SlabLock lock;
    base = from_slab(total, &slab);
  }
  if (!base) return nullptr;
  *reinterpret_cast<Slab**>(base) = slab;
  return base + LINE;
}

void release_lasting(void* block) {
  if (!block) return;
  char* base = static_cast<char*>(block) - LINE;
  Slab* slab = *reinterpret_cast<Slab**>(base);
  if (!slab) return release(base);
  SlabLock lock;
  if (--slab->live != 0) return;
  if (slab == open_slab) open_slab = nullptr;
  release(slab);
}

}  // namespace fb

/** (bytes) -> pointer, 0 where memory is exhausted. */
FB_EXPORT double fb_alloc(const double* args) { return fb::number(fb::allocate(static_cast<size_t>(args[0]))); }

/** (pointer) */
FB_EXPORT double fb_free(const double* args) {
  fb::release(fb::pointer<void>(args[0]));
  return 0;
}

/** () -> bytes held by all blocks. */
FB_EXPORT double fb_allocated(const double*) { return static_cast<double>(__atomic_load_n(&fb::held, __ATOMIC_RELAXED)); }

/** (pointer, bytes) */
FB_EXPORT double fb_zero(const double* args) {
  fb::zero(fb::pointer<void>(args[0]), static_cast<size_t>(args[1]));
  return 0;
}
