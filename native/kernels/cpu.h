// Which instruction sets this machine and its operating system allow, and the one in use. Kernels look at level() when they are
// prepared, never in a loop.
#pragma once
#include "base.h"

namespace fb {

enum Level : int {
  LEVEL_SCALAR = 0,  // the baseline of the target: SSE2, NEON or WASM SIMD
  LEVEL_AVX2 = 1,    // AVX2 + FMA + F16C
  LEVEL_AVX512 = 2,  // AVX-512 F, BW, DQ, VL + VNNI
};

/** The highest level that the machine has (CPUID and XCR0). */
Level machine_level();

/** The level in use: the machine's, or lower where the user asked for it. */
Level level();

/** True where permutes of bytes by a table of two registers (vpermi2b) may be used at the level of AVX-512. */
bool has_byte_permutes();

}  // namespace fb
