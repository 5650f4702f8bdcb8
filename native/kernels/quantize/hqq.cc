// HQQ's quantiser: the order of its passes, and the choice of instruction set. src/methods/hqq/oracle.ts is the definition.
#include "../cpu.h"
#include "../exports.h"
#include "../memory.h"
#include "../pool.h"
#include "hqq.inc"

namespace fb::hqq {
namespace {

/** The last output: what lasts from step to step, and what TypeScript looks at in the end. */
struct State {
  double best;      // smallest error yet
  double finished;  // the zeros no longer move
  double problem;   // 1 a weight is not finite, 2 out of memory
};

struct Level {
  size_t (*units)(const Job&, Pass);
  void (*run)(const Job&, Pass, size_t, int);
  float (*total_error)(const Job&);
};

Level level() {
#if defined(__x86_64__)
  if (fb::level() >= LEVEL_AVX2) return {avx2::units, avx2::run, avx2::total_error};
#endif
  return {baseline::units, baseline::run, baseline::total_error};
}

void run(const Level& level, const Job& job, Pass pass) {
  parallel(level.units(job, pass), [&](size_t unit, int worker) { level.run(job, pass, unit, worker); });
}

/** One iteration of the optimiser; false where memory is exhausted. */
bool improve(const Level& level, Job& job, State& state) {
  const size_t size = chunk_size(job.count()), partials = 32 * (job.count() / size);
  const bool nested = is_nested(job);
  const size_t terms = nested || job.strided ? 0 : static_cast<size_t>(threads()) * job.columns;
  float* scratch = static_cast<float*>(allocate((partials + size + 32 + terms) * sizeof(float)));
  if (!scratch) return false;
  job.partials = scratch;
  job.tail = scratch + partials;
  job.terms = job.tail + size + 32;
  if (nested) {
    run(level, job, STEPS);
  } else {
    run(level, job, ERRORS);
    run(level, job, ZEROS);
  }
  const float error = level.total_error(job) / static_cast<float>(job.count());
  release(scratch);
  if (error < state.best) state.best = error;
  else state.finished = 1;
  return true;
}

}  // namespace
}  // namespace fb::hqq

/**
 * Steps are: ranges, iterations until the error no longer falls, codes. inputs: w F32 [rows, columns], the regrouped matrix. outputs: codes
 * U8 [rows, columns]; 1 / scale F32 [groups]; zero F32 [groups]; state F64 [3] (State). params: rows, columns, groups are columns,
 * largest code, round the first zero, iterations at most.
 */
FB_EXPORT double fb_hqq(const double* args) {
  using namespace fb::hqq;
  Job job = {};
  job.w = fb::pointer<const float>(args[2]);
  job.codes = fb::pointer<uint8_t>(args[3]);
  job.inverse = fb::pointer<float>(args[4]);
  job.zero = fb::pointer<float>(args[5]);
  State& state = *fb::pointer<State>(args[6]);
  job.rows = static_cast<size_t>(args[7]);
  job.columns = static_cast<size_t>(args[8]);
  job.strided = args[9] != 0;
  job.max = static_cast<float>(args[10]);
  job.round_zero = args[11] != 0;
  const Level level = fb::hqq::level();
  if (args[0] == 0) {
    uint8_t bad = 0;
    job.bad = &bad;
    run(level, job, RANGES);
    state = {__builtin_inf(), 0, static_cast<double>(bad)};
    return !bad;
  }
  if (args[0] <= args[12] && !state.finished) {
    if (improve(level, job, state)) return 1;
    state.problem = 2;
    return 0;
  }
  run(level, job, CODES);
  return 0;
}
