// What the quantisers of every type work on: a run of BATCH values across rows, and how its values are weighed.
#pragma once
#include "gguf-search.h"
#include "gguf.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** W superblocks: so that what is done once a superblock is done in all lanes. */
constexpr size_t BATCH = W * 256;

/** One run of BATCH values, zero-padded, with everything that its groups need. */
struct Batch {
  float x[BATCH] FB_ALIGN(64);
  float importance[BATCH] FB_ALIGN(64);
  float sigma2[BATCH / 16];
  float scale[BATCH / 16];
  float min[BATCH / 16];
  float sum[BATCH / 16];
  float row_sigma2;  // of the row that the last block belongs to
  uint16_t half[BATCH / 32];   // scales of affine blocks
  uint16_t shift[BATCH / 32];  // and minima
  uint8_t codes[BATCH];
};

const float* importance_at(const Job& job, size_t element) {
  const size_t row = element / job.columns;
  return job.importance + row / job.expert_rows * job.columns + element % job.columns;
}

float mean_square(const Job& job, size_t row) {
  float chunk[BATCH], sum = 0;
  for (size_t at = 0; at < job.columns; at += BATCH) {
    const size_t count = min(BATCH, job.columns - at);
    widen(job.x, job.source, row * job.columns + at, count, chunk);
    for (size_t i = 0; i < count; i++) sum += chunk[i] * chunk[i];
  }
  return sum / static_cast<float>(job.columns);
}

/** Loads the importance of every value of the run; `block` values at a time, for the run may cross rows. */
void load_importance(const Job& job, Batch& b, size_t at, size_t count, size_t block) {
  for (size_t i = 0; i < count; i += block) copy(b.importance + i, importance_at(job, at + i), block * sizeof(float));
}

/** sigma2 of every group: factor / SUPER of the sum of its superblock's squares; W superblocks at once, one a lane. */
template <int SUPER, int GROUP>
void superblock_sigma2(Batch& b, size_t count, float factor) {
  constexpr int PIECE = 16;
  for (size_t i = 0; i < count; i += W * SUPER) {
    V sum = V{};
    for (int k = 0; k < SUPER; k += PIECE) {
      V x[PIECE];
      lanes_of<PIECE, SUPER>(b.x + i + k, x);
      for (int j = 0; j < PIECE; j++) sum += x[j] * x[j];
    }
    const V sigma2 = factor * sum / static_cast<float>(SUPER);
    for (int lane = 0; lane < W; lane++)
      for (int k = 0; k < SUPER / GROUP; k++) b.sigma2[i / GROUP + lane * (SUPER / GROUP) + k] = sigma2[lane];
  }
}

/** Searches all groups of the run. */
template <int SIZE, int LIMIT>
void search_all_symmetric(Batch& b, size_t count, Weights rule) {
  Groups<SIZE> groups;
  const bool weighted = rule != Weights::SQUARE;
  for (size_t i = 0; i < count; i += W * SIZE) {
    load_groups<SIZE>(groups, rule, b.x + i, weighted ? b.importance + i : nullptr, b.sigma2 + i / SIZE);
    store(b.sum + i / SIZE, sum_of_weights(groups));
    search_symmetric<SIZE, LIMIT>(groups, b.codes + i, b.scale + i / SIZE);
  }
}

template <int SIZE, Error ERROR = Error::SQUARE>
void search_all_asymmetric(Batch& b, size_t count, Weights rule, int limit, Sweep sweep) {
  Groups<SIZE> groups;
  const bool weighted = rule == Weights::IMPORTANCE_ROOT;
  for (size_t i = 0; i < count; i += W * SIZE) {
    const size_t g = i / SIZE;
    load_groups<SIZE>(groups, rule, b.x + i, weighted ? b.importance + i : nullptr, b.sigma2 + g);
    search_asymmetric<SIZE, ERROR>(groups, limit, sweep, b.codes + i, b.scale + g, b.min + g, b.sum + g);
  }
}

/** The value of largest magnitude among SIZE, the first of equals; 0 for zeros and NaN. */
template <int SIZE>
float first_largest_of(const float* x) {
  float max = 0, largest = 0;  // two variables: clang 19 miscompiles |x| > |max| here
  for (int i = 0; i < SIZE; i++) {
    const float magnitude = __builtin_fabsf(x[i]);
    if (!(magnitude > largest)) continue;
    largest = magnitude;
    max = x[i];
  }
  return max;
}

template <int SIZE>
float largest_magnitude(const float* x) {
  V most = V{};
  for (int i = 0; i < SIZE; i += W) {
    const V magnitude = absolute(load(x + i));
    most = magnitude > most ? magnitude : most;
  }
  float largest = 0;
  for (int lane = 0; lane < W; lane++) largest = most[lane] > largest ? most[lane] : largest;
  return largest;
}

/** Four codes of two bits a byte: halves of 128, four runs of 32 one above the other. */
void pack_two_bits(const uint8_t* codes, uint8_t* out) {
  for (int n = 0; n < 2; n++)
    for (int l = 0; l < 32; l++) {
      const uint8_t* q = codes + 128 * n + l;
      out[32 * n + l] = static_cast<uint8_t>((q[0] & 3) | ((q[32] & 3) << 2) | ((q[64] & 3) << 4) | ((q[96] & 3) << 6));
    }
}

/** The run's whole blocks, values [at, at + count) of the job, to job.out (and scale and shift). */
using Quantizer = void (*)(const Job& job, Batch& b, size_t at, size_t count);

constexpr Sweep WEIGHTED_SWEEP = {-0.9f, 0.05f, 36};

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
