// The decode kernel: a slice of up to 8 rows in one pass over a panel. The scale leaves the group,
//   y += s * (sum q a - z * sum a),
// and the inner sums are integers (bytes.h, words.h), so they do not depend on an order; one row or eight, each has the same operations.
#pragma once
#include "float.h"
#include "words.h"
#if defined(__AVX2__)
#include "bytes.h"
#endif

namespace fb::linear {
namespace {

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

/**
 * What comes is fetched line after line, scales as well: the machine's own prefetching follows such a stream, any gap or jump back costs.
 * Not where a line takes a handful of instructions: there the machine runs ahead by itself, faster.
 */
template <int BITS>
struct Stream {
  static constexpr bool LIGHT = LANES == 16 && BITS == 8;
  const uint8_t* next;

  FB_INLINE explicit Stream(const uint8_t* from) : next(from + AHEAD) {}
  FB_INLINE void fetch(int bytes) {
    for (int i = 0; i < bytes && !LIGHT; i += 64) __builtin_prefetch(next + i);
    next += bytes;
  }
};

/** A chunk's share of a superblock, its codes and some of the scales. */
FB_INLINE constexpr int share_of_superblock(int bits, int scales) { return chunk_bytes(bits) + scales * CHUNK / SUPERBLOCK; }

/** y += s * (q - z * total) for one group. */
FB_INLINE void close_group(const Weight& w, const uint8_t* scales, int side, F q, float total, F& y) {
  const F s = load_scale(w.scale_type, scales, side);
  if (w.scheme == Scheme::Lookup16) {
    y = fma(s, q, y);
    return;
  }
  const F a = splat(total);
  if (w.zero == Zero::Constant) {
    y = fma(s, q - splat(w.zero_point) * a, y);
    return;
  }
  const F z = load_scale(w.scale_type, scales + zeros_behind(w), side);
  if (w.zero == Zero::Point) y = fma(s, q - z * a, y);
  else y = fma(z, a, fma(s, q, y));
}

/** Groups of 16: two a chunk. */
template <class Dots, bool ONE>
FB_INLINE void halves_panel(const Weight& w, const Dots& dots, const uint8_t* tile, Rows<ONE>& rows) {
  Stream<Dots::bits> stream(tile);
  for (int at = 0; at < chunks_of(w.k); at++, tile += w.group_bytes) {
    stream.fetch((int)w.group_bytes);
    const uint8_t* scales = tile + chunk_bytes(Dots::bits);
    for (int r = 0; r < rows.count(); r++) {
      const Digits& x = rows.x[r];
      const uint8_t* digits = x.digits + at * Dots::step;
      F first[SIDES], second[SIDES];
      dots.template sums<0, 4>(tile, digits, first);
      dots.template sums<4, 4>(tile, digits + Dots::half, second);
      const F scale = splat(x.scale[at]);
      for (int side = 0; side < SIDES; side++) {
        close_group(w, scales, side, first[side] * scale, x.sum[2 * at], rows.y[r][side]);
        close_group(w, scales + PANEL_ROWS * scale_bytes(w.scale_type), side, second[side] * scale, x.sum[2 * at + 1], rows.y[r][side]);
      }
    }
  }
}

template <class Dots, bool ONE>
FB_INLINE void group_panel(const Weight& w, const Dots& dots, const uint8_t* tile, Rows<ONE>& rows) {
  if (w.span != w.group) return halves_panel(w, dots, tile, rows);
  const int chunks = chunks_of(w.group), groups = w.k / w.group;
  const int scales = PANEL_ROWS * scale_bytes(w.scale_type) * (w.zero == Zero::Constant ? 1 : 2);
  Stream<Dots::bits> stream(tile);
  int at = 0;
  for (int g = 0; g < groups; g++) {
    F q[Rows<ONE>::MOST][SIDES] = {};
    float total[Rows<ONE>::MOST] = {};
    for (int c = 0; c < chunks; c++, at++, tile += chunk_bytes(Dots::bits)) {
      stream.fetch(chunk_bytes(Dots::bits));
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        F sums[SIDES];
        dots.sums(tile, x.digits + at * Dots::step, sums);
        for (int side = 0; side < SIDES; side++) q[r][side] = fma(sums[side], splat(x.scale[at]), q[r][side]);
        total[r] += x.sum[2 * at] + x.sum[2 * at + 1];
      }
    }
    stream.fetch(scales);
    for (int r = 0; r < rows.count(); r++) {
      for (int side = 0; side < SIDES; side++) close_group(w, tile, side, q[r][side], total[r], rows.y[r][side]);
    }
    tile += scales;
  }
}

/** Q4_K and Q5_K: y += d * sum s_g q_g - dmin * sum m_g a_g over the 8 groups of a superblock. */
template <class Dots, bool ONE>
FB_INLINE void superblock_panel(const Weight& w, const Dots& dots, const uint8_t* tile, Rows<ONE>& rows) {
  Stream<Dots::bits> stream(tile);
  for (int at = 0; at < w.k / CHUNK; tile += w.group_bytes) {
    const uint8_t* scales = tile + SUPERBLOCK / CHUNK * chunk_bytes(Dots::bits);
    F q[Rows<ONE>::MOST][SIDES] = {}, m[Rows<ONE>::MOST][SIDES] = {};
    for (int c = 0; c < SUPERBLOCK / CHUNK; c++, at++) {
      const uint8_t* chunk = tile + c * chunk_bytes(Dots::bits);
      stream.fetch(share_of_superblock(Dots::bits, SUPERBLOCK_SCALES));
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        F sums[SIDES];
        dots.sums(chunk, x.digits + at * Dots::step, sums);
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

/** Q2_K: y += d * sum s_g q_g - dmin * sum m_g a_g over the 16 groups of a superblock. */
template <class Dots, bool ONE>
FB_INLINE void q2_panel(const Weight& w, const Dots& dots, const uint8_t* tile, Rows<ONE>& rows) {
  Stream<Dots::bits> stream(tile);
  for (int at = 0; at < w.k / CHUNK; tile += w.group_bytes) {
    const uint8_t* scales = tile + SUPERBLOCK / CHUNK * chunk_bytes(Dots::bits);
    F q[Rows<ONE>::MOST][SIDES] = {}, m[Rows<ONE>::MOST][SIDES] = {};
    for (int c = 0; c < SUPERBLOCK / CHUNK; c++, at++) {
      const uint8_t* chunk = tile + c * chunk_bytes(Dots::bits);
      stream.fetch(share_of_superblock(Dots::bits, SUPERBLOCK_SCALES));
      Nibbles first[SIDES], second[SIDES];
      for (int side = 0; side < SIDES; side++) {
        first[side] = load_nibbles(scales + c * 2 * PANEL_ROWS + side * LANES);
        second[side] = load_nibbles(scales + (c * 2 + 1) * PANEL_ROWS + side * LANES);
      }
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        const uint8_t* digits = x.digits + at * Dots::step;
        const F scale = splat(x.scale[at]), left = splat(x.sum[2 * at]), right = splat(x.sum[2 * at + 1]);
        F low[SIDES], high[SIDES];
        dots.template sums<0, 4>(chunk, digits, low);
        dots.template sums<4, 4>(chunk, digits + Dots::half, high);
        for (int side = 0; side < SIDES; side++) {
          q[r][side] = fma(fma(low[side], first[side].low, high[side] * second[side].low), scale, q[r][side]);
          m[r][side] = fma(first[side].high, left, fma(second[side].high, right, m[r][side]));
        }
      }
    }
    for (int side = 0; side < SIDES; side++) {
      const F d = load_f16(scales + 256 + side * LANES * 2), dmin = load_f16(scales + 288 + side * LANES * 2);
      for (int r = 0; r < rows.count(); r++) rows.y[r][side] = fma(d, q[r][side], rows.y[r][side]) - dmin * m[r][side];
    }
  }
}

/** Q6_K and levels: y += d * unit * sum s_g (q_g - zero * a_g) over the groups of a superblock, of 16 or 32. */
template <int GROUP, class Dots, bool ONE>
FB_INLINE void scaled_panel(const Weight& w, const Dots& dots, float zero, float unit, const uint8_t* tile, Rows<ONE>& rows) {
  Stream<Dots::bits> stream(tile);
  for (int at = 0; at < w.k / CHUNK; tile += w.group_bytes) {
    const uint8_t* scales = tile + SUPERBLOCK / CHUNK * chunk_bytes(Dots::bits);
    F q[Rows<ONE>::MOST][SIDES] = {};
    for (int c = 0; c < SUPERBLOCK / CHUNK; c++, at++) {
      const uint8_t* chunk = tile + c * chunk_bytes(Dots::bits);
      stream.fetch(share_of_superblock(Dots::bits, level_scale_bytes(GROUP) + VECTOR));
      for (int r = 0; r < rows.count(); r++) {
        const Digits& x = rows.x[r];
        const uint8_t* digits = x.digits + at * Dots::step;
        const F scale = splat(x.scale[at]);
        F first[SIDES], second[SIDES];
        if constexpr (GROUP == 32) {
          dots.sums(chunk, digits, first);
          const F shift = splat(0 - zero * (x.sum[2 * at] + x.sum[2 * at + 1]));
          for (int side = 0; side < SIDES; side++) q[r][side] = fma(load_i8(scales + c * 16 + side * LANES), fma(first[side], scale, shift), q[r][side]);
          continue;
        }
        dots.template sums<0, 4>(chunk, digits, first);
        dots.template sums<4, 4>(chunk, digits + Dots::half, second);
        const F left = splat(0 - zero * x.sum[2 * at]), right = splat(0 - zero * x.sum[2 * at + 1]);
        for (int side = 0; side < SIDES; side++) {
          const F low = load_i8(scales + c * 32 + side * LANES), high = load_i8(scales + c * 32 + 16 + side * LANES);
          q[r][side] = fma(low, fma(first[side], scale, left), q[r][side]);
          q[r][side] = fma(high, fma(second[side], scale, right), q[r][side]);
        }
      }
    }
    for (int side = 0; side < SIDES; side++) {
      const F d = load_f16(scales + level_scale_bytes(GROUP) + side * LANES * 2) * splat(unit);
      for (int r = 0; r < rows.count(); r++) rows.y[r][side] = fma(d, q[r][side], rows.y[r][side]);
    }
  }
}

#if defined(FB_WORDS)
/** The panel of a weight by its code width. */
template <template <int, int> class Dots, int D, bool ONE>
FB_INLINE void panel_of_bits(const Weight& w, const uint8_t* tile, Rows<ONE>& rows) {
  switch (w.scheme) {
    case Scheme::Q2_K: return q2_panel(w, Dots<2, D>(), tile, rows);
    case Scheme::Q4_K: return superblock_panel(w, Dots<4, D>(), tile, rows);
    case Scheme::Q5_K: return superblock_panel(w, Dots<5, D>(), tile, rows);
    case Scheme::Q6_K: return scaled_panel<16>(w, Dots<6, D>(), 32, 1, tile, rows);
    default: break;
  }
  switch (w.bits) {
    case 1: return group_panel(w, Dots<1, D>(), tile, rows);
    case 2: return group_panel(w, Dots<2, D>(), tile, rows);
    case 3: return group_panel(w, Dots<3, D>(), tile, rows);
    case 4: return group_panel(w, Dots<4, D>(), tile, rows);
    case 5: return group_panel(w, Dots<5, D>(), tile, rows);
    case 6: return group_panel(w, Dots<6, D>(), tile, rows);
    case 7: return group_panel(w, Dots<7, D>(), tile, rows);
    default: return group_panel(w, Dots<8, D>(), tile, rows);
  }
}

template <template <class, int> class Dots, int D, class Codes, bool ONE>
FB_INLINE void level_panel(const Weight& w, Codes codes, const uint8_t* tile, Rows<ONE>& rows) {
  const Dots<Codes, D> dots = {codes};
  if (w.group == 16) scaled_panel<16>(w, dots, 0 - w.table[0], w.unit, tile, rows);
  else scaled_panel<32>(w, dots, 0 - w.table[0], w.unit, tile, rows);
}

template <template <class, int> class Dots, int D, bool ONE>
FB_INLINE void level_panel_of_bits(const Weight& w, const uint8_t* tile, Rows<ONE>& rows) {
  // Q3_K: a code is its level's distance from the first one.
  if (w.table[7] - w.table[0] == 7) return scaled_panel<16>(w, Dots<PlainCodes<3>, D>(), 0 - w.table[0], w.unit, tile, rows);
  if (w.bits == 3) level_panel<Dots, D>(w, LevelCodes<3>(w.table), tile, rows);
  else level_panel<Dots, D>(w, LevelCodes<4>(w.table), tile, rows);
}

template <int D, bool ONE>
FB_INLINE void panel_of_form(const Weight& w, [[maybe_unused]] Form f, const uint8_t* tile, Rows<ONE>& rows) {
#if defined(__AVX2__)
  if (f.bytes == 1 && w.scheme == Scheme::Levels) return level_panel_of_bits<CodeByteDots, D>(w, tile, rows);
  if (f.bytes == 1) return panel_of_bits<ByteDots, D>(w, tile, rows);
#endif
  if constexpr (D <= 2) {
    if (w.scheme == Scheme::Lookup16) return group_panel(w, LookupDots<D>(w), tile, rows);
#if !defined(__AVX512VNNI__)
    if (w.scheme == Scheme::Levels) return level_panel_of_bits<CodeWordDots, D>(w, tile, rows);
#endif
#if defined(__AVX2__)  // narrower codes take bytes
    return group_panel(w, WordDots<8, D>(), tile, rows);
#else
    return panel_of_bits<WordDots, D>(w, tile, rows);
#endif
  }
}

template <int D, bool ONE>
FB_NOINLINE void slice(const Call& c, Form f, int panel, int row_from, int count) {
  const Weight& w = *c.weight;
  Rows<ONE> rows = {};
  rows.given = count;
  for (int r = 0; r < rows.count(); r++) rows.x[r] = row_of(c.scratch, f, w.k, row_from + r);
  panel_of_form<D>(w, f, panel_of(w, panel), rows);
  for (int r = 0; r < rows.count(); r++) {
    float sums[PANEL_ROWS];
    for (int side = 0; side < SIDES; side++) store(sums + side * LANES, rows.y[r][side]);
    finish(c, row_from + r, panel, sums);
  }
}

template <int D>
void matvec_panel(const Call& c, Form f, int panel) {
  for (int row = 0; row < c.rows; row += SLICE) {
    const int count = c.rows - row < SLICE ? c.rows - row : SLICE;
    if (count == 1) slice<D, true>(c, f, panel, row, 1);
    else slice<D, false>(c, f, panel, row, count);
  }
}

#endif

}  // namespace
}  // namespace fb::linear
