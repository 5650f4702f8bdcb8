// Runs quantiser kernels by their place in the export table; see exports.h for what a kernel is given.
#include "exports.h"
#include "pool.h"

namespace {

enum Kind { CALL = 0, UNITS = 1, STEPS = 2 };
using Export = double (*)(const double*);
struct Entry {
  Export run;
  Kind kind;
};

#define FB_CALL(name) {name, CALL},
#define FB_UNITS(name) {name, UNITS},
#define FB_STEPS(name) {name, STEPS},
constexpr Entry TABLE[] = {FB_EXPORTS(FB_CALL, FB_UNITS, FB_STEPS)};
#undef FB_CALL
#undef FB_UNITS
#undef FB_STEPS

#define FB_NAME(name) #name " "
constexpr char NAMES[] = FB_EXPORTS(FB_NAME, FB_NAME, FB_NAME);

constexpr size_t MAX_ARGS = 64;

}  // namespace

/** (0) -> pointer to the names of the table in order, a space after each; (1) -> their length in bytes. */
FB_EXPORT double fb_names(const double* args) { return args[0] ? sizeof NAMES - 1 : fb::number(NAMES); }

/** (place in the table) -> 0 ordinary call, 1 units, 2 steps. */
FB_EXPORT double fb_job_kind(const double* args) { return TABLE[static_cast<size_t>(args[0])].kind; }

/** (place, from, to, count, pointer to `count` arguments): the units [from, to), shared by the pool; or step `from` -> its result. */
FB_EXPORT double fb_job(const double* args) {
  const Entry& entry = TABLE[static_cast<size_t>(args[0])];
  const size_t from = static_cast<size_t>(args[1]), to = static_cast<size_t>(args[2]);
  const size_t count = fb::min(static_cast<size_t>(args[3]), MAX_ARGS - 2);
  const double* given = fb::pointer<const double>(args[4]);
  double base[MAX_ARGS];
  base[0] = args[1];
  base[1] = 0;
  for (size_t i = 0; i < count; i++) base[2 + i] = given[i];
  if (entry.kind == STEPS) return entry.run(base);

  const size_t units = to - from;
  const size_t chunks = fb::min(units, static_cast<size_t>(8 * fb::threads()));
  fb::parallel(chunks, [&](size_t chunk, int) {
    double mine[MAX_ARGS];
    fb::copy(mine, base, sizeof mine);
    mine[0] = static_cast<double>(from + units * chunk / chunks);
    mine[1] = static_cast<double>(from + units * (chunk + 1) / chunks);
    entry.run(mine);
  });
  return 0;
}
