// Speed: best of many passes of a product over copies of a weight that together exceed the caches, beside a plain read of the same bytes.
#pragma once
#include <time.h>

#include "machine.h"

/** CPU seconds of this thread: other processes take the core away, but not these seconds. */
inline double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

inline uint64_t probe(const uint8_t* bytes, size_t count) {
  typedef uint64_t V __attribute__((vector_size(16)));
  V sum[8] = {};
  for (size_t i = 0; i + 128 <= count; i += 128) {
    __builtin_prefetch(bytes + i + 2048), __builtin_prefetch(bytes + i + 2112);
    for (int j = 0; j < 8; j++) sum[j] += *(const V*)(bytes + i + j * 16);
  }
  uint64_t total = 0;
  for (auto& s : sum) total += s[0] + s[1];
  return total;
}

struct Timing {
  std::string filter, level;
  Random random{5};
  Bytes local = aligned(fb::linear::LOCAL_BYTES);
  volatile uint64_t sink = 0;

  /** Best seconds of products with copies of the weight that together have `size` bytes at least, and of a read of them. */
  struct Best {
    double product, read, bytes;
    const char* kernel;
  };
  Best best_of(const Case& c, const fb::linear::Kernels& kernels, fb::linear::Mode mode, int rows, size_t size, int passes, bool integers = false) {
    using namespace fb::linear;
    const Tiled t = tiled(c);
    const size_t bytes = tile_bytes(t.weight);
    const int copies = (int)std::max<size_t>(1, size / bytes);
    std::vector<Bytes> tiles;
    std::vector<Weight> weights(copies, t.weight);
    for (int i = 0; i < copies; i++) {
      tiles.push_back(aligned(bytes));
      memcpy(tiles[i].get(), t.bytes.get(), bytes);
      weights[i].tile = tiles[i].get();
    }
    std::vector<float> x((size_t)rows * c.source.k), y((size_t)rows * c.source.n);
    for (auto& v : x) v = random.normal();
    Call call{&t.weight, rows, x.data(), c.source.k, y.data(), c.source.n, nullptr, nullptr, 0, 0, mode, Phase::Decode, nullptr, nullptr, nullptr};
    std::vector<int8_t> x8((size_t)rows * c.source.k, 3);
    std::vector<int32_t> y8(y.size());
    if (integers) call.x8 = x8.data(), call.y8 = y8.data();
    Bytes scratch = aligned(kernels.scratch_bytes(call));
    call.scratch = scratch.get();
    Best best{1e9, 1e9, (double)bytes * copies, kernels.kernel(call)};
    for (int pass = 0; pass < passes; pass++) {
      double start = now();
      for (auto& w : weights) {
        call.weight = &w;
        kernels.prepare(call, 0, rows);
        kernels.compute(call, 0, w.panels, local.get());
      }
      best.product = std::min(best.product, now() - start);
      start = now();
      for (auto& w : weights) sink = sink + probe(w.tile, bytes);
      best.read = std::min(best.read, now() - start);
    }
    return best;
  }

  void decode(const Case& c, const fb::linear::Kernels& kernels, fb::linear::Mode mode, int rows) {
    const Best best = best_of(c, kernels, mode, rows, 128 << 20, 8);
    printf("%-8s %-26s %5d x %-5d m=%d %-5s %-16s %7.2f GB/s  %.2f of read (%.1f)\n", kernels.name, c.name.c_str(), c.source.n, c.source.k, rows,
           mode == fb::linear::Mode::Exact ? "exact" : "fast", best.kernel, best.bytes / best.product * 1e-9, best.read / best.product, best.bytes / best.read * 1e-9);
    fflush(stdout);
  }

  /** One row: from memory, where reading should be all, and from the second cache, where instructions are. */
  void one_row(const Case& c, bool integers = false) {
    if (c.name.find(filter) == std::string::npos) return;
    const auto mode = c.source.scheme == fb::linear::Scheme::Additive ? fb::linear::Mode::Fastest : fb::linear::Mode::Fast;
    for (auto* kernels : levels()) {
      if (!level.empty() && level != kernels->name) continue;
      const Best memory = best_of(c, *kernels, mode, 1, 128 << 20, 6, integers), cache = best_of(c, *kernels, mode, 1, 1, 3000, integers);
      printf("%-8s %-28s %5d x %-5d %-14s %6.1f GB/s of %.1f from memory, %6.1f from cache\n", kernels->name, c.name.c_str(), c.source.n, c.source.k,
             memory.kernel, memory.bytes / memory.product * 1e-9, memory.bytes / memory.read * 1e-9, cache.bytes / cache.product * 1e-9);
      fflush(stdout);
    }
  }

  void prefill(const Case& c, const fb::linear::Kernels& kernels, fb::linear::Mode mode, int rows) {
    using namespace fb::linear;
    const Tiled t = tiled(c);
    std::vector<float> x((size_t)rows * c.source.k), y((size_t)rows * c.source.n);
    for (auto& v : x) v = random.normal();
    Call call{&t.weight, rows, x.data(), c.source.k, y.data(), c.source.n, nullptr, nullptr, 0, 0, mode, Phase::Prefill, nullptr, nullptr, nullptr};
    Bytes scratch = aligned(kernels.scratch_bytes(call));
    call.scratch = scratch.get();
    double best = 1e9;
    const double work = 2.0 * rows * c.source.n * c.source.k;
    for (int pass = 0; pass < std::max(2, (int)(1e10 / work)); pass++) {
      const double start = now();
      kernels.prepare(call, 0, rows);
      kernels.compute(call, 0, t.weight.panels, local.get());
      best = std::min(best, now() - start);
    }
    printf("%-8s %-26s %5d x %-5d m=%-4d %-5s %-16s %7.1f GFLOP/s\n", kernels.name, c.name.c_str(), c.source.n, c.source.k, rows,
           mode == Mode::Exact ? "exact" : "fast", kernels.kernel(call), work / best * 1e-9);
    fflush(stdout);
  }

