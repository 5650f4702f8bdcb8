// The kernels' host in Node: memory of the C library, POSIX threads, futexes on Linux.
#include "../kernels/host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "../kernels/pool.h"
#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <atomic>
#endif

namespace fb {

void* host_allocate(size_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, bytes < LARGE_PAGE ? 64 : LARGE_PAGE, bytes) != 0) return nullptr;
#if defined(__linux__)
  // A weight is read once a token, page after page: small pages cost a fifth of the speed. Where it is refused nothing changes.
  if (bytes >= LARGE_PAGE) madvise(block, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#endif
  return block;
}

void host_release(void* block, size_t) { free(block); }

int64_t host_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

#if defined(__linux__)

int host_cpu() { return sched_getcpu(); }

void host_wait(uint32_t* word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void host_wake(uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, MAX_THREADS, nullptr, nullptr, 0); }

#else

int host_cpu() { return -1; }

void host_wait(uint32_t* word, uint32_t expected) { reinterpret_cast<std::atomic<uint32_t>*>(word)->wait(expected); }

void host_wake(uint32_t* word) { reinterpret_cast<std::atomic<uint32_t>*>(word)->notify_all(); }

#endif

namespace {

void* run_worker(void* index) {
  work(static_cast<int>(reinterpret_cast<intptr_t>(index)));
  return nullptr;
}

/** Workers outlive the JavaScript thread that loaded the addon: its code must never be unmapped under them. */
void stay_loaded() {
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&run_worker), &self)) dlopen(self.dli_fname, RTLD_LAZY | RTLD_NODELETE);
}

}  // namespace

bool host_start_worker(int index) {
  if (index == 1) stay_loaded();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, run_worker, reinterpret_cast<void*>(static_cast<intptr_t>(index)));
  pthread_attr_destroy(&attributes);
  return failed == 0;
}

}  // namespace fb
