// The kernels' host in WASM: an allocator on the imported memory, the threads proposal's wait and notify, and the host page's clock.
#include "../kernels/host.h"

#include "../kernels/exports.h"

extern "C" unsigned char __heap_base;
extern "C" __attribute__((import_module("env"), import_name("now"))) double fb_host_now();  // milliseconds

namespace fb {
namespace {

constexpr size_t PAGE = 65536;
constexpr size_t LINE = 64;

/** Free blocks in order of address, neighbours joined; first fit. Blocks are whole cache lines. */
struct Hole {
  size_t bytes;
  Hole* next;
};
Hole* holes = nullptr;
uintptr_t top = 0;

void* from_holes(size_t bytes) {
  for (Hole** link = &holes; *link; link = &(*link)->next) {
    Hole* hole = *link;
    if (hole->bytes < bytes) continue;
    if (hole->bytes == bytes) {
      *link = hole->next;
    } else {
      Hole* rest = reinterpret_cast<Hole*>(reinterpret_cast<char*>(hole) + bytes);
      rest->bytes = hole->bytes - bytes;
      rest->next = hole->next;
      *link = rest;
    }
    return hole;
  }
  return nullptr;
}

void* from_top(size_t bytes) {
  if (top == 0) top = (reinterpret_cast<uintptr_t>(&__heap_base) + LINE - 1) / LINE * LINE;
  const uint64_t end = static_cast<uint64_t>(top) + bytes;
  const uint64_t have = static_cast<uint64_t>(__builtin_wasm_memory_size(0)) * PAGE;
  if (end > have) {
    const uint64_t pages = (end - have + PAGE - 1) / PAGE;
    if (end > 0xffff0000ull || __builtin_wasm_memory_grow(0, pages) == static_cast<size_t>(-1)) return nullptr;
  }
  void* block = reinterpret_cast<void*>(top);
  top = static_cast<uintptr_t>(end);
  return block;
}

/** Joins `hole` with the one that begins where it ends. */
void join(Hole* hole) {
  if (reinterpret_cast<char*>(hole) + hole->bytes != reinterpret_cast<char*>(hole->next)) return;
  hole->bytes += hole->next->bytes;
  hole->next = hole->next->next;
}

}  // namespace

void* host_allocate(size_t bytes) {
  void* block = from_holes(bytes);
  return block ? block : from_top(bytes);
}

void host_release(void* block, size_t bytes) {
  Hole* hole = static_cast<Hole*>(block);
  Hole* before = nullptr;
  Hole* after = holes;
  while (after && after < hole) {
    before = after;
    after = after->next;
  }
  hole->bytes = bytes;
  hole->next = after;
  (before ? before->next : holes) = hole;
  if (after) join(hole);
  if (before) join(before);
}

int64_t host_nanoseconds() { return static_cast<int64_t>(fb_host_now() * 1e6); }

int host_cpu() { return -1; }

void host_wait(uint32_t* word, uint32_t expected) {
  __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(word), static_cast<int>(expected), -1);
}

void host_wake(uint32_t* word) { __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(word), ~0u); }

// The page starts workers before it calls fb_set_threads, and says how many by fb_workers.
static int offered = 0;
bool host_start_worker(int index) { return index <= offered; }

}  // namespace fb

extern "C" {

/** Where the page writes the numbers of a call. */
__attribute__((export_name("fb_arguments"))) double* fb_arguments() {
  static double arguments[64];
  return arguments;
}

/** (workers that the page has started). */
__attribute__((export_name("fb_offer_workers"))) double fb_offer_workers(const double* args) {
  fb::offered = static_cast<int>(args[0]);
  return 0;
}
}
