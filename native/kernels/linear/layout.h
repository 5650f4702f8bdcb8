// The tile, byte by byte. Written by weight.cc, read by every kernel.
//
// Panel = 16 output rows. Codes along k come in chunks of 32 = 8 k-blocks of 4. A vector is 64 bytes = 16 rows x 4 k: lane r (4 bytes)
// is row r, its bytes are 4 neighbouring k: an AVX-512 VNNI operand, two AVX2 registers, four 128-bit ones.
// n bits = planes of 8, 4, 2, 1 bits, the largest first with the code's lowest bits. A plane of b bits takes b vectors a chunk;
// bits i*b.. of a byte of vector v belong to k-block v*(8/b)+i.
//
//   affine, lookup,
//   float8           group: chunks, 16 scales, 16 zeros (unless constant); a row's last chunk is padded with code 0.
//                    Groups of 8 or 16: a chunk, [4 or 2][16] scales, as many zeros; those behind the row's end are 0
//   Q4_K, Q5_K       256 k: chunks, scales u8 [8][16], mins u8 [8][16], d f16 [16], dmin f16 [16]
//   Q2_K             256 k: chunks, scales (low nibbles) and mins u8 [16][16], d f16 [16], dmin f16 [16]
//   Q6_K             256 k: chunks, scales i8 [16][16], d f16 [16], 32 bytes of padding
//   Levels           as Q6_K with 16 or 8 scales a row (groups of 16 or 32)
//   additive         panels of 64 rows: codes [k / group][codebooks][64], u8 or (above 8 bits) u16, then 64 scales f32
//   bf16             pairs of k: 16 rows x 2; f16, f32: each k: 16 rows. k is padded to even numbers with zeros
#pragma once
#include "linear.h"

namespace fb::linear {
namespace {

constexpr int CHUNK = 32;
constexpr int VECTOR = 64;
constexpr int SUPERBLOCK = 256;
constexpr int SUPERBLOCK_SCALES = 320;  // bytes behind the codes of Q2_K, Q4_K, Q5_K, Q6_K
constexpr int AHEAD = 4096;  // prefetch distance in bytes (20 GB/s x 150 ns and some); runs over the ends of panels on purpose

inline int chunks_of(int k) { return (k + CHUNK - 1) / CHUNK; }
inline constexpr int chunk_bytes(int bits) { return bits * VECTOR; }
inline int scale_bytes(ScaleType type) { return type == ScaleType::F32 ? 4 : 2; }
inline bool is_dense(Scheme scheme) { return scheme <= Scheme::DenseBF16; }
inline bool is_superblock(Scheme scheme) { return scheme >= Scheme::Q4_K; }
inline int superblock_group(Scheme scheme) { return scheme == Scheme::Q6_K || scheme == Scheme::Q2_K ? 16 : 32; }
inline int superblock_bits(Scheme scheme) { return scheme == Scheme::Q2_K ? 2 : scheme == Scheme::Q4_K ? 4 : scheme == Scheme::Q5_K ? 5 : 6; }
/** Groups of one span. */
inline int groups_of_span(const Weight& w) { return w.span / w.group; }
/** Scales of group `index` of a span. */
inline const uint8_t* scales_of(const Weight& w, const uint8_t* span, int index) {
  return span + chunks_of(w.span) * chunk_bytes(w.bits) + index * PANEL_ROWS * scale_bytes(w.scale_type);
}
/** Bytes from the scales of a group to its zeros. */
inline int zeros_behind(const Weight& w) { return groups_of_span(w) * PANEL_ROWS * scale_bytes(w.scale_type); }

/** Bytes of the scales of a panel's superblock before its d. */
inline constexpr int level_scale_bytes(int group) { return SUPERBLOCK / group * PANEL_ROWS; }

constexpr int ADDITIVE_ROWS = 64;
inline int code_bytes(const Weight& w) { return w.bits > 8 ? 2 : 1; }

/** Panel of 16 rows `panel`; one of an additive weight begins inside a panel of 64. */
inline const uint8_t* panel_of(const Weight& w, int panel) {
  if (w.scheme != Scheme::Additive) return w.tile + w.panel_bytes * (size_t)panel;
  return w.tile + w.panel_bytes * (size_t)(panel / 4) + panel % 4 * PANEL_ROWS * code_bytes(w);
}

}  // namespace
}  // namespace fb::linear
