// Prefill of codes up to 5 bits with int8 activations (fast mode): a piece of a panel is opened once to bytes, with one scale and one
// offset for each chunk of 32, and multiplied with all rows in register blocks:
//   y += s * scale_x * sum q a - offset * sum a.
#pragma once
#include "bytes.h"
#include "float.h"

namespace fb::linear {
namespace {

constexpr int PIECE_CHUNKS = PIECE / CHUNK;

struct OpenPiece {
  uint8_t codes[PIECE_CHUNKS][8][VECTOR];
  float scale[PIECE_CHUNKS][PANEL_ROWS];
  float offset[PIECE_CHUNKS][PANEL_ROWS];
};

template <int BITS>
void open_codes(const uint8_t* chunk, uint8_t (&out)[8][VECTOR]) {
  for (int b = 0; b < 8; b++) {
    for (int side = 0; side < SIDES; side++) store(out[b] + side * LANES * 4, code_bytes<BITS>(chunk, b, side));
  }
}

void open_chunk(const Weight& w, const uint8_t* tile, int k, OpenPiece& piece, int at) {
  const uint8_t* group = tile + w.group_bytes * (size_t)(is_superblock(w.scheme) ? k / SUPERBLOCK : k / w.span);
  const int index = is_superblock(w.scheme) ? k % SUPERBLOCK / CHUNK : k % w.group / CHUNK;
  const uint8_t* chunk = group + index * chunk_bytes(w.bits);
  switch (w.bits) {
    case 1: open_codes<1>(chunk, piece.codes[at]); break;
    case 2: open_codes<2>(chunk, piece.codes[at]); break;
    case 3: open_codes<3>(chunk, piece.codes[at]); break;
    case 4: open_codes<4>(chunk, piece.codes[at]); break;
    default: open_codes<5>(chunk, piece.codes[at]); break;
  }
  for (int side = 0; side < SIDES; side++) {
    F s, offset;
    if (is_superblock(w.scheme)) {
      const uint8_t* scales = group + SUPERBLOCK / CHUNK * chunk_bytes(w.bits);
      s = load_f16(scales + 256 + side * LANES * 2) * load_u8(scales + index * PANEL_ROWS + side * LANES);
      offset = load_f16(scales + 288 + side * LANES * 2) * load_u8(scales + 128 + index * PANEL_ROWS + side * LANES);
    } else {
      const uint8_t* scales = scales_of(w, group, 0);
      const uint8_t* zeros = scales + zeros_behind(w);
      s = load_scale(w.scale_type, scales, side);
      if (w.zero == Zero::Constant) offset = s * splat(w.zero_point);
      else if (w.zero == Zero::Point) offset = s * load_scale(w.scale_type, zeros, side);
      else offset = F{} - load_scale(w.scale_type, zeros, side);
    }
    store(piece.scale[at] + side * LANES, s);
    store(piece.offset[at] + side * LANES, offset);
  }
}

/** One chunk against R rows. FIVE: only four products fit 16 bits before widening. */
template <bool FIVE, int R>
FB_INLINE void chunk_rows(const OpenPiece& piece, int c, const Digits* x, int at, float* sums) {
  I dots[R][SIDES];
#if defined(__AVX512VNNI__)
  for (int r = 0; r < R; r++) dots[r][0] = I{};
  for (int b = 0; b < 8; b++) {
    const __m512i codes = (__m512i)load<I>(piece.codes[c][b]);
    for (int r = 0; r < R; r++) {
      dots[r][0] = (I)_mm512_dpbusd_epi32((__m512i)dots[r][0], codes, (__m512i)broadcast4(x[r].digits + at * CHUNK + 4 * b));
    }
  }
#else
  constexpr int STEP = FIVE ? 4 : 8;
  const __m256i ones = _mm256_set1_epi16(1);
  for (int from = 0; from < 8; from += STEP) {
    __m256i pairs[R][SIDES];
    for (int b = from; b < from + STEP; b++) {
      for (int r = 0; r < R; r++) {
        const __m256i a = (__m256i)broadcast4(x[r].digits + at * CHUNK + 4 * b);
        for (int side = 0; side < SIDES; side++) {
          const __m256i products = _mm256_maddubs_epi16((__m256i)load<I>(piece.codes[c][b] + side * LANES * 4), a);
          pairs[r][side] = b > from ? _mm256_add_epi16(pairs[r][side], products) : products;
          in_order(pairs[r][side]);
        }
      }
    }
    for (int r = 0; r < R; r++) {
      for (int side = 0; side < SIDES; side++) {
        const I wide = (I)_mm256_madd_epi16(pairs[r][side], ones);
        dots[r][side] = from ? dots[r][side] + wide : wide;
      }
    }
  }
#endif
  for (int r = 0; r < R; r++) {
    const F scale = splat(x[r].scale[at]), total = splat(0 - (x[r].sum[2 * at] + x[r].sum[2 * at + 1]));
    for (int side = 0; side < SIDES; side++) {
      float* y = sums + r * PANEL_ROWS + side * LANES;
      const F product = fma(to_float(dots[r][side]) * scale, load<F>(piece.scale[c] + side * LANES), load<F>(y));
      store(y, fma(total, load<F>(piece.offset[c] + side * LANES), product));
    }
  }
}

template <bool FIVE, int R>
FB_NOINLINE void piece_rows(const OpenPiece& piece, int chunks, const Call& c, Form f, int row, int at, float* sums) {
  Digits x[R];
  for (int r = 0; r < R; r++) x[r] = row_of(c.scratch, f, c.weight->k, row + r);
  for (int i = 0; i < chunks; i++) chunk_rows<FIVE, R>(piece, i, x, at + i, sums);
}

template <bool FIVE>
void matmul8_panel_of(const Call& c, Form f, int panel, float* local) {
  const Weight& w = *c.weight;
  const uint8_t* tile = panel_of(w, panel);
  OpenPiece& piece = *(OpenPiece*)local;
  float* sums = local + PIECE * PANEL_ROWS;
  constexpr int R = LANES == 16 ? 8 : 4;
  static_assert(sizeof(OpenPiece) <= PIECE * PANEL_ROWS * 4);
  for (int base = 0; base < c.rows; base += SUM_ROWS) {
    const int rows = c.rows - base < SUM_ROWS ? c.rows - base : SUM_ROWS;
    for (int i = 0; i < rows * PANEL_ROWS; i += LANES) store(sums + i, F{});
    for (int at = 0; at < chunks_of(w.k); at += PIECE_CHUNKS) {
      const int chunks = chunks_of(w.k) - at < PIECE_CHUNKS ? chunks_of(w.k) - at : PIECE_CHUNKS;
      for (int i = 0; i < chunks; i++) open_chunk(w, tile, (at + i) * CHUNK, piece, i);
      int r = 0;
      for (; r + R <= rows; r += R) piece_rows<FIVE, R>(piece, chunks, c, f, base + r, at, sums + r * PANEL_ROWS);
      for (; r < rows; r++) piece_rows<FIVE, 1>(piece, chunks, c, f, base + r, at, sums + r * PANEL_ROWS);
    }
    for (int r = 0; r < rows; r++) finish(c, base + r, panel, sums + r * PANEL_ROWS);
  }
}

/** Weights that this kernel takes. */
bool has_matmul8(const Weight& w) {
  return ((w.scheme == Scheme::Affine && w.span == w.group) || w.scheme == Scheme::Q4_K || w.scheme == Scheme::Q5_K) && w.bits <= 5;
}

void matmul8_panel(const Call& c, Form f, int panel, float* local) {
  if (c.weight->bits == 5) matmul8_panel_of<true>(c, f, panel, local);
  else matmul8_panel_of<false>(c, f, panel, local);
}

}  // namespace
}  // namespace fb::linear
