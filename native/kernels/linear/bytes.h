// Decode of codes up to 7 bits: unsigned codes times int8 digits of the activations. The scale leaves the group:
//   y += s * (sum q a - z * sum a), the inner sums in integers.
// AVX2: vpmaddubsw adds two products in 16 bits and 4-bit codes leave room for eight of them before widening; AVX-512: vpdpbusd.
#pragma once
#include "digits.h"
#include "float.h"

namespace fb::linear {
namespace {

/** The 8 k-blocks of one side of a chunk. */
template <int BITS>
FB_INLINE void open_chunk(const uint8_t* chunk, int side, I* blocks) {
  for (int b = 0; b < 8; b++) blocks[b] = (I)code_bytes<BITS>(chunk, b, side);
}

FB_INLINE I broadcast4(const uint8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  return splat(four);
}

/** Sum of codes x one digit over COUNT k-blocks, a row a lane. */
template <int BITS, int COUNT>
FB_INLINE I dot(const I* blocks, const uint8_t* digit) {
#if defined(__AVX512VNNI__)
  I sum = {};
  for (int b = 0; b < COUNT; b++) sum = (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)blocks[b], (__m512i)broadcast4(digit + 4 * b));
  return sum;
#else
  constexpr int ROOM = BITS <= 4 ? 8 : BITS == 5 ? 4 : BITS == 6 ? 2 : 1;
  constexpr int STEP = ROOM < COUNT ? ROOM : COUNT;
  const __m256i ones = _mm256_set1_epi16(1);
  I sum = {};
  for (int b = 0; b < COUNT; b += STEP) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)blocks[b], (__m256i)broadcast4(digit + 4 * b));
    for (int i = 1; i < STEP; i++) {
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16((__m256i)blocks[b + i], (__m256i)broadcast4(digit + 4 * (b + i))));
    }
    sum += (I)_mm256_madd_epi16(pairs, ones);
  }
  return sum;
#endif
}

/** Sum of codes x activations in units of the last digit. */
template <int BITS, int D, int COUNT = 8>
FB_INLINE F dots(const I* blocks, const uint8_t* digits) {
  const I first = dot<BITS, COUNT>(blocks, digits);
  if (D == 1) return to_float(first);
  const I second = dot<BITS, COUNT>(blocks, digits + CHUNK);
  if (D == 2) return to_float((first << 7) + second);
  const I third = dot<BITS, COUNT>(blocks, digits + 2 * CHUNK);
  const I rest = (second << 7) + third;
  if (BITS <= 5) return to_float((first << 14) + rest);
  return fma(to_float(first), splat(16384.0f), to_float(rest));
}

constexpr int SLICE = 8;  // rows that share one pass over the weight

/** Sums of one slice of rows; with ONE row the compiler keeps them in registers. */
template <bool ONE>
struct Rows {
  static constexpr int MOST = ONE ? 1 : SLICE;
  int given;
  Digits x[MOST];
  F y[MOST][SIDES];
  FB_INLINE int count() const { return ONE ? 1 : given; }
};

FB_INLINE void prefetch_chunk(const uint8_t* chunk, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(chunk + AHEAD + i);
}

/** y += s * (q - z * total) for one group. */
FB_INLINE void close_group(const Weight& w, const uint8_t* scales, int side, F q, float total, F& y) {
  const F s = load_scale(w.scale_type, scales, side);
  const F a = splat(total);
  if (w.zero == Zero::Constant) {
    y = fma(s, q - splat(w.zero_point) * a, y);
    return;
  }
  const F z = load_scale(w.scale_type, scales + PANEL_ROWS * scale_bytes(w.scale_type), side);
  if (w.zero == Zero::Point) y = fma(s, q - z * a, y);
  else y = fma(z, a, fma(s, q, y));
}

template <int BITS, int D, bool ONE>
FB_INLINE void affine_panel(const Weight& w, const uint8_t* tile, Rows<ONE>& rows) {
  const int chunks = chunks_of(w.group), groups = w.k / w.group;
  int at = 0;
  for (int g = 0; g < groups; g++) {
    F q[Rows<ONE>::MOST][SIDES] = {};
    float total[Rows<ONE>::MOST] = {};
    for (int c = 0; c < chunks; c++, at++, tile += chunk_bytes(BITS)) {
      prefetch_chunk(tile, chunk_bytes(BITS));
      for (int side = 0; side < SIDES; side++) {
        I blocks[8];
        open_chunk<BITS>(tile, side, blocks);
        for (int r = 0; r < rows.count(); r++) {
          q[r][side] = fma(dots<BITS, D>(blocks, rows.x[r].digits + at * CHUNK * D), splat(rows.x[r].scale[at]), q[r][side]);
        }
      }
      for (int r = 0; r < rows.count(); r++) total[r] += rows.x[r].sum[2 * at] + rows.x[r].sum[2 * at + 1];
    }
    __builtin_prefetch(tile + AHEAD);
    for (int r = 0; r < rows.count(); r++) {
      for (int side = 0; side < SIDES; side++) close_group(w, tile, side, q[r][side], total[r], rows.y[r][side]);
    }
    tile += PANEL_ROWS * scale_bytes(w.scale_type) * (w.zero == Zero::Constant ? 1 : 2);
  }
}

