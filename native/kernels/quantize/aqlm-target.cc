// The weight that AQLM approximates: the order of the steps, and the choice of instruction set. src/methods/aqlm/target.ts is the definition.
#include "../cpu.h"
#include "../exports.h"
#include "../memory.h"
#include "../pool.h"
#include "aqlm-target.inc"

namespace fb::aqlm_target {
namespace {

/** Multiplications of one step, a thread. */
constexpr double STEP_COST = 2e8;

/** The last output: where the work is. */
struct State {
  double panel, row;  // the panel that is taken from the rows behind it, and the next of those
  double unit;        // of the solution
  double problem;     // 1: memory is exhausted
};

struct Level {
  decltype(&baseline::eliminate) eliminate;
  decltype(&baseline::update) update;
  decltype(&baseline::solve) solve;
};

#define FB_FUNCTIONS(name) {name::eliminate, name::update, name::solve}
Level level() {
#if defined(__x86_64__)
  if (fb::level() >= LEVEL_AVX512) return FB_FUNCTIONS(avx512);
  if (fb::level() >= LEVEL_AVX2) return FB_FUNCTIONS(avx2);
#endif
  return FB_FUNCTIONS(baseline);
}

/** Units that a step takes, of `cost` each. */
size_t stride(double cost) {
  const double workers = static_cast<double>(threads());
  return static_cast<size_t>(max(STEP_COST * workers / max(cost, 1.0), workers));
}

void begin(const Job& job, const float* h, double lambda) {
  const size_t n = job.columns;
  for (size_t i = 0; i < n * n; i++) job.factor[i] = static_cast<double>(h[i]);
  for (size_t k = 0; k < n; k++) job.factor[k * (n + 1)] += lambda;
}

void mirror(const Job& job) {
  const size_t n = job.columns;
  for (size_t i = 0; i < n; i++) {
    for (size_t p = 0; p < i; p++) job.factor[i * n + p] = job.factor[p * n + i];
  }
}

/** A part of the factor; false where it is complete. */
bool factorise(const Level& level, const Job& job, State& state) {
  const size_t first = static_cast<size_t>(state.panel) * PANEL;
  if (first >= job.columns) return false;
  size_t from = static_cast<size_t>(state.row);
  if (from == 0) {
    level.eliminate(job, first);
    from = min(job.columns, first + PANEL);
  }
  const size_t to = min(job.columns, from + stride(static_cast<double>(PANEL * (job.columns - first))));
  parallel(to - from, [&](size_t i, int) { level.update(job, first, from + i); }, Chunks::uneven);
  state.row = static_cast<double>(to);
  if (to == job.columns) {
    state.panel++;
    state.row = 0;
    if (first + PANEL >= job.columns) mirror(job);
  }
  return true;
}

/** A part of the rows; false where they are done, or memory is exhausted. */
bool solve(const Level& level, const Job& job, State& state) {
  const size_t units = (job.rows + LANES_A_UNIT - 1) / LANES_A_UNIT, from = static_cast<size_t>(state.unit);
  const size_t values = job.columns * LANES_A_UNIT;
  double* local = static_cast<double*>(allocate(values * sizeof(double) * static_cast<size_t>(threads())));
  if (!local) {
    state.problem = 1;
    return false;
  }
  const size_t to = min(units, from + stride(static_cast<double>(values * job.columns)));
  parallel(to - from, [&](size_t i, int worker) { level.solve(job, from + i, local + values * static_cast<size_t>(worker)); });
  release(local);
  state.unit = static_cast<double>(to);
  return to < units;
}

}  // namespace
}  // namespace fb::aqlm_target

/**
 * inputs: w F32 [N, K], D F64 [N, K], H F32 [K, K], and D and H of other data, or nothing; outputs: target F32 [N, K] = w + alpha delta with delta
 * = D (H + lambda I)^-1; judged F64 [N, 2], delta D' and delta H' delta of the other data by rows; factor F64 [K, K] (scratch); state F64 [4]
 * (State); params: N, K, lambda, alpha, whether other data judge.
 */
FB_EXPORT double fb_aqlm_target(const double* args) {
  using namespace fb::aqlm_target;
  Job job = {};
  job.w = fb::pointer<const float>(args[2]);
  job.d = fb::pointer<const double>(args[3]);
  if (args[15] != 0) {
    job.other_d = fb::pointer<const double>(args[5]);
    job.other_h = fb::pointer<const float>(args[6]);
  }
  job.target = fb::pointer<float>(args[7]);
  job.judged = fb::pointer<double>(args[8]);
  job.factor = fb::pointer<double>(args[9]);
  job.rows = static_cast<size_t>(args[11]);
  job.columns = static_cast<size_t>(args[12]);
  job.alpha = args[14];
  State& state = *fb::pointer<State>(args[10]);
  if (args[0] == 0) begin(job, fb::pointer<const float>(args[4]), args[13]);
  const Level level = fb::aqlm_target::level();
  return factorise(level, job, state) || solve(level, job, state);
}