  /** The integer product of LLM.int8, beside a read of the same bytes. */
  void integers(const Case& c, const fb::linear::Kernels& kernels, int rows) {
    using namespace fb::linear;
    const Tiled t = tiled(c);
    const size_t bytes = tile_bytes(t.weight);
    std::vector<int8_t> x((size_t)rows * c.source.k, 3);
    std::vector<int32_t> y((size_t)rows * c.source.n);
    Call call{};
    call.weight = &t.weight, call.rows = rows, call.ldx = c.source.k, call.ldy = c.source.n, call.x8 = x.data(), call.y8 = y.data();
    double best = 1e9, read = 1e9;
    for (int pass = 0; pass < 20; pass++) {
      double start = now();
      kernels.compute(call, 0, t.weight.panels, local.get());
      best = std::min(best, now() - start);
      start = now();
      sink = sink + probe(t.weight.tile, bytes);
      read = std::min(read, now() - start);
    }
    printf("%-8s %-26s %5d x %-5d m=%-4d integers %7.2f GB/s  %.2f of read, %.1f GOP/s\n", kernels.name, c.name.c_str(), c.source.n, c.source.k, rows,
           bytes / best * 1e-9, read / best, 2.0 * rows * c.source.n * c.source.k / best * 1e-9);
  }

  void all(const Case& c) {
    if (c.name.find(filter) == std::string::npos) return;
    for (auto* kernels : levels()) {
      if (levels().size() > 1 && kernels == levels()[0] && filter.empty()) continue;
      for (auto mode : {fb::linear::Mode::Exact, fb::linear::Mode::Fast}) {
        for (int rows : {1, 2, 4, 8}) {
          if (rows == 1 || c.source.n == 4096) decode(c, *kernels, mode, rows);
        }
        if (c.source.n < 40000) prefill(c, *kernels, mode, 128);
      }
      if (c.source.bits == 8 && c.source.group == c.source.k) {
        for (int rows : {1, 128}) integers(c, *kernels, rows);
      }
    }
  }
};

inline void time_all(const std::string& filter) {
  using fb::linear::Scheme;
  using fb::linear::Zero;
  Timing timing;
  timing.filter = filter;
  Random random{3};
  static const int SHAPES[][2] = {{1536, 576}, {576, 1536}, {4096, 4096}};
  for (auto [n, k] : SHAPES) {
    timing.all(dense_case(random, n, k, Scheme::DenseBF16));
    timing.all(affine_case(random, n, k, 4, 32, Zero::Constant, Store::F16));
    timing.all(affine_case(random, n, k, 4, 64, Zero::Point, Store::F16));
    timing.all(affine_case(random, n, k, 4, 32, Zero::Shift, Store::F16));
    timing.all(lookup_case(random, n, k, 64, Store::F32));
    timing.all(affine_case(random, n, k, 8, 32, Zero::Constant, Store::F16));
    timing.all(affine_case(random, n, k, 8, 64, Zero::Point, Store::F16));
    timing.all(affine_case(random, n, k, 8, k, Zero::Constant, Store::F32));
    if (n < 4096) continue;
    for (auto s : {Scheme::Q4_K, Scheme::Q5_K, Scheme::Q6_K}) timing.all(superblock_case(random, n, k, s));
    for (int bits : {1, 2, 3, 5, 6, 7}) timing.all(affine_case(random, n, k, bits, 64, Zero::Point, Store::F16));
  }
  timing.all(affine_case(random, 49152, 576, 8, 32, Zero::Constant, Store::F16));
}

/** Decoding with what SmolLM2-135M's linears look like. */
inline void time_one_row(const std::string& filter, const std::string& level) {
  using fb::linear::Scheme;
  using fb::linear::Zero;
  Timing timing;
  timing.filter = filter, timing.level = level;
  Random random{3};
  static const int SHAPES[][2] = {{1536, 576}, {576, 1536}};
  for (auto [n, k] : SHAPES) {
    timing.one_row(dense_case(random, n, k, Scheme::DenseBF16));
    timing.one_row(affine_case(random, n, k, 4, 32, Zero::Constant, Store::F16));
    timing.one_row(affine_case(random, n, k, 4, 64, Zero::Point, Store::F16));
    timing.one_row(affine_case(random, n, k, 2, 64, Zero::Shift, Store::BF16));
    timing.one_row(affine_case(random, n, k, 8, 32, Zero::Constant, Store::F16));
    for (bool integers : {false, true}) timing.one_row(affine_case(random, n, k, 8, k, Zero::Constant, Store::F32), integers);
    timing.one_row(lookup_case(random, n, k, 64, Store::F32));
    timing.one_row(additive_case(random, n, k, 2, 8));
    if (k % 256) continue;
    for (auto s : {Scheme::Q2_K, Scheme::Q4_K, Scheme::Q5_K, Scheme::Q6_K}) timing.one_row(superblock_case(random, n, k, s));
  }
}
