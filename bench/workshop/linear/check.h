// Correctness: error as a fraction of the outputs' span, equality of bits over pieces and rows.
#pragma once
#include "machine.h"

struct Limits {
  double exact = 1e-6, fast = 2e-2;
};

struct Checker {
  bool good = true;
  Random random{7};

  void fail(const Case& c, const char* level, const char* what, double got, double limit) {
    printf("WRONG  %-8s %-34s %s: %.3g (limit %.3g)\n", level, c.name.c_str(), what, got, limit);
    good = false;
  }

  std::vector<float> activations(int rows, int k) {
    std::vector<float> x((size_t)rows * k);
    for (auto& v : x) v = random.normal() * (random.below(512) ? 1.f : 30.f);
    return x;
  }

  /** [rows, n] in double, and the span of all outputs. */
  std::vector<double> truth(const Case& c, const std::vector<float>& x, int rows, double& span) {
    const int n = c.source.n, k = c.source.k;
    std::vector<double> y((size_t)rows * n), w(k);
    double low = 1e300, high = -1e300;
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < k; i++) w[i] = element_of(c, j, i);
      for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int i = 0; i < k; i++) sum += w[i] * x[(size_t)r * k + i];
        y[(size_t)r * n + j] = sum;
        low = std::min(low, sum), high = std::max(high, sum);
      }
    }
    span = high - low;
    return y;
  }

  void product(const Case& c, const fb::linear::Kernels& kernels, const Tiled& t, const std::vector<float>& x, int rows, const std::vector<double>& want,
               double span, fb::linear::Mode mode, fb::linear::Phase phase) {
    const int n = c.source.n, k = c.source.k;
    std::vector<float> bias(n), residual((size_t)rows * n), y((size_t)rows * n, NAN), again((size_t)rows * n, NAN);
    for (auto& v : bias) v = random.normal();
    for (auto& v : residual) v = random.normal();
    fb::linear::Call call{&t.weight, rows, x.data(), k, y.data(), n, nullptr, nullptr, n, 0, mode, phase, nullptr, nullptr, nullptr};
    run(kernels, call, t.weight.panels);
    double error = 0;
    for (size_t i = 0; i < y.size(); i++) {
      const double e = std::fabs(y[i] - want[i]) / span;
      if (!(e <= error)) error = e;
    }
    const bool dense = c.source.scheme <= fb::linear::Scheme::DenseBF16;
    const double limit = mode == fb::linear::Mode::Exact || dense ? Limits().exact : Limits().fast;
    const std::string what = std::string(mode == fb::linear::Mode::Exact ? "exact " : "fast ") + (phase == fb::linear::Phase::Decode ? "decode" : "prefill") + " rows " + std::to_string(rows);
    if (!(error <= limit)) fail(c, kernels.name, (what + " error").c_str(), error, limit);
    worst = std::max(worst, mode == fb::linear::Mode::Exact ? error : 0), worst_fast = std::max(worst_fast, mode == fb::linear::Mode::Fast ? error : 0);

    call.y = again.data();
    run(kernels, call, 1);
    if (memcmp(y.data(), again.data(), y.size() * 4)) fail(c, kernels.name, (what + " depends on pieces").c_str(), 1, 0);

    if (phase == fb::linear::Phase::Decode && rows > 1) {
      for (int r = 0; r < rows; r++) {
        fb::linear::Call one = call;
        one.rows = 1, one.x = x.data() + (size_t)r * k, one.y = again.data() + (size_t)r * n;
        run(kernels, one, 3);
      }
      if (memcmp(y.data(), again.data(), y.size() * 4)) fail(c, kernels.name, (what + " depends on rows").c_str(), 1, 0);
    }
    call.bias = bias.data(), call.residual = residual.data(), call.y = again.data();
    run(kernels, call, 2);
    for (int i = 0; i < rows * n; i++) {
      const float expected = y[i] + bias[i % n] + residual[i];
      if (!(std::fabs(again[i] - expected) <= 1e-6f * (1 + std::fabs(expected)))) {
        fail(c, kernels.name, (what + " bias and residual").c_str(), again[i], expected);
        break;
      }
    }
  }

  void integers(const Case& c, const fb::linear::Kernels& kernels, const Tiled& t, int rows) {
    const int n = c.source.n, k = c.source.k, ldx = (k + 31) / 32 * 32;
    std::vector<int8_t> x((size_t)rows * ldx);
    for (auto& v : x) v = (int8_t)((int)random.below(255) - 127);
    std::vector<int32_t> y((size_t)rows * n);
    fb::linear::Call call{};
    call.weight = &t.weight, call.rows = rows, call.ldx = ldx, call.ldy = n, call.x8 = x.data(), call.y8 = y.data();
    run(kernels, call, 2);
    for (int r = 0; r < rows; r++) {
      for (int j = 0; j < n; j++) {
        int32_t sum = 0;
        for (int i = 0; i < k; i++) sum += x[(size_t)r * ldx + i] * ((int)c.data[(size_t)j * k + i] - (int)c.source.zero_point);
        if (sum != y[(size_t)r * n + j]) return fail(c, kernels.name, "int8 product", y[(size_t)r * n + j], sum);
      }
    }
  }

  void rows_of(const Case& c, const Tiled& t) {
    std::vector<float> row(c.source.k);
    for (int j : {0, c.source.n / 2, c.source.n - 1}) {
      fb::linear::decode_row(t.weight, j, row.data());
      for (int i = 0; i < c.source.k; i++) {
        const double want = element_of(c, j, i);
        // Two roundings of intermediate values that may be larger than the result.
        if (!(std::fabs(row[i] - want) <= 1e-6 * (std::fabs(want) + 1))) return fail(c, "-", "decoded row", row[i], want);
      }
    }
  }

  double worst = 0, worst_fast = 0;

  void weight(const Case& c) {
    const Tiled t = tiled(c);
    rows_of(c, t);
    const int most = 13;
    const std::vector<float> x = activations(most, c.source.k);
    double span;
    const std::vector<double> want = truth(c, x, most, span);
    for (auto* kernels : levels()) {
      worst = worst_fast = 0;
      for (auto mode : {fb::linear::Mode::Exact, fb::linear::Mode::Fast}) {
        for (int rows : {1, 2, 3, 5, 8}) product(c, *kernels, t, x, rows, want, span, mode, fb::linear::Phase::Decode);
        for (int rows : {1, 4, 13}) product(c, *kernels, t, x, rows, want, span, mode, fb::linear::Phase::Prefill);
      }
      const auto& s = c.source;
      if (s.scheme == fb::linear::Scheme::Affine && s.bits == 8 && s.group == s.k && s.zero == fb::linear::Zero::Constant) {
        for (int rows : {1, 2, 7, 13}) integers(c, *kernels, t, rows);
      }
      printf("ok     %-8s %-34s %4d x %-5d exact %.1e  fast %.1e\n", kernels->name, c.name.c_str(), s.n, s.k, worst, worst_fast);
    }
  }
};

