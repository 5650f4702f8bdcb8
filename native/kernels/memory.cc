#include "memory.h"

#include "exports.h"
#include "host.h"

namespace fb {
namespace {

// Each block is preceded by one cache line that holds its size.
constexpr size_t LINE = 64;
size_t held = 0;

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
