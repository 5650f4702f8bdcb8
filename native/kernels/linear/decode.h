// Decodes a piece of a panel to float32 [k][16], with the roundings of the scheme's definition and nothing but C: what every level
// can fall back on, and what faster decoders are compared with.
#pragma once
#include "../half.h"
#include "float8.h"
#include "layout.h"

namespace fb::linear {
namespace {

inline float affine_value(Zero zero, float q, float scale, float z) {
  if (zero == Zero::Shift) {
    const float product = q * scale;
    return product + z;
  }
  const float centred = q - z;
  return centred * scale;
}

inline float read_scale(ScaleType type, const uint8_t* at, int lane) {
  if (type == ScaleType::F32) {
    float value;
    copy(&value, at + lane * 4, 4);
    return value;
  }
  uint16_t half;
  copy(&half, at + lane * 2, 2);
  return type == ScaleType::F16 ? from_f16(half) : from_bf16(half);
}

/** The value of a code. `unit` as in Weight. */
inline float float8_value(int mantissa, float unit, uint8_t code) {
  const uint32_t sign = (uint32_t)(code & 0x80) << 24, size = (uint32_t)(code & 0x7f) << (23 - mantissa);
  return bits<float>(sign | size) * power_of_two(FLOAT8_HALF) * unit;
}

/** One chunk's codes as bytes [8 k-blocks][16 rows][4 k]. */
inline void unpack_chunk(int bits, const uint8_t* in, uint8_t* out) {
  for (int i = 0; i < 8 * VECTOR; i++) out[i] = 0;
  int shift = 0;
  for (int width = 8; width; width >>= 1) {
    if (!(bits & width)) continue;
    const int per_byte = 8 / width;
    for (int v = 0; v < width; v++) {
      for (int i = 0; i < per_byte; i++) {
        uint8_t* to = out + (v * per_byte + i) * VECTOR;
        for (int b = 0; b < VECTOR; b++) to[b] |= (uint8_t)((in[v * VECTOR + b] >> (i * width) & ((1 << width) - 1)) << shift);
      }
    }
    in += width * VECTOR;
    shift += width;
  }
}

/** Scale and zero of the 16 rows for one group. */
struct LaneScales {
  float scale[PANEL_ROWS];
  float zero[PANEL_ROWS];
};

inline void read_group(const Weight& w, const uint8_t* at, LaneScales& s) {
  for (int lane = 0; lane < PANEL_ROWS; lane++) {
    s.scale[lane] = read_scale(w.scale_type, at, lane);
    s.zero[lane] = w.zero == Zero::Constant ? w.zero_point : read_scale(w.scale_type, at + zeros_behind(w), lane);
  }
}

/** Columns [from, to) of an unpacked chunk, all of one group. */
inline void decode_columns_of_group(const Weight& w, const uint8_t* bytes, const LaneScales& s, int from, int to, float* out) {
  for (int k = from; k < to; k++) {
    const uint8_t* q = bytes + (k >> 2) * VECTOR + (k & 3);
    float* o = out + k * PANEL_ROWS;
    if (w.scheme == Scheme::Float8) {
      for (int lane = 0; lane < PANEL_ROWS; lane++) o[lane] = float8_value(w.mantissa, w.unit, q[lane * 4]) * s.scale[lane];
    } else if (w.scheme == Scheme::Lookup16) {
      for (int lane = 0; lane < PANEL_ROWS; lane++) o[lane] = w.table[q[lane * 4]] * s.scale[lane];
    } else {
      for (int lane = 0; lane < PANEL_ROWS; lane++) o[lane] = affine_value(w.zero, (float)q[lane * 4], s.scale[lane], s.zero[lane]);
    }
  }
}

inline void decode_superblock_chunk(const Weight& w, const uint8_t* block, int chunk, float* out) {
  uint8_t bytes[8 * VECTOR];
  unpack_chunk(w.bits, block + chunk * chunk_bytes(w.bits), bytes);
  const uint8_t* scales = block + SUPERBLOCK / CHUNK * chunk_bytes(w.bits);
  for (int lane = 0; lane < PANEL_ROWS; lane++) {
    const float d = read_scale(ScaleType::F16, scales + 256, lane);
    const float dmin = w.scheme == Scheme::Q6_K ? 0 : read_scale(ScaleType::F16, scales + 288, lane);
    for (int k = 0; k < CHUNK; k++) {
      const float q = (float)bytes[(k >> 2) * VECTOR + lane * 4 + (k & 3)];
      const uint8_t small = scales[(chunk * CHUNK + k) / w.group * PANEL_ROWS + lane];
      if (w.scheme == Scheme::Q6_K) {
        const float scale = d * (float)(int8_t)small;
        out[k * PANEL_ROWS + lane] = scale * (q - 32.0f);
      } else if (w.scheme == Scheme::Q2_K) {
        const float scale = d * (float)(small & 15);
        const float min = dmin * (float)(small >> 4);
        const float product = scale * q;
        out[k * PANEL_ROWS + lane] = product - min;
      } else {
        const float scale = d * (float)small;
        const float min = dmin * (float)scales[128 + chunk * PANEL_ROWS + lane];
        const float product = scale * q;
        out[k * PANEL_ROWS + lane] = product - min;
      }
    }
  }
}

inline void decode_level_chunk(const Weight& w, const uint8_t* block, int chunk, float* out) {
  uint8_t bytes[8 * VECTOR];
  unpack_chunk(w.bits, block + chunk * chunk_bytes(w.bits), bytes);
  const uint8_t* scales = block + SUPERBLOCK / CHUNK * chunk_bytes(w.bits);
  for (int lane = 0; lane < PANEL_ROWS; lane++) {
    const float d = read_scale(ScaleType::F16, scales + level_scale_bytes(w.group), lane);
    for (int k = 0; k < CHUNK; k++) {
      const float scale = d * (float)(int8_t)scales[(chunk * CHUNK + k) / w.group * PANEL_ROWS + lane];
      out[k * PANEL_ROWS + lane] = scale * w.unit * w.table[bytes[(k >> 2) * VECTOR + lane * 4 + (k & 3)]];
    }
  }
}

inline void decode_dense(const Weight& w, const uint8_t* panel, int from, int to, float* out) {
  for (int k = from; k < to; k++) {
    float* o = out + (k - from) * PANEL_ROWS;
    if (w.scheme == Scheme::DenseF32) {
      copy(o, panel + (size_t)k * PANEL_ROWS * 4, PANEL_ROWS * 4);
      continue;
    }
    for (int lane = 0; lane < PANEL_ROWS; lane++) {
      uint16_t half;
      if (w.scheme == Scheme::DenseF16) {
        copy(&half, panel + ((size_t)k * PANEL_ROWS + (size_t)lane) * 2, 2);
        o[lane] = from_f16(half);
      } else {
        copy(&half, panel + (size_t)(k >> 1) * VECTOR + lane * 4 + (k & 1) * 2, 2);
        o[lane] = from_bf16(half);
      }
    }
  }
}

/** Columns [from, to) of a panel as float32 [to - from][16]; `from` is a multiple of 32. */
inline void decode_panel(const Weight& w, const uint8_t* panel, int from, int to, float* out) {
  if (is_dense(w.scheme)) return decode_dense(w, panel, from, to, out);
  LaneScales scales;
  const uint8_t* read = nullptr;
  for (int k = from; k < to; k += CHUNK, out += CHUNK * PANEL_ROWS) {
    if (is_superblock(w.scheme)) {
      const uint8_t* block = panel + w.group_bytes * (size_t)(k / SUPERBLOCK);
      if (w.scheme == Scheme::Levels) decode_level_chunk(w, block, k % SUPERBLOCK / CHUNK, out);
      else decode_superblock_chunk(w, block, k % SUPERBLOCK / CHUNK, out);
      continue;
    }
    const uint8_t* span = panel + w.group_bytes * (size_t)(k / w.span);
    const int count = to - k < CHUNK ? to - k : CHUNK;
    uint8_t bytes[8 * VECTOR];
    unpack_chunk(w.bits, span + k % w.span / CHUNK * chunk_bytes(w.bits), bytes);
    for (int first = 0; first < count; first += w.group) {
      const uint8_t* at = scales_of(w, span, first / w.group);
      if (at != read) read_group(w, read = at, scales);
      decode_columns_of_group(w, bytes, scales, first, min(first + w.group, count), out);
    }
  }
}

}  // namespace
}  // namespace fb::linear
