// What the kernels need from where they run; implemented twice: native/napi/host.cc and native/wasm/host.cc.
#pragma once
#include "base.h"

namespace fb {

/** Large pages where the machine has them: a block of this size or more begins at one. */
constexpr size_t LARGE_PAGE = 2 << 20;

/** 64-byte aligned memory; null where there is none left. */
void* host_allocate(size_t bytes);
void host_release(void* block, size_t bytes);

/** Monotonic time in nanoseconds. */
int64_t host_nanoseconds();

/** The CPU this thread runs on, or -1 where it cannot be known. */
int host_cpu();

/** Sleeps while *word == expected, until woken (or spuriously). */
void host_wait(uint32_t* word, uint32_t expected);
void host_wake(uint32_t* word);

/** Starts `worker` on a new thread that keeps no process alive; false where that is impossible. In WASM the host page starts workers. */
bool host_start_worker(int index);

/** A hint to the core that this is a spin. */
FB_INLINE void host_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace fb
