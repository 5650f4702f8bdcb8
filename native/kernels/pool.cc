// One 64-bit word holds the epoch and the number of chunks left: a worker that comes late finds nothing to claim, or the next region's
// chunks, never a stale one. Waiting is a short spin, then sleep. Two rules keep a busy machine from losing (measured, 2 threads):
// - who would spin while the other side was last seen on the same CPU sleeps at once (then a spin is pure loss);
// - when regions take longer than the fastest chunk times their number, the pool stays out of the way for 20 times what was lost.
#include "pool.h"

#include "exports.h"
#include "host.h"

namespace fb {
namespace {

constexpr int64_t SPIN_NS = 30'000;          // 20-50 us: long enough for the gaps inside one step, short beside a time slice
constexpr int64_t SUDDEN_LOSS_NS = 200'000;  // one region that loses this much was preempted
constexpr int64_t SHORTEST_REST_NS = 2'000'000;
constexpr int64_t LONGEST_REST_NS = 500'000'000;
constexpr int REGIONS_JUDGED = 8;

struct Worker {
  int cpu FB_ALIGN(64);
  uint32_t busy;
};

struct {
  uint64_t word FB_ALIGN(64);  // epoch << 32 | chunks left
  uint64_t total FB_ALIGN(64);
  ChunkBody body;
  void* context;
  uint32_t done FB_ALIGN(64);
  uint32_t caller_waits;
  uint32_t signal FB_ALIGN(64);
  uint32_t sleepers;
  int caller_cpu FB_ALIGN(64);
  uint32_t owned;
  int limit;    // threads, the caller included
  int started;  // workers that exist
  int64_t rest_until;
  int64_t used, alone;  // of the regions since the last judgement
  int judged;
  Worker workers[MAX_THREADS];
} pool;

template <class T>
FB_INLINE T load(const T* from) {
  return __atomic_load_n(from, __ATOMIC_SEQ_CST);
}
template <class T>
FB_INLINE void store(T* to, T value) {
  __atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

/** Claims one chunk of the region that is open; false where there is none. */
FB_INLINE bool claim(size_t* chunk, ChunkBody* body, void** context) {
  uint64_t word = load(&pool.word);
  while (static_cast<uint32_t>(word) != 0) {
    // Fields may belong to a region being prepared only while no chunk is left; then the exchange below fails.
    const uint64_t total = load(&pool.total);
    *body = load(&pool.body);
    *context = load(&pool.context);
    if (__atomic_compare_exchange_n(&pool.word, &word, word - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      *chunk = total - static_cast<uint32_t>(word);
      return true;
    }
  }
  return false;
}

FB_INLINE void finish() {
  __atomic_fetch_add(&pool.done, 1, __ATOMIC_SEQ_CST);
  if (load(&pool.caller_waits)) host_wake(&pool.done);
}

void help(int index) {
  size_t chunk;
  ChunkBody body;
  void* context;
  Worker& self = pool.workers[index];
  while (claim(&chunk, &body, &context)) {
    store(&self.cpu, host_cpu());
    store(&self.busy, 1u);
    body(context, chunk, index);
    store(&self.busy, 0u);
    finish();
  }
}

FB_INLINE bool has_work(int index) { return index < load(&pool.limit) && static_cast<uint32_t>(load(&pool.word)) != 0; }

/** Spins for the next region; false when it is time to sleep. */
bool spin(int index) {
  if (index >= load(&pool.limit)) return false;
  const int cpu = host_cpu();
  const int64_t end = host_nanoseconds() + SPIN_NS;
  for (;;) {
    for (int i = 0; i < 64; i++) {
      if (has_work(index)) return true;
      host_pause();
    }
    if (cpu >= 0 && load(&pool.caller_cpu) == cpu) return false;
    if (host_nanoseconds() > end) return false;
  }
}

void sleep(int index) {
  __atomic_fetch_add(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
  const uint32_t seen = load(&pool.signal);
  if (!has_work(index)) host_wait(&pool.signal, seen);
  __atomic_fetch_sub(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
}

/** True where a worker inside a chunk was last seen on this CPU: it can only go on when we sleep. */
bool shares_cpu_with_busy_worker() {
  const int cpu = host_cpu();
  if (cpu < 0) return false;
  for (int i = 1; i < pool.limit; i++)
    if (load(&pool.workers[i].busy) && load(&pool.workers[i].cpu) == cpu) return true;
  return false;
}

void wait_for_all(uint32_t chunks) {
  int64_t end = 0;
  for (int i = 0; load(&pool.done) != chunks; i++) {
    host_pause();
    if (i % 64 != 63) continue;
    const int64_t now = host_nanoseconds();
    if (end == 0) end = now + SPIN_NS;
    if (now < end && !shares_cpu_with_busy_worker()) continue;
    store(&pool.caller_waits, 1u);
    for (uint32_t seen = load(&pool.done); seen != chunks; seen = load(&pool.done)) host_wait(&pool.done, seen);
    store(&pool.caller_waits, 0u);
    return;
  }
}

/** Decides from what regions cost whether sharing pays now. `alone` is what one thread would have taken. */
void judge(int64_t start, int64_t end, int64_t alone) {
  pool.used += end - start;
  pool.alone += alone;
  const int64_t sudden = end - start - alone;
  if (sudden < SUDDEN_LOSS_NS && ++pool.judged < REGIONS_JUDGED) return;
  const int64_t loss = pool.used - pool.alone;
  if (loss > 0) pool.rest_until = end + min(max(20 * loss, SHORTEST_REST_NS), LONGEST_REST_NS);
  pool.used = pool.alone = 0;
  pool.judged = 0;
}

void open_region(uint32_t chunks, ChunkBody body, void* context) {
  store(&pool.done, 0u);
  store<uint64_t>(&pool.total, chunks);
  store(&pool.body, body);
  store(&pool.context, context);
  store(&pool.caller_cpu, host_cpu());
  const uint64_t epoch = (pool.word >> 32) + 1;
  store(&pool.word, epoch << 32 | chunks);
  if (load(&pool.sleepers) == 0) return;
  __atomic_fetch_add(&pool.signal, 1, __ATOMIC_SEQ_CST);
  host_wake(&pool.signal);
}

void share(uint32_t chunks, ChunkBody body, void* context, Chunks kind) {
  const int64_t start = host_nanoseconds();
  if (start < pool.rest_until) {
    for (uint32_t i = 0; i < chunks; i++) body(context, i, 0);
    return;
  }
  open_region(chunks, body, context);
  int64_t fastest = INT64_MAX;
  int64_t before = start;
  size_t chunk;
  while (claim(&chunk, &body, &context)) {
    body(context, chunk, 0);
    const int64_t now = host_nanoseconds();
    fastest = min(fastest, now - before);
    before = now;
    finish();
  }
  wait_for_all(chunks);
  if (kind == Chunks::even && fastest != INT64_MAX) judge(start, host_nanoseconds(), fastest * chunks);
}

}  // namespace

int threads() { return max(pool.limit, 1); }

void use_threads(int count) { store(&pool.limit, min(count, pool.started + 1)); }

void parallel(size_t chunks, ChunkBody body, void* context, Chunks kind) {
  uint32_t free = 0;
  const bool shared = chunks > 1 && pool.limit > 1 &&
                      __atomic_compare_exchange_n(&pool.owned, &free, 1u, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  if (!shared) {
    for (size_t i = 0; i < chunks; i++) body(context, i, 0);
    return;
  }
  share(static_cast<uint32_t>(chunks), body, context, kind);
  store(&pool.owned, 0u);
}

void work(int index) {
  for (;;) {
    if (has_work(index)) help(index);
    if (!spin(index)) sleep(index);
  }
}

}  // namespace fb

/** (threads) -> threads that regions will use; workers that are missing are started. */
FB_EXPORT double fb_set_threads(const double* args) {
  using namespace fb;
  const int wanted = min(max(static_cast<int>(args[0]), 1), MAX_THREADS);
  while (pool.started < wanted - 1 && host_start_worker(pool.started + 1)) pool.started++;
  store(&pool.limit, min(wanted, pool.started + 1));
  return pool.limit;
}

/** (index): the life of a worker, for hosts that start threads themselves. Never returns. */
FB_EXPORT double fb_worker(const double* args) {
  fb::work(static_cast<int>(args[0]));
  return 0;
}

/** (regions, chunks) -> regions whose chunks did not each run exactly once; 0 is right. */
FB_EXPORT double fb_pool_self_test(const double* args) {
  static uint32_t counts[256];
  const size_t chunks = fb::min<size_t>(static_cast<size_t>(args[1]), 256);
  int wrong = 0;
  for (int region = 0; region < static_cast<int>(args[0]); region++) {
    fb::zero(counts, sizeof counts);
    fb::parallel(chunks, [](size_t chunk, int) { __atomic_fetch_add(&counts[chunk], 1, __ATOMIC_SEQ_CST); });
    for (size_t i = 0; i < chunks; i++) {
      if (counts[i] == 1) continue;
      wrong++;
      break;
    }
  }
  return wrong;
}
