// What the quantisers of every type work on: a run of BATCH values across rows, and how its values are weighed.
#pragma once
#include "gguf-search.h"
#include "gguf.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

constexpr size_t BATCH = 512;

/** One run of BATCH values, zero-padded, with everything that its groups need. */
struct Batch {
  float x[BATCH] FB_ALIGN(64);
  float importance[BATCH] FB_ALIGN(64);
  float sigma2[BATCH / 16];
  float scale[BATCH / 16];
  float min[BATCH / 16];
  float sum[BATCH / 16];
  float row_sigma2;  // of the row that the last block belongs to
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

/** sigma2 of every group: factor / SUPER of the sum of its superblock's squares. */
template <int SUPER, int GROUP>
void superblock_sigma2(Batch& b, size_t count, float factor) {
  for (size_t i = 0; i < count; i += SUPER) {
    float sum = 0;
    for (int k = 0; k < SUPER; k++) sum += b.x[i + k] * b.x[i + k];
    const float sigma2 = factor * sum / static_cast<float>(SUPER);
    for (int k = 0; k < SUPER / GROUP; k++) b.sigma2[i / GROUP + k] = sigma2;
  }
}

/** Searches all groups of the run. */
template <int SIZE, int LIMIT>
void search_all_symmetric(Batch& b, size_t count, Weights rule) {
  Groups<SIZE> groups;
  const bool weighted = rule != Weights::SQUARE;
  for (size_t i = 0; i < count; i += W * SIZE) {
    load_groups<SIZE>(groups, rule, b.x + i, weighted ? b.importance + i : nullptr, b.sigma2 + i / SIZE);
    search_symmetric<SIZE, LIMIT>(groups, b.codes + i, b.scale + i / SIZE);
  }
}

void search_all_asymmetric(Batch& b, size_t count, Weights rule, int limit, Sweep sweep) {
  Groups<32> groups;
  const bool weighted = rule == Weights::IMPORTANCE_ROOT;
  for (size_t i = 0; i < count; i += W * 32) {
    const size_t g = i / 32;
    load_groups<32>(groups, rule, b.x + i, weighted ? b.importance + i : nullptr, b.sigma2 + g);
    search_asymmetric<32>(groups, limit, sweep, b.codes + i, b.scale + g, b.min + g, b.sum + g);
  }
}

/** The run's whole blocks, values [at, at + count) of the job, to job.out (and scale and shift). */
using Quantizer = void (*)(const Job& job, Batch& b, size_t at, size_t count);

constexpr Sweep WEIGHTED_SWEEP = {-0.9f, 0.05f, 36};

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