/** Q4_K and Q5_K: y += d * sum s_g q_g - dmin * sum m_g a_g over the 8 groups of a superblock. */
template <int BITS, int D, bool ONE>
FB_INLINE void superblock_panel(const Weight& w, const uint8_t* tile, Rows<ONE>& rows) {
  for (int at = 0; at < w.k / CHUNK; tile += w.group_bytes) {
    const uint8_t* scales = tile + SUPERBLOCK / CHUNK * chunk_bytes(BITS);
    F q[Rows<ONE>::MOST][SIDES] = {}, m[Rows<ONE>::MOST][SIDES] = {};
    for (int c = 0; c < SUPERBLOCK / CHUNK; c++, at++) {
      const uint8_t* chunk = tile + c * chunk_bytes(BITS);
      prefetch_chunk(chunk, chunk_bytes(BITS));
      for (int side = 0; side < SIDES; side++) {
        I blocks[8];
        open_chunk<BITS>(chunk, side, blocks);
        const F s = load_u8(scales + c * PANEL_ROWS + side * LANES), min = load_u8(scales + 128 + c * PANEL_ROWS + side * LANES);
        for (int r = 0; r < rows.count(); r++) {
          const Digits& x = rows.x[r];
          q[r][side] = fma(dots<BITS, D>(blocks, x.digits + at * CHUNK * D), s * splat(x.scale[at]), q[r][side]);
          m[r][side] = fma(min, splat(x.sum[2 * at] + x.sum[2 * at + 1]), m[r][side]);
        }
      }
    }
    for (int side = 0; side < SIDES; side++) {
      const F d = load_f16(scales + 256 + side * LANES * 2), dmin = load_f16(scales + 288 + side * LANES * 2);
      for (int r = 0; r < rows.count(); r++) rows.y[r][side] = fma(d, q[r][side], rows.y[r][side]) - dmin * m[r][side];
    }
  }
}

/** Q6_K: y += d * sum s_g (q_g - 32 a_g) over the 16 groups of 16. */
template <int D, bool ONE>
FB_INLINE void q6_panel(const Weight& w, const uint8_t* tile, Rows<ONE>& rows) {
  for (int at = 0; at < w.k / CHUNK; tile += w.group_bytes) {
    const uint8_t* scales = tile + SUPERBLOCK / CHUNK * chunk_bytes(6);
    F q[Rows<ONE>::MOST][SIDES] = {};
    for (int c = 0; c < SUPERBLOCK / CHUNK; c++, at++) {
      const uint8_t* chunk = tile + c * chunk_bytes(6);
      prefetch_chunk(chunk, chunk_bytes(6));
      for (int side = 0; side < SIDES; side++) {
        I blocks[8];
        open_chunk<6>(chunk, side, blocks);
        const F low = load_i8(scales + c * 32 + side * LANES), high = load_i8(scales + c * 32 + 16 + side * LANES);
        for (int r = 0; r < rows.count(); r++) {
          const Digits& x = rows.x[r];
          const uint8_t* digits = x.digits + at * CHUNK * D;
          const F scale = splat(x.scale[at]);
          const F first = dots<6, D, 4>(blocks, digits) * scale - splat(32 * x.sum[2 * at]);
          const F second = dots<6, D, 4>(blocks + 4, digits + 16) * scale - splat(32 * x.sum[2 * at + 1]);
          q[r][side] = fma(high, second, fma(low, first, q[r][side]));
        }
      }
    }
    for (int side = 0; side < SIDES; side++) {
      const F d = load_f16(scales + 256 + side * LANES * 2);
      for (int r = 0; r < rows.count(); r++) rows.y[r][side] = fma(d, q[r][side], rows.y[r][side]);
    }
  }
}

template <int D, bool ONE>
FB_INLINE void bytes_panel(const Weight& w, const uint8_t* tile, Rows<ONE>& rows) {
  switch (w.scheme) {
    case Scheme::Q4_K: return superblock_panel<4, D>(w, tile, rows);
    case Scheme::Q5_K: return superblock_panel<5, D>(w, tile, rows);
    case Scheme::Q6_K: return q6_panel<D>(w, tile, rows);
    default: break;
  }
  switch (w.bits) {
    case 1: return affine_panel<1, D>(w, tile, rows);
    case 2: return affine_panel<2, D>(w, tile, rows);
    case 3: return affine_panel<3, D>(w, tile, rows);
    case 4: return affine_panel<4, D>(w, tile, rows);
    case 5: return affine_panel<5, D>(w, tile, rows);
    case 6: return affine_panel<6, D>(w, tile, rows);
    default: return affine_panel<7, D>(w, tile, rows);
  }
}

template <int D, bool ONE>
FB_NOINLINE void bytes_slice(const Call& c, Form f, int panel, int row_from, int count) {
  const Weight& w = *c.weight;
  Rows<ONE> rows = {};
  rows.given = count;
  for (int r = 0; r < rows.count(); r++) rows.x[r] = row_of(c.scratch, f, w.k, row_from + r);
  bytes_panel<D>(w, panel_of(w, panel), rows);
  for (int r = 0; r < rows.count(); r++) {
    float sums[PANEL_ROWS];
    for (int side = 0; side < SIDES; side++) store(sums + side * LANES, rows.y[r][side]);
    finish(c, row_from + r, panel, sums);
  }
}

template <int D>
void bytes_decode(const Call& c, Form f, int panel) {
  for (int row = 0; row < c.rows; row += SLICE) {
    const int count = c.rows - row < SLICE ? c.rows - row : SLICE;
    if (count == 1) bytes_slice<D, true>(c, f, panel, row, 1);
    else bytes_slice<D, false>(c, f, panel, row, count);
  }
}

}  // namespace
}  // namespace fb::linear
