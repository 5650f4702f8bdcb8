// Quanto's HQQ optimiser: the shift of each group moved until the mean error of the weight no longer falls. src/methods/quanto/oracle.ts is
// the definition; groups are shared by the pool, sums run in torch's order.
#include "../arithmetic.h"
#include "../exports.h"
#include "../pool.h"
#include "torch-sum.h"

namespace fb {
namespace {

constexpr float SHRINK_FROM = 0.14f;
constexpr double KAPPA = 1.01;
/** Groups of a piece of work. */
constexpr size_t PIECE = 64;

/** What lasts from step to step. */
struct State {
  double best, beta;
};

struct Job {
  const float *w, *scale;
  float *shift, *moved;           // the best shift, and the one that is tried
  float *errors, *magnitudes;     // w - restored, of the shift that was tried last, and its size
  uint8_t* codes;
  size_t groups, size;
  float max;
};

/** sign(x) * max(|x| - |x|^-0.3 / beta, 0). */
template <int A>
FB_INLINE float shrunk(float x, float inverse) {
  const float a = __builtin_fabsf(x);
  if (!(a > SHRINK_FROM)) return 0;
  const float power = shrink_power(splat(a))[0];
  const float rest = rounded<A>(a - rounded<A>(inverse * rounded<A>(power)));
  return rest > 0 ? (x < 0 ? -rest : rest) : 0;
}

template <int A>
void restore_group(const Job& job, size_t g, const float* shifts) {
  const float s = job.scale[g], z = shifts[g], max = job.max;
  const size_t at = g * job.size;
  const float* FB_RESTRICT w = job.w + at;
  float* FB_RESTRICT errors = job.errors + at;
  float* FB_RESTRICT magnitudes = job.magnitudes + at;
  uint8_t* FB_RESTRICT codes = job.codes + at;
  for (size_t i = 0; i < job.size; i++) {
    const float d = rounded<A>(rounded<A>(w[i] + z) / s);
    float q = d > 0 ? d : 0.0f;  // NaN too
    q = q > max ? max : q;
    q = (q + 12582912.0f) - 12582912.0f;
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(q));
    errors[i] = rounded<A>(w[i] - rounded<A>(rounded<A>(q * s) - z));
    magnitudes[i] = __builtin_fabsf(errors[i]);
  }
}

template <int A>
FB_INLINE float mean(const float* values, size_t count) {
  return rounded<A>(static_cast<float>(static_cast<double>(sum(values, count)) / static_cast<double>(count)));
}

template <int A>
void move_group(const Job& job, size_t g, float inverse) {
  const float s = job.scale[g];
  const size_t at = g * job.size;
  float* terms = job.magnitudes + at;  // written anew by restore_group
  for (size_t i = 0; i < job.size; i++) {
    const float e = shrunk<A>(job.errors[at + i], inverse);
    terms[i] = rounded<A>(rounded<A>(static_cast<float>(job.codes[at + i]) * s) - rounded<A>(job.w[at + i] - e));
  }
  job.moved[g] = mean<A>(terms, job.size);
}

/** One step; false when it is the last. */
template <int A>
bool step(const Job& job, State& state, bool first) {
  const float inverse = first ? 0 : static_cast<float>(1 / state.beta);
  const float* shifts = first ? job.shift : job.moved;
  parallel((job.groups + PIECE - 1) / PIECE, [&](size_t piece, int) {
    for (size_t g = piece * PIECE; g < min(job.groups, (piece + 1) * PIECE); g++) {
      if (!first) move_group<A>(job, g, inverse);
      restore_group<A>(job, g, shifts);
    }
  });
  const double error = mean<A>(job.magnitudes, job.groups * job.size);
  if (!first && !(error < state.best)) return false;
  if (!first) {
    copy(job.shift, job.moved, job.groups * sizeof(float));
    state.beta *= KAPPA;
  }
  state.best = error;
  return true;
}

}  // namespace
}  // namespace fb

/**
 * Steps are: the error of the first shift, iterations until the error no longer falls. inputs: w F32 [groups, size], scale F32 [groups], first
 * shift F32 [groups]; outputs: shift F32 [groups], moved F32 [groups], errors F32 [groups, size], their sizes F32 likewise, codes U8 likewise,
 * state F64 [2]. params: groups, size, largest code, arithmetic, first beta, iterations at most.
 */
FB_EXPORT double fb_quanto_shift(const double* args) {
  using namespace fb;
  Job job = {};
  job.w = pointer<const float>(args[2]);
  job.scale = pointer<const float>(args[3]);
  job.shift = pointer<float>(args[5]);
  job.moved = pointer<float>(args[6]);
  job.errors = pointer<float>(args[7]);
  job.magnitudes = pointer<float>(args[8]);
  job.codes = pointer<uint8_t>(args[9]);
  State& state = *pointer<State>(args[10]);
  job.groups = static_cast<size_t>(args[11]);
  job.size = static_cast<size_t>(args[12]);
  job.max = static_cast<float>(args[13]);
  const int arithmetic = static_cast<int>(args[14]);
  const bool first = args[0] == 0;
  if (first) {
    copy(job.shift, pointer<const float>(args[4]), job.groups * sizeof(float));
    state.beta = args[15];
  }
  if (args[0] > args[16]) return 0;
  if (arithmetic == F16) return step<F16>(job, state, first);
  return arithmetic == BF16 ? step<BF16>(job, state, first) : step<F32>(job, state, first);
}
