// Pieces of a panel as float32 [k][16], a vector of rows at a time: the decoder of every scheme for the float kernels.
#pragma once
#include "../simd/vector.h"
#include "additive-tile.h"
#include "float8.h"
#include "layout.h"

namespace fb::linear {
namespace {

constexpr int SIDES = PANEL_ROWS / LANES;  // vectors that hold one k of a panel

FB_INLINE F load_scale(ScaleType type, const uint8_t* at, int side) {
  if (type == ScaleType::F16) return load_f16(at + side * LANES * 2);
  if (type == ScaleType::BF16) return load_bf16(at + side * LANES * 2);
  return load<F>(at + side * LANES * 4);
}

/** Codes of k-block `block` of a chunk, four bytes a row. */
template <int BITS>
FB_INLINE U code_bytes(const uint8_t* chunk, int block, int side) {
  U out = {};
  int place = 0;  // of the plane's bits in a code
  for (int width = 8; width; width >>= 1) {
    if (!(BITS & width)) continue;
    const int per_byte = 8 / width, right = block % per_byte * width - place;
    const U bytes = load<U>(chunk + block / per_byte * VECTOR + side * LANES * 4);
    out |= (right < 0 ? bytes << (0 - right) : bytes >> right) & 0x01010101u * (((1u << width) - 1) << place);
    chunk += width * VECTOR;
    place += width;
  }
  return out;
}

/** out[k] = of(code) for the columns [from, to) of one chunk and one side. */
template <int BITS, class Of>
FB_INLINE void for_codes(const uint8_t* chunk, int side, int from, int to, float* out, Of of) {
  for (int block = from / 4; block * 4 < to; block++) {
    const U bytes = code_bytes<BITS>(chunk, block, side);
    for (int j = 0; j < 4; j++) store(out + (block * 4 + j) * PANEL_ROWS + side * LANES, of(bytes >> (8 * j) & 0xff));
  }
}

template <int BITS>
void affine_chunk(const Weight& w, const uint8_t* chunk, const uint8_t* scales, int from, int to, float* out) {
  for (int side = 0; side < SIDES; side++) {
    const F s = load_scale(w.scale_type, scales, side);
    const F z = w.zero == Zero::Constant ? splat(w.zero_point) : load_scale(w.scale_type, scales + zeros_behind(w), side);
    if (w.zero == Zero::Shift) for_codes<BITS>(chunk, side, from, to, out, [&](U q) FB_LAMBDA { return to_float((I)q) * s + z; });
    else for_codes<BITS>(chunk, side, from, to, out, [&](U q) FB_LAMBDA { return (to_float((I)q) - z) * s; });
  }
}

void lookup_chunk(const Weight& w, const uint8_t* chunk, const uint8_t* scales, int from, int to, float* out) {
  for (int side = 0; side < SIDES; side++) {
    const F s = load_scale(w.scale_type, scales, side);
    for_codes<4>(chunk, side, from, to, out, [&](U q) FB_LAMBDA { return pick16(w.table, q) * s; });
  }
}

template <int M>
void float8_chunk(const Weight& w, const uint8_t* chunk, const uint8_t* scales, int count, float* out) {
  for (int side = 0; side < SIDES; side++) {
    const F s = load_scale(w.scale_type, scales, side);
    const auto write = [&](int k, F value) FB_LAMBDA { store(out + k * PANEL_ROWS + side * LANES, value * splat(power_of_two(FLOAT8_HALF)) * splat(w.unit) * s); };
    for (int k = 0; k < count; k += 4) {
      const U codes = load<U>(chunk + k / 4 * VECTOR + side * LANES * 4);
      write(k, float8_of_byte<M, 0>(codes));
      write(k + 1, float8_of_byte<M, 1>(codes));
      write(k + 2, float8_of_byte<M, 2>(codes));
      write(k + 3, float8_of_byte<M, 3>(codes));
    }
  }
}

/** Scales (low nibbles) and minima of Q2_K, LANES of each. */
struct Nibbles {
  F low, high;
};
FB_INLINE Nibbles load_nibbles(const uint8_t* from) {
  const I both = load_bytes(from);
  return {to_float(both & 15), to_float(both >> 4)};
}

template <int BITS>
void superblock_chunk(const uint8_t* block, int index, float* out) {
  const uint8_t* chunk = block + index * chunk_bytes(BITS);
  const uint8_t* scales = block + SUPERBLOCK / CHUNK * chunk_bytes(BITS);
  for (int side = 0; side < SIDES; side++) {
    const F d = load_f16(scales + 256 + side * LANES * 2);
    if (BITS == 6) {
      const F low = d * load_i8(scales + index * 32 + side * LANES), high = d * load_i8(scales + index * 32 + 16 + side * LANES);
      for (int b = 0; b < 8; b++) {
        const U bytes = code_bytes<6>(chunk, b, side);
        for (int j = 0; j < 4; j++) store(out + (b * 4 + j) * PANEL_ROWS + side * LANES, (b < 4 ? low : high) * to_float((I)(bytes >> (8 * j) & 0xff) - 32));
      }
    } else if (BITS == 2) {
      const F dmin = load_f16(scales + 288 + side * LANES * 2);
      for (int half = 0; half < 2; half++) {
        const Nibbles n = load_nibbles(scales + (2 * index + half) * PANEL_ROWS + side * LANES);
        const F scale = d * n.low, min = dmin * n.high;
        for (int b = 4 * half; b < 4 * half + 4; b++) {
          const U bytes = code_bytes<2>(chunk, b, side);
          for (int j = 0; j < 4; j++) store(out + (b * 4 + j) * PANEL_ROWS + side * LANES, scale * to_float((I)(bytes >> (8 * j) & 0xff)) - min);
        }
      }
    } else {
      const F scale = d * load_u8(scales + index * 16 + side * LANES);
      const F min = load_f16(scales + 288 + side * LANES * 2) * load_u8(scales + 128 + index * 16 + side * LANES);
      for_codes<BITS>(chunk, side, 0, CHUNK, out, [&](U q) FB_LAMBDA { return scale * to_float((I)q) - min; });
    }
  }
}

template <int BITS>
void level_chunk(const Weight& w, const uint8_t* block, int index, float* out) {
  const uint8_t* chunk = block + index * chunk_bytes(BITS);
  const uint8_t* scales = block + SUPERBLOCK / CHUNK * chunk_bytes(BITS);
  const int group = w.group;
  for (int side = 0; side < SIDES; side++) {
    const F d = load_f16(scales + level_scale_bytes(group) + side * LANES * 2) * splat(w.unit);
    const F low = d * load_i8(scales + index * CHUNK / group * PANEL_ROWS + side * LANES);
    const F high = d * load_i8(scales + (index * CHUNK + 16) / group * PANEL_ROWS + side * LANES);
    for (int b = 0; b < 8; b++) {
      const U codes = code_bytes<BITS>(chunk, b, side);
      for (int j = 0; j < 4; j++)
        store(out + (b * 4 + j) * PANEL_ROWS + side * LANES, (b < 4 ? low : high) * pick16(w.table, codes >> (8 * j) & 0xff));
    }
  }
}

void dense_piece(const Weight& w, const uint8_t* panel, int from, int to, float* out) {
  for (int k = from; k < to; k++, out += PANEL_ROWS) {
    for (int side = 0; side < SIDES; side++) {
      if (w.scheme == Scheme::DenseF16) {
        store(out + side * LANES, load_f16(panel + ((size_t)k * PANEL_ROWS + (size_t)(side * LANES)) * 2));
      } else {
        const U pair = load<U>(panel + (size_t)(k >> 1) * VECTOR + side * LANES * 4);
        store(out + side * LANES, k & 1 ? pair & 0xffff0000u : pair << 16);
      }
    }
  }
}

void affine_bits(const Weight& w, const uint8_t* chunk, const uint8_t* scales, int from, int to, float* out) {
  switch (w.bits) {
    case 1: return affine_chunk<1>(w, chunk, scales, from, to, out);
    case 2: return affine_chunk<2>(w, chunk, scales, from, to, out);
    case 3: return affine_chunk<3>(w, chunk, scales, from, to, out);
    case 4: return affine_chunk<4>(w, chunk, scales, from, to, out);
    case 5: return affine_chunk<5>(w, chunk, scales, from, to, out);
    case 6: return affine_chunk<6>(w, chunk, scales, from, to, out);
    case 7: return affine_chunk<7>(w, chunk, scales, from, to, out);
    default: return affine_chunk<8>(w, chunk, scales, from, to, out);
  }
}

/** table[index], LANES of them. */
FB_INLINE F pick(const float* table, I index) {
#if defined(__AVX512F__)
  return (F)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
  return (F)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
  return F{table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
#endif
}

/** Codes of LANES rows. */
FB_INLINE I load_codes(const uint8_t* from, bool wide) {
  I out;
  for (int lane = 0; lane < LANES; lane++) out[lane] = wide ? from[2 * lane] | from[2 * lane + 1] << 8 : from[lane];
  return out;
}

void additive_piece(const Weight& w, const uint8_t* panel, int from, int to, float* out) {
  const AdditiveRows rows = additive_rows(w, panel);
  const bool wide = w.bits > 8;
  const int entries = 1 << w.bits;
  for (int side = 0; side < SIDES; side++) {
    const F scale = load<F>(rows.scales + side * LANES);
    I first;
    for (int lane = 0; lane < LANES; lane++) first[lane] = (rows.first + side * LANES + lane) % w.out * w.group * entries;
    for (int k = from; k < to;) {
      const int j = k / w.group, end = min(to, (j + 1) * w.group);
      const uint8_t* codes = rows.codes + (size_t)j * (size_t)w.codebooks * ADDITIVE_ROWS * (size_t)(wide ? 2 : 1) + side * LANES * (wide ? 2 : 1);
      for (; k < end; k++) {
        F sum = {};
        for (int c = 0; c < w.codebooks; c++) {
          const I index = load_codes(codes + c * ADDITIVE_ROWS * (wide ? 2 : 1), wide) + first;
          sum += pick(rows.codebooks + ((size_t)c * (size_t)(w.out * w.group) + (size_t)(k - j * w.group)) * (size_t)entries, index);
        }
        store(out + (k - from) * PANEL_ROWS + side * LANES, sum * scale);
      }
    }
  }
}

/** Columns [from, to) of a panel; `from` is a multiple of 32, `out` has room for whole chunks. Not for DenseF32, whose tile is this already. */
void piece_of(const Weight& w, const uint8_t* panel, int from, int to, float* out) {
  if (is_dense(w.scheme)) return dense_piece(w, panel, from, to, out);
  if (w.scheme == Scheme::Additive) return additive_piece(w, panel, from, to, out);
  for (int k = from; k < to; k += CHUNK, out += CHUNK * PANEL_ROWS) {
    if (is_superblock(w.scheme)) {
      const uint8_t* block = panel + w.group_bytes * (size_t)(k / SUPERBLOCK);
      const int index = k % SUPERBLOCK / CHUNK;
      if (w.scheme == Scheme::Levels && w.bits == 3) level_chunk<3>(w, block, index, out);
      else if (w.scheme == Scheme::Levels) level_chunk<4>(w, block, index, out);
      else if (w.bits == 2) superblock_chunk<2>(block, index, out);
      else if (w.bits == 4) superblock_chunk<4>(block, index, out);
      else if (w.bits == 5) superblock_chunk<5>(block, index, out);
      else superblock_chunk<6>(block, index, out);
      continue;
    }
    const uint8_t* span = panel + w.group_bytes * (size_t)(k / w.span);
    const uint8_t* chunk = span + k % w.span / CHUNK * chunk_bytes(w.bits);
    const int count = to - k < CHUNK ? to - k : CHUNK;
    for (int first = 0; first < count; first += w.group) {
      const uint8_t* scales = scales_of(w, span, first / w.group);
      const int end = min(first + w.group, count);
      if (w.scheme == Scheme::Lookup16) lookup_chunk(w, chunk, scales, first, end, out);
      else if (w.scheme == Scheme::Float8 && w.mantissa == 2) float8_chunk<2>(w, chunk, scales, count, out);
      else if (w.scheme == Scheme::Float8) float8_chunk<3>(w, chunk, scales, count, out);
      else affine_bits(w, chunk, scales, first, end, out);
    }
  }
}

}  // namespace
}  // namespace fb::linear
