// Decode of codes up to 7 bits: unsigned codes times int8 digits of the activations. The scale leaves the group:
//   y += s * (sum q a - z * sum a), the inner sums in integers.
// AVX2: vpmaddubsw adds two products in 16 bits and 4-bit codes leave room for eight of them before widening; AVX-512: vpdpbusd.
#pragma once
#include "digits.h"
#include "float.h"

namespace fb::linear {
namespace {

FB_INLINE I broadcast4(const uint8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, 4);
  return splat(four);
}

/** Keeps a chain of additions a chain: the compiler would make a tree of it, and spill its leaves. */
template <class V>
FB_INLINE void in_order(V& value) {
  asm("" : "+x"(value));
}

/**
 * Sums of codes x digits over k-blocks [FROM, FROM + COUNT) for all rows of a panel: sums[digit][side].
 * A broadcast serves both sides at once; kept for the other side it would only be spilled.
 */
template <int BITS, int D, int FROM, int COUNT>
FB_INLINE void dot(const uint8_t* chunk, const uint8_t* digits, I (&sums)[D][SIDES]) {
  for (int d = 0; d < D; d++) {
    for (int side = 0; side < SIDES; side++) sums[d][side] = I{};
  }
#if defined(__AVX512VNNI__)
  for (int b = FROM; b < FROM + COUNT; b++) {
    const I codes = (I)code_bytes<BITS>(chunk, b, 0);
    for (int d = 0; d < D; d++) {
      sums[d][0] = (I)_mm512_dpbusd_epi32((__m512i)sums[d][0], (__m512i)codes, (__m512i)broadcast4(digits + d * CHUNK + 4 * b));
    }
  }
#else
  constexpr int ROOM = BITS <= 4 ? 8 : BITS == 5 ? 4 : BITS == 6 ? 2 : 1;
  constexpr int STEP = ROOM < COUNT ? ROOM : COUNT;
  const __m256i ones = _mm256_set1_epi16(1);
  for (int b = FROM; b < FROM + COUNT; b += STEP) {
    __m256i pairs[D][SIDES];
    for (int i = 0; i < STEP; i++) {
      __m256i codes[SIDES];
      for (int side = 0; side < SIDES; side++) codes[side] = (__m256i)code_bytes<BITS>(chunk, b + i, side);
      for (int d = 0; d < D; d++) {
        const __m256i a = (__m256i)broadcast4(digits + d * CHUNK + 4 * (b + i));
        for (int side = 0; side < SIDES; side++) {
          const __m256i products = _mm256_maddubs_epi16(codes[side], a);
          pairs[d][side] = i ? _mm256_add_epi16(pairs[d][side], products) : products;
          in_order(pairs[d][side]);
        }
      }
    }
    for (int d = 0; d < D; d++) {
      for (int side = 0; side < SIDES; side++) sums[d][side] += (I)_mm256_madd_epi16(pairs[d][side], ones);
    }
  }
#endif
}

/** Sums of codes x activations in units of the last digit. */
template <int BITS, int D, int FROM = 0, int COUNT = 8>
FB_INLINE void dots(const uint8_t* chunk, const uint8_t* digits, F (&out)[SIDES]) {
  I sums[D][SIDES];
  dot<BITS, D, FROM, COUNT>(chunk, digits, sums);
  for (int side = 0; side < SIDES; side++) {
    if constexpr (D == 1) out[side] = to_float(sums[0][side]);
    else if constexpr (D == 2) out[side] = to_float((sums[0][side] << 7) + sums[1][side]);
    else if constexpr (BITS <= 5) out[side] = to_float((((sums[0][side] << 7) + sums[1][side]) << 7) + sums[2][side]);
    else out[side] = fma(to_float(sums[0][side]), splat(16384.0f), to_float((sums[1][side] << 7) + sums[2][side]));
  }
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
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        F sums[SIDES];
        dots<BITS, D>(tile, x.digits + at * CHUNK * D, sums);
        for (int side = 0; side < SIDES; side++) q[r][side] = fma(sums[side], splat(x.scale[at]), q[r][side]);
        total[r] += x.sum[2 * at] + x.sum[2 * at + 1];
      }
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
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        F sums[SIDES];
        dots<BITS, D>(chunk, x.digits + at * CHUNK * D, sums);
        for (int side = 0; side < SIDES; side++) {
          const F s = load_u8(scales + c * PANEL_ROWS + side * LANES), min = load_u8(scales + 128 + c * PANEL_ROWS + side * LANES);
          q[r][side] = fma(sums[side], s * splat(x.scale[at]), q[r][side]);
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
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        const uint8_t* digits = x.digits + at * CHUNK * D;
        const F scale = splat(x.scale[at]);
        F first[SIDES], second[SIDES];
        dots<6, D, 0, 4>(chunk, digits, first);
        dots<6, D, 4, 4>(chunk, digits, second);
        for (int side = 0; side < SIDES; side++) {
          const F low = load_i8(scales + c * 32 + side * LANES), high = load_i8(scales + c * 32 + 16 + side * LANES);
          q[r][side] = fma(low, first[side] * scale - splat(32 * x.sum[2 * at]), q[r][side]);
          q[r][side] = fma(high, second[side] * scale - splat(32 * x.sum[2 * at + 1]), q[r][side]);
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
