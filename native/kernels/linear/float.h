// Products in float32. Prefill: a piece of a panel is decoded once into the first cache and multiplied with all rows in register
// blocks. Decode: bf16, f16 and f32 weights are read once, straight from the tile; other schemes go through a piece.
// Every row is summed in the same order whatever rows are with it: pieces of 256 k one after another.
#pragma once
#include "pieces.h"

namespace fb::linear {
namespace {

constexpr int PIECE = 256;
constexpr int SUM_ROWS = 1024;       // rows whose sums lie in local memory at a time
constexpr int BLOCK_ROWS = LANES == 8 ? 6 : LANES == 16 ? 12 : 3;  // 12 accumulators

/** y of one row and panel = sums + bias + residual. */
FB_INLINE void finish(const Call& c, int row, int panel, const float* sums) {
  const int first = panel * PANEL_ROWS;
  const int count = c.weight->n - first < PANEL_ROWS ? c.weight->n - first : PANEL_ROWS;
  float* y = c.y + (size_t)row * (size_t)c.ldy + first;
  const float* residual = c.residual ? c.residual + (size_t)row * (size_t)c.ldr + first : nullptr;
  if (count == PANEL_ROWS) {
    for (int i = 0; i < PANEL_ROWS; i += LANES) {
      F value = load<F>(sums + i);
      if (c.bias) value += load<F>(c.bias + first + i);
      if (residual) value += load<F>(residual + i);
      store(y + i, value);
    }
    return;
  }
  for (int i = 0; i < count; i++) {
    float value = sums[i];
    if (c.bias) value += c.bias[first + i];
    if (residual) value += residual[i];
    y[i] = value;
  }
}

/** sums[r] += piece^T x[r] for R rows. */
template <int R>
FB_INLINE void block(const float* piece, int count, const float* x, size_t ldx, float* sums) {
  F acc[R][SIDES] = {};
  for (int k = 0; k < count; k++, piece += PANEL_ROWS) {
    F w[SIDES];
    for (int s = 0; s < SIDES; s++) w[s] = load<F>(piece + s * LANES);
    for (int r = 0; r < R; r++) {
      const F a = splat(x[(size_t)r * ldx + (size_t)k]);
      for (int s = 0; s < SIDES; s++) acc[r][s] = fma(a, w[s], acc[r][s]);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int s = 0; s < SIDES; s++) {
      float* to = sums + r * PANEL_ROWS + s * LANES;
      store(to, load<F>(to) + acc[r][s]);
    }
  }
}

FB_NOINLINE void block_full(const float* piece, int count, const float* x, size_t ldx, float* sums) { block<BLOCK_ROWS>(piece, count, x, ldx, sums); }

FB_INLINE void block_rows(const float* piece, int count, const float* x, size_t ldx, int rows, float* sums) {
  for (; rows >= BLOCK_ROWS; rows -= BLOCK_ROWS, x += BLOCK_ROWS * ldx, sums += BLOCK_ROWS * PANEL_ROWS) block_full(piece, count, x, ldx, sums);
  constexpr int STEP = LANES == 4 ? 1 : 2;
  for (; rows >= STEP; rows -= STEP, x += STEP * ldx, sums += STEP * PANEL_ROWS) block<STEP>(piece, count, x, ldx, sums);
  for (; rows; rows--, x += ldx, sums += PANEL_ROWS) block<1>(piece, count, x, ldx, sums);
}

void prefill_panel(const Call& c, int panel, float* local) {
  const Weight& w = *c.weight;
  float* sums = local + PIECE * PANEL_ROWS;
  const uint8_t* tile = panel_of(w, panel);
  for (int base = 0; base < c.rows; base += SUM_ROWS) {
    const int rows = c.rows - base < SUM_ROWS ? c.rows - base : SUM_ROWS;
    for (int i = 0; i < rows * PANEL_ROWS; i += LANES) store(sums + i, F{});
    for (int k = 0; k < w.k; k += PIECE) {
      const int to = k + PIECE < w.k ? k + PIECE : w.k;
      const float* piece = local;
      if (w.scheme == Scheme::DenseF32) piece = (const float*)tile + (size_t)k * PANEL_ROWS;
      else piece_of(w, tile, k, to, local);
      block_rows(piece, to - k, c.x + (size_t)base * (size_t)c.ldx + k, (size_t)c.ldx, rows, sums);
    }
    for (int r = 0; r < rows; r++) finish(c, base + r, panel, sums + r * PANEL_ROWS);
  }
}

/** One k of a panel's side from the tile of each dense type. */
template <Scheme S>
FB_INLINE F dense_at(const uint8_t* tile, int k, int side) {
  if (S == Scheme::DenseF16) return load_f16(tile + ((size_t)k * PANEL_ROWS + (size_t)(side * LANES)) * 2);
  if (S == Scheme::DenseF32) return load<F>(tile + ((size_t)k * PANEL_ROWS + (size_t)(side * LANES)) * 4);
  const U pair = load<U>(tile + (size_t)(k >> 1) * VECTOR + side * LANES * 4);
  return k & 1 ? (F)(pair & 0xffff0000u) : (F)(pair << 16);
}

/** sums += columns [from, to) of the panel times x: four chains a row, so that additions overlap. */
template <Scheme S>
FB_INLINE void dense_columns(const uint8_t* tile, int from, int to, const float* x, float* sums) {
  F acc[4][SIDES] = {};
  int k = from;
  for (; k + 4 <= to; k += 4) {
    const uint8_t* next = tile + (size_t)k * PANEL_ROWS * (S == Scheme::DenseF32 ? 4 : 2) + AHEAD;
    __builtin_prefetch(next);
    __builtin_prefetch(next + 64);
    if (S == Scheme::DenseF32) __builtin_prefetch(next + 128), __builtin_prefetch(next + 192);
    for (int j = 0; j < 4; j++) {
      const F a = splat(x[k + j]);
      for (int s = 0; s < SIDES; s++) acc[j][s] = fma(a, dense_at<S>(tile, k + j, s), acc[j][s]);
    }
  }
  for (; k < to; k++) {
    const F a = splat(x[k]);
    for (int s = 0; s < SIDES; s++) acc[0][s] = fma(a, dense_at<S>(tile, k, s), acc[0][s]);
  }
  for (int s = 0; s < SIDES; s++) {
    store(sums + s * LANES, load<F>(sums + s * LANES) + ((acc[0][s] + acc[1][s]) + (acc[2][s] + acc[3][s])));
  }
}

template <Scheme S>
void decode_columns(const uint8_t* tile, int from, int to, const Call& c, int row_from, int rows, float* sums) {
  for (int r = 0; r < rows; r++) dense_columns<S>(tile, from, to, c.x + (size_t)(row_from + r) * (size_t)c.ldx, sums + r * PANEL_ROWS);
}

void decode_panel_float(const Call& c, int panel, float* local) {
  const Weight& w = *c.weight;
  const uint8_t* tile = panel_of(w, panel);
  float* sums = local + PIECE * PANEL_ROWS;
  for (int base = 0; base < c.rows; base += SUM_ROWS) {
    const int rows = c.rows - base < SUM_ROWS ? c.rows - base : SUM_ROWS;
    for (int i = 0; i < rows * PANEL_ROWS; i += LANES) store(sums + i, F{});
    for (int k = 0; k < w.k; k += PIECE) {
      const int to = k + PIECE < w.k ? k + PIECE : w.k;
      if (w.scheme == Scheme::DenseBF16) decode_columns<Scheme::DenseBF16>(tile, k, to, c, base, rows, sums);
      else if (w.scheme == Scheme::DenseF16) decode_columns<Scheme::DenseF16>(tile, k, to, c, base, rows, sums);
      else if (w.scheme == Scheme::DenseF32) decode_columns<Scheme::DenseF32>(tile, k, to, c, base, rows, sums);
      else {
        piece_of(w, tile, k, to, local);
        for (int r = 0; r < rows; r++) dense_columns<Scheme::DenseF32>((const uint8_t*)local, 0, to - k, c.x + (size_t)(base + r) * (size_t)c.ldx + k, sums + r * PANEL_ROWS);
      }
    }
    for (int r = 0; r < rows; r++) finish(c, base + r, panel, sums + r * PANEL_ROWS);
  }
}

/** Rows for which codes of 8-bit floats are opened once, as far as registers go. */
constexpr int FLOAT8_SLICE = LANES == 16 ? 4 : 1;

/** acc += byte J of each row's codes times x[J]. */
template <int M, int J, int R>
FB_INLINE void float8_step(const U (&codes)[SIDES], const Float8Row (&x)[R], int k, F (&acc)[R][4][SIDES]) {
  F w[SIDES];
  for (int s = 0; s < SIDES; s++) w[s] = float8_of_byte<M, J>(codes[s]);
  for (int r = 0; r < R; r++) {
    const F a = splat(x[r].x[k + J]);
    for (int s = 0; s < SIDES; s++) acc[r][J][s] = fma(a, w[s], acc[r][J][s]);
  }
}

/** sums += chunks of a panel times x: a chain for each of four neighbouring k. */
template <int M, int R>
FB_INLINE void float8_chunks(const uint8_t* chunk, int from, int to, const Float8Row (&x)[R], F (&sums)[R][SIDES]) {
  F acc[R][4][SIDES] = {};
  for (int k = from; k < to; k += 4, chunk += VECTOR) {
    __builtin_prefetch(chunk + AHEAD);
    U codes[SIDES];
    for (int s = 0; s < SIDES; s++) codes[s] = load<U>(chunk + s * LANES * 4);
    float8_step<M, 0>(codes, x, k, acc);
    float8_step<M, 1>(codes, x, k, acc);
    float8_step<M, 2>(codes, x, k, acc);
    float8_step<M, 3>(codes, x, k, acc);
  }
  for (int r = 0; r < R; r++) {
    for (int s = 0; s < SIDES; s++) sums[r][s] += (acc[r][0][s] + acc[r][1][s]) + (acc[r][2][s] + acc[r][3][s]);
  }
}

template <int M, int R>
FB_NOINLINE void float8_slice(const Call& c, int panel, int row) {
  const Weight& w = *c.weight;
  const uint8_t* group = panel_of(w, panel);
  Float8Row x[R];
  for (int r = 0; r < R; r++) x[r] = float8_row(c.scratch, w.k, row + r);
  F y[R][SIDES] = {};
  for (int k = 0; k < w.k; k += w.group, group += w.group_bytes) {
    F sums[R][SIDES] = {};
    const int padded = chunks_of(w.group) * CHUNK;
    for (int at = 0; at < padded; at += PIECE) float8_chunks<M>(group + at * PANEL_ROWS, k + at, k + min(at + PIECE, padded), x, sums);
    const uint8_t* scales = group + padded * PANEL_ROWS;
    for (int s = 0; s < SIDES; s++) {
      const F scale = load_scale(w.scale_type, scales, s);
      for (int r = 0; r < R; r++) {
        const F sum = sums[r][s] * splat(power_of_two(FLOAT8_HALF)) * splat(w.unit * x[r].inverse);
        y[r][s] = fma(scale, sum, y[r][s]);
      }
    }
  }
  for (int r = 0; r < R; r++) {
    float sums[PANEL_ROWS];
    for (int s = 0; s < SIDES; s++) store(sums + s * LANES, y[r][s]);
    finish(c, row + r, panel, sums);
  }
}

template <int M>
void float8_panel(const Call& c, int panel) {
  int row = 0;
  for (; row + FLOAT8_SLICE <= c.rows; row += FLOAT8_SLICE) float8_slice<M, FLOAT8_SLICE>(c, panel, row);
  for (; row < c.rows; row++) float8_slice<M, 1>(c, panel, row);
}

}  // namespace
}  // namespace fb::linear