inline bool check() {
  using fb::linear::Scheme;
  using fb::linear::Zero;
  Checker checker;
  Random random{3};
  for (auto s : {Scheme::DenseF32, Scheme::DenseF16, Scheme::DenseBF16}) {
    checker.weight(dense_case(random, 80, 576, s));
    checker.weight(dense_case(random, 37, 333, s));
  }
  for (int bits = 1; bits <= 8; bits++) {
    checker.weight(affine_case(random, 80, 576, bits, 32, Zero::Constant, Store::F16));
    checker.weight(affine_case(random, 72, 640, bits, 64, Zero::Point, Store::F16));
    checker.weight(affine_case(random, 41, 768, bits, 128, Zero::Shift, Store::BF16));
    checker.weight(affine_case(random, 41, 768, bits, 96, Zero::Point, Store::F32));
    checker.weight(affine_case(random, 33, 700, bits, 700, Zero::Constant, Store::F32));
    checker.weight(affine_case(random, 33, 576, bits, 16, Zero::Point, Store::F32));
    checker.weight(affine_case(random, 48, 4096, bits, 4096, Zero::Constant, Store::F32));
  }
  for (int group : {32, 64, 256, 576}) checker.weight(lookup_case(random, 50, group == 256 ? 768 : 576, group, group == 32 ? Store::F16 : Store::F32));
  for (auto s : {Scheme::Q2_K, Scheme::Q4_K, Scheme::Q5_K, Scheme::Q6_K}) checker.weight(superblock_case(random, 70, 768, s));
  printf(checker.good ? "all right\n" : "WRONG results above\n");
  return checker.good;
}
