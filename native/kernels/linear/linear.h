// y = x W^T for every weight scheme, from one tile layout: the only header that the engine needs.
//
// A weight is tiled once (describe, tile), then used by any number of calls. A call is split by the caller's own fork-join pool:
//   1. prepare(call, row_from, row_to)              brings rows of x into the kernel's form; all rows before step 2;
//   2. compute(call, panel_from, panel_to, local)   panels of 16 outputs, in any number of pieces, in any order.
// Results do not depend on the pieces, nor on the instruction set's threads; in the decode phase row r of a call with several rows
// has exactly the bits of a call with that row alone.
//
// Every instruction set is one file with its own flags (kernels.avx2.cc ...); a level is used only where the machine has it.
#pragma once
#include "../base.h"
#include "../blocks/types.h"
#include "../cpu.h"

namespace fb::linear {

constexpr int PANEL_ROWS = 16;

enum class Scheme : uint8_t { DenseF32, DenseF16, DenseBF16, Affine, Lookup16, Float8, Additive, Q4_K, Q5_K, Q6_K, Levels, Q2_K };

// Levels: superblocks whose codes number one of up to 16 whole numbers (blocks/open.h): IQ1, IQ2, IQ3.

/** What zero means in an affine weight: w = s * (q - zero), s * (q - zeros[g]), or s * q + zeros[g]. */
enum class Zero : uint8_t { Constant, Point, Shift };

/** How the tile keeps scales and zeros: always exactly. */
enum class ScaleType : uint8_t { F16, BF16, F32 };

/**
 * Exact: float32's error. Fast: quantised weights may see activations as small integers. Fastest: also what loses more than that (int16
 * tables of codebooks). Dense weights are always exact.
 */
enum class Mode : uint8_t { Exact, Fast, Fastest };

/** Decode: few rows, bound by reading the weight. Prefill: many rows, bound by arithmetic. The caller's choice, not a matter of rows. */
enum class Phase : uint8_t { Decode, Prefill };

/** A weight as it comes from the file. */
struct Source {
  Scheme scheme;
  int n, k;             // rows out, columns in
  int bits;             // Affine: 1..8; Lookup16: 4; Float8: 8; Additive: 1..16
  int group;            // neighbours along k that share a scale, or a code; divides k
  Zero zero;            // Affine
  const uint8_t* data;  // codes [n, k], one a byte; or superblock bytes [n, k/256]; or dense values [n, k]
  const float* scale;   // [n, k/group]
  const float* zeros;   // [n, k/group], unless zero is Constant
  float zero_point;     // Constant
  const float* table;   // Lookup16: 16 values; Additive: codebooks [codebooks, 2^bits, out, group]
  int codebooks, out;   // Additive: and rows that share a code; data: codes [n/out, k/group, codebooks], u16 above 8 bits; scale [n/out]
  blocks::Type type;    // Levels
  const int8_t* grid;   // Levels: values of the rows of the type's grid
  int mantissa, bias;   // Float8: bits of the mantissa (2 or 3), bias of the exponent
};

/** A tiled weight: plain data, may be copied. `tile` is 64-byte aligned. */
struct Weight {
  Scheme scheme;
  uint8_t bits;
  Zero zero;
  ScaleType scale_type;
  int n, k;
  int group;           // 0 for dense
  int span;            // Affine, lookups: neighbours along k that lie together: a group, or the 4 or 2 groups of 8 or 16 of a chunk
  int panels;          // ceil(n / 16); Additive: of 64 rows
  size_t group_bytes;  // one panel's codes of a group (or superblock) and its scales; dense: one step of k
  size_t panel_bytes;
  float zero_point;
  float table[16];     // Lookup16: values; Levels: the levels
  float unit;          // Levels: value = d * scale * unit * level; Float8: value = scale * unit * 2^60 * float (float8.h)
  uint8_t mantissa;    // Float8
  // Lookup16: table_unit * (t0 + t1 / 2^15), each a 15-bit word as two planes of bytes, the low ones first.
  uint8_t table_planes[4][16];
  float table_unit;     // Additive: of the codebooks in words, 0 without
  int codebooks, out;   // Additive
  size_t shared_bytes;  // what all panels read, after the last: codebooks f32 [codebooks][out * group][2^bits], and as words (additive-tile.h)
  const uint8_t* tile;
};

/**
 * The weight's descriptor, without its tile. Reads scales and zeros to find the narrowest type that holds them all.
 * Groups of 8 and 16 share a chunk of 32; others that are neither whole rows nor multiples of 32 become DenseF32.
 */
Weight describe(const Source& source);

/** Bytes of the whole tile. */
inline size_t tile_bytes(const Weight& weight) { return weight.panel_bytes * (size_t)weight.panels + weight.shared_bytes; }

/** Writes panels [panel_from, panel_to) of the tile that starts at `out`. */
void tile(const Source& source, const Weight& weight, uint8_t* out, int panel_from, int panel_to);

/** Values of row `row` as float32, with the roundings of the scheme's definition: an embedding's look-up in a tied head. */
void decode_row(const Weight& weight, int row, float* out);

/** One product. Everything stays the caller's; nothing is allocated. */
struct Call {
  const Weight* weight;
  int rows;
  const float* x;  // [rows, ldx]
  int ldx;
  float* y;  // [rows, ldy]
  int ldy;
  const float* bias;      // [n] or null
  const float* residual;  // [rows, ldr] or null, added to y; may be y itself
  int ldr;
  float unit;             // x is whole numbers from -128 to 127 times this (the method quantised it); 0: any floats
  Mode mode;
  Phase phase;
  uint8_t* scratch;  // scratch_bytes(call), 64-byte aligned, shared by all pieces; may be null where that is 0
  // Integer product for methods that quantise activations themselves: y8[r, n] = sum x8[r, k] * (q[n, k] - zero_point), exactly.
  // Affine, 8 bits, one group a row, Constant zero. x, y, bias, residual, mode and phase are then not read.
  const int8_t* x8;  // [rows, ldx]
  int32_t* y8;       // [rows, ldy]
};

struct Kernels {
  const char* name;
  /** Bytes that prepare writes. Calls with equal x, rows and `form` may share one prepared scratch. */
  size_t (*scratch_bytes)(const Call& call);
  /** What prepare makes of x: 0 = nothing is prepared; equal numbers = equal contents. */
  uint32_t (*form)(const Call& call);
  void (*prepare)(const Call& call, int row_from, int row_to);
  /** `local`: LOCAL_BYTES of the calling thread's own memory, 64-byte aligned. */
  void (*compute)(const Call& call, int panel_from, int panel_to, uint8_t* local);
  /** Which kernel a call would take, for `explain`. */
  const char* (*kernel)(const Call& call);
};

constexpr size_t LOCAL_BYTES = 128 * 1024;

/** The kernels of a level, or null where this build lacks them. Does not ask the machine. */
const Kernels* kernels_of(Level level);

}  // namespace fb::linear
