#include "cpu.h"

#include "exports.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fb {
namespace {

int chosen = -1;

#if defined(__x86_64__)
uint64_t xcr0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

Level detect() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return LEVEL_SCALAR;
  const bool osxsave = c >> 27 & 1, fma = c >> 12 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
  if (!(osxsave && fma && avx && f16c) || (xcr0() & 0x06) != 0x06) return LEVEL_SCALAR;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return LEVEL_SCALAR;
  if (!(b >> 5 & 1)) return LEVEL_SCALAR;
  const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1, vnni = c >> 11 & 1;
  return f && dq && bw && vl && vnni && (xcr0() & 0xe6) == 0xe6 ? LEVEL_AVX512 : LEVEL_AVX2;
}
#else
Level detect() { return LEVEL_SCALAR; }
#endif

}  // namespace

Level machine_level() {
  static int found = -1;
  if (found < 0) found = detect();
  return static_cast<Level>(found);
}

bool has_byte_permutes() {
#if defined(__x86_64__)
  static int found = -1;
  if (found < 0) {
    uint32_t a, b, c = 0, d;
    found = machine_level() == LEVEL_AVX512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 1 & 1);
  }
  return found != 0;
#else
  return false;
#endif
}

Level level() { return chosen < 0 ? machine_level() : static_cast<Level>(chosen); }

}  // namespace fb

/** (0: in use, 1: the machine's) -> level. */
FB_EXPORT double fb_level(const double* args) { return args[0] ? fb::machine_level() : fb::level(); }

/** (level): uses that level, or the machine's where that is lower -> the level in use. */
FB_EXPORT double fb_set_level(const double* args) {
  fb::chosen = fb::min(static_cast<int>(args[0]), static_cast<int>(fb::machine_level()));
  return fb::chosen;
}
