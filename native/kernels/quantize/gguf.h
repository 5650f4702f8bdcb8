// GGUF quantisers: one job, compiled for each instruction set (gguf.inc), chosen in gguf.cc.
#pragma once
#include "../blocks/types.h"

namespace fb::gguf {

using namespace blocks;  // the types

enum Source : int { F32 = 0, F16 = 1, BF16 = 2 };
/** What is wrong with a row; 0: nothing. */
enum Flag : uint8_t { TOO_LARGE = 1, SCALE_OVERFLOW = 2 };

/** What src/methods/gguf/grid-index.ts makes of a grid; null for types that have none. */
struct GridIndex {
  const int32_t* places;       // by packed point: its row, or -1 - where its candidates begin
  const uint16_t* candidates;  // their number, then packed points
};

struct Job {
  const void* x;            // [rows, columns] of `source`
  const float* importance;  // [experts, columns] or null
  uint8_t* out;             // blocks; or codes, one a byte [rows, columns], where has_codes()
  uint16_t* scale;          // half bits [rows * columns / 32], where has_codes()
  uint16_t* shift;          // likewise, for Q4_1 and Q5_1
  uint8_t* flags;           // [rows]
  GridIndex grid;
  Source source;
  Type type;
  size_t columns;
  size_t expert_rows;  // rows that share one run of importance
  bool packed;         // blocks also of the affine types

  bool has_codes() const { return is_affine(type) && !packed; }
};

namespace baseline {
void quantize_rows(const Job& job, size_t from, size_t to);
}
namespace avx2 {
void quantize_rows(const Job& job, size_t from, size_t to);
}
namespace avx512 {
void quantize_rows(const Job& job, size_t from, size_t to);
}

}  // namespace fb::gguf
