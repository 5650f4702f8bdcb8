// AQLM's quantiser: the order of its phases, what is done between them, and the choice of instruction set. src/methods/aqlm/oracle.ts is
// the definition.
#include "../cpu.h"
#include "../exports.h"
#include "../half.h"
#include "../memory.h"
#include "../pool.h"
#include "aqlm.inc"

namespace fb::aqlm {
namespace {

enum Problem { NONE = 0, OUT_OF_MEMORY = 1, SCRATCH_TOO_SMALL = 2 };

/** The last output but one: what lasts from step to step, and what TypeScript looks at in the end. */
struct State {
  double error, energy, epochs, problem;
  double phase, unit;
  double book, iteration;       // of k-means
  double best, rz, cg, ending;  // of the alternation
  double solved;                // rz at which the codebooks are found
};

/** Multiplications of one call: below 50 ms on a core. */
constexpr double STEP_COST = 5e8;
constexpr double CG_STEPS = 12;
/** Of the first rz: what is left below is rounding, and steps along it lead away. */
constexpr double CG_SOLVED = 1e-10;

struct Level {
  size_t (*units)(const Job&, Phase);
  double (*cost)(const Job&, Phase);
  size_t (*worker_bytes)(const Job&, Phase);
  void (*run)(const Job&, Phase, size_t, uint8_t*);
  void (*plant_centroids)(const Job&);
  void (*plant_codebooks)(const Job&);
};

#define FB_AQLM_FUNCTIONS(name) {name::units, name::cost, name::worker_bytes, name::run, name::plant_centroids, name::plant_codebooks}
Level level() {
#if defined(__x86_64__)
  if (fb::level() >= LEVEL_AVX512) return FB_AQLM_FUNCTIONS(avx512);
  if (fb::level() >= LEVEL_AVX2) return FB_AQLM_FUNCTIONS(avx2);
#endif
  return FB_AQLM_FUNCTIONS(baseline);
}

/** Runs some units of the state's phase; false where memory is exhausted. */
bool run_units(const Level& level, const Job& job, State& state) {
  const Phase phase = static_cast<Phase>(static_cast<int>(state.phase));
  const size_t from = static_cast<size_t>(state.unit), all = level.units(job, phase), workers = static_cast<size_t>(threads());
  const size_t wanted = static_cast<size_t>(STEP_COST * static_cast<double>(workers) / max(level.cost(job, phase), 1.0));
  const size_t to = min(all, from + max(wanted, workers));
  const size_t bytes = (level.worker_bytes(job, phase) + 63) / 64 * 64;
  uint8_t* local = static_cast<uint8_t*>(allocate(bytes * workers));
  if (!local) return false;
  parallel(to - from, [&](size_t unit, int worker) { level.run(job, phase, from + unit, local + bytes * static_cast<size_t>(worker)); });
  release(local);
  state.unit = static_cast<double>(to);
  return true;
}

// ------------------------------------------------------------------------------------------------------------ between the phases

float* book_of(const Job& job) { return job.codebooks + job.book * job.entries * job.size; }

void find_norms(const Job& job) {
  const float* centroids = book_of(job);
  for (size_t s = 0; s < job.entries; s++, centroids += job.size) {
    float sum = 0;
    for (size_t d = 0; d < job.size; d++) sum += centroids[d] * centroids[d];
    job.norms[s] = 0.5f * sum;
  }
  if (job.has_leaves()) level().plant_centroids(job);
}

void begin_book(const Job& job) {
  const int32_t* points = job.points + job.book * job.trained;
  for (size_t s = 0; s < job.entries; s++) copy(book_of(job) + s * job.size, job.data + static_cast<size_t>(points[s]) * job.size, job.size * sizeof(float));
  find_norms(job);
}

/** Means of the clusters; an empty one keeps its centroid. False where memory is exhausted. */
bool update_centroids(const Job& job) {
  const int32_t* points = job.points + job.book * job.trained;
  const size_t bytes = job.entries * (job.size * sizeof(double) + sizeof(double));
  double* sums = static_cast<double*>(allocate(bytes));
  if (!sums) return false;
  zero(sums, bytes);
  double* counts = sums + job.entries * job.size;
  for (size_t n = 0; n < job.trained; n++) {
    const float* data = job.data + static_cast<size_t>(points[n]) * job.size;
    double* sum = sums + job.assigned[n] * job.size;
    counts[job.assigned[n]]++;
    for (size_t d = 0; d < job.size; d++) sum[d] += static_cast<double>(data[d]);
  }
  float* centroids = book_of(job);
  for (size_t i = 0; i < job.entries * job.size; i++) {
    if (counts[i / job.size] > 0) centroids[i] = static_cast<float>(sums[i] / counts[i / job.size]);
  }
  release(sums);
  find_norms(job);
  return true;
}

double total_of_rows(const Job& job) {
  double sum = 0;
  for (size_t n = 0; n < job.rows; n++) sum += job.row_sums[n];
  return sum;
}

/** to = the sum of the blocks' parts. */
void reduce(const Job& job, size_t which, float* to) {
  zero(to, job.values * sizeof(float));
  for (size_t b = 0; b < job.blocks; b++) {
    const float* part = job.parts + (which * job.blocks + b) * job.values;
    for (size_t i = 0; i < job.values; i++) to[i] += part[i];
  }
}

double dot(const Job& job, const float* a, const float* b) {
  double sum = 0;
  for (size_t i = 0; i < job.values; i++) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/** Returns gradient . preconditioned. */
double precondition(const Job& job) {
  for (size_t i = 0; i < job.values; i++) job.preconditioned[i] = job.diagonal[i] > 0 ? job.gradient[i] / job.diagonal[i] : 0;
  return dot(job, job.gradient, job.preconditioned);
}

void begin_descent(const Job& job, State& state) {
  reduce(job, 0, job.gradient);
  reduce(job, 1, job.diagonal);
  state.rz = precondition(job);
  state.solved = CG_SOLVED * state.rz;
  copy(job.direction, job.preconditioned, job.values * sizeof(float));
  state.cg = 0;
}

/** One step of conjugate gradients; `curve` is the direction through the quadratic. False where there is nothing left to gain. */
bool descend(const Job& job, State& state) {
  float* curve = job.parts + job.blocks * job.values;  // the diagonal's parts are not needed any more
  reduce(job, 0, curve);
  const double curvature = dot(job, job.direction, curve);
  if (!(curvature > 0)) return false;
  const float alpha = static_cast<float>(state.rz / curvature);
  for (size_t i = 0; i < job.values; i++) {
    job.codebooks[i] += alpha * job.direction[i];
    job.gradient[i] -= alpha * curve[i];
  }
  const double next = precondition(job);
  const float beta = static_cast<float>(next / state.rz);
  for (size_t i = 0; i < job.values; i++) job.direction[i] = job.preconditioned[i] + beta * job.direction[i];
  state.rz = next;
  return ++state.cg < CG_STEPS && state.rz > state.solved;
}

/** The file's dtype: 0 float32, 1 half, 2 bfloat16. Inputs that hardly occur let an entry grow: in half precision it stays finite. */
void round_values(float* values, size_t count, int type) {
  constexpr float LARGEST = 65504;
  for (size_t i = 0; i < count; i++) {
    const float v = values[i];
    if (type == 1) values[i] = from_f16(to_f16(v < -LARGEST ? -LARGEST : v > LARGEST ? LARGEST : v));
    if (type == 2) values[i] = from_bf16(to_bf16(v));
  }
}

struct Settings {
  double epochs, tolerance;
  int type;
};

/** What follows the phase that is done: the next phase, or -1 at the end, or -2 without memory. */
int next_phase(Job& job, State& state, const Settings& settings) {
  switch (static_cast<Phase>(static_cast<int>(state.phase))) {
    case SCALE:
      begin_book(job);
      return TRAIN;
    case TRAIN:
      if (!update_centroids(job)) return -2;
      return ++state.iteration < static_cast<double>(job.iterations) ? TRAIN : ASSIGN;
    case ASSIGN:
      state.iteration = 0;
      state.book = static_cast<double>(++job.book);
      if (job.book == job.count) return PACK;
      begin_book(job);
      return TRAIN;
    case PACK: return ENERGY;
    case ENERGY:
      state.energy = total_of_rows(job);
      state.best = __builtin_inf();
      return GRADIENT;
    case GRADIENT: {
      const double before = total_of_rows(job);
      state.ending = state.epochs >= settings.epochs || before > (1 - settings.tolerance) * state.best;
      state.best = before;
      begin_descent(job, state);
      return state.rz > 0 ? CURVE : RESCALE;
    }
    case CURVE: return descend(job, state) ? CURVE : RESCALE;
    case RESCALE:
      if (state.ending != 0) {
        round_values(job.codebooks, job.values, settings.type);
        round_values(job.scale, job.outs, settings.type);
      }
      if (job.searches_leaves()) level().plant_codebooks(job);
      return HALVES;
    case HALVES: return SEARCH;
    case SEARCH:
      if (state.ending != 0) return ERROR;
      state.epochs++;
      return GRADIENT;
    default: state.error = total_of_rows(job); return -1;
  }
}

size_t aligned_floats(size_t count) { return (count + 15) / 16 * 16; }

/** Lays the scratch out; returns its floats. */
size_t lay_out(Job& job, float* scratch) {
  size_t at = 0;
  const auto take = [&](size_t count) {
    float* block = scratch + at;
    at += aligned_floats(count);
    return block;
  };
  job.data = take(job.rows * job.columns);
  job.packed = take(job.panels * job.columns * PANEL);
  job.halves = take(job.ins * job.count * job.entries);
  job.norms = take(job.entries);
  job.parts = take(2 * job.blocks * job.values);
  job.direction = take(job.values);
  job.gradient = take(job.values);
  job.preconditioned = take(job.values);
  job.diagonal = take(job.values);
  job.row_sums = reinterpret_cast<double*>(take(2 * job.rows));
  job.assigned = reinterpret_cast<uint16_t*>(take((job.trained + 1) / 2));
  if (!job.has_leaves()) return at;
  job.order = reinterpret_cast<int32_t*>(take(job.count * job.entries));
  job.place = reinterpret_cast<int32_t*>(take(job.count * job.entries));
  job.lanes = take(job.values);
  job.radius = take(job.count * job.leaves);
  job.boxes = take(job.ins * job.count * boxes_floats(job));
  job.roots = reinterpret_cast<double*>(take(2 * job.ins * (job.in * job.in + 1)));
  return at;
}

}  // namespace
}  // namespace fb::aqlm

/**
 * inputs: w F32 [N, K]; H F32 [K, K]; points I32 [codebooks, trained], the groups that k-means is trained on. outputs: codes U16 [N/out, K/in,
 * codebooks]; codebooks F32 [codebooks, 2^bits, out, in]; scale F32 [N/out]; state F64 [13] (State); scratch F32. params: N, K, out, in,
 * codebooks, bits, trained, iterations of k-means, beam, epochs at most, tolerance, dtype (0 F32, 1 F16, 2 BF16), floats of scratch.
 */
FB_EXPORT double fb_aqlm(const double* args) {
  using namespace fb::aqlm;
  const auto size = [&](int i) { return static_cast<size_t>(args[10 + i]); };
  Job job = {};
  job.w = fb::pointer<const float>(args[2]);
  job.h = fb::pointer<const float>(args[3]);
  job.points = fb::pointer<const int32_t>(args[4]);
  job.codes = fb::pointer<uint16_t>(args[5]);
  job.codebooks = fb::pointer<float>(args[6]);
  job.scale = fb::pointer<float>(args[7]);
  State& state = *fb::pointer<State>(args[8]);
  job.rows = size(0);
  job.columns = size(1);
  job.out = size(2);
  job.in = size(3);
  job.count = size(4);
  job.bits = static_cast<int>(args[15]);
  job.trained = size(6);
  job.iterations = size(7);
  job.beam = size(8);
  job.outs = job.rows / job.out;
  job.ins = job.columns / job.in;
  job.size = job.out * job.in;
  job.entries = static_cast<size_t>(1) << job.bits;
  job.values = job.count * job.entries * job.size;
  const size_t most_blocks = fb::min<size_t>(64, (job.rows + 31) / 32);
  job.per_block = (job.outs + most_blocks - 1) / most_blocks;
  job.blocks = (job.outs + job.per_block - 1) / job.per_block;
  job.panels = (job.columns + PANEL - 1) / PANEL;
  job.leaves = job.entries >= LEAST_ENTRIES && job.in <= MOST_WHITENED ? job.entries / LEAF : 0;
  job.book = static_cast<size_t>(state.book);
  if (lay_out(job, fb::pointer<float>(args[9])) > size(12)) {
    state.problem = SCRATCH_TOO_SMALL;
    return 0;
  }
  const Level level = fb::aqlm::level();
  const Settings settings = {args[19], args[20], static_cast<int>(args[21])};
  if (!run_units(level, job, state)) {
    state.problem = OUT_OF_MEMORY;
    return 0;
  }
  if (state.unit < static_cast<double>(level.units(job, static_cast<Phase>(static_cast<int>(state.phase))))) return 1;
  const int next = next_phase(job, state, settings);
  if (next == -2) state.problem = OUT_OF_MEMORY;
  if (next < 0) return 0;
  state.phase = next;
  state.unit = 0;
  return 1;
}
