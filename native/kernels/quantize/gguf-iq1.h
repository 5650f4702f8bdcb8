// IQ1_S and IQ1_M (src/methods/gguf/quantize-iq1.ts): W groups, one a lane, try every pair of cuts through their sorted values; then each
// group goes to the grid alone.
#pragma once
#include "../blocks/open-iq.h"
#include "gguf-batch.h"
#include "gguf-candidates.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** What the levels 0, 1, 2 stand for, shifted up and down; repeated to a vector. */
constexpr float SHIFTED[2][16] = {
    {-0.875f, 0.125f, 1.125f, 0, -0.875f, 0.125f, 1.125f, 0, -0.875f, 0.125f, 1.125f, 0, -0.875f, 0.125f, 1.125f, 0},
    {-1.125f, -0.125f, 0.875f, 0, -1.125f, -0.125f, 0.875f, 0, -1.125f, -0.125f, 0.875f, 0, -1.125f, -0.125f, 0.875f, 0},
};

/** A group of SIZE values on its way. */
template <int SIZE>
struct TernaryGroup {
  static constexpr int OCTETS = SIZE / 8;
  static constexpr int HALVES = SIZE == 16 ? 2 : 1;  // that have shifts of their own
  const float* x;
  const float* w;
  uint8_t order[SIZE];  // by value, equal ones as they stand
  float scale;
  uint8_t down[2];  // the shift of each half
  uint16_t rows[OCTETS];
  uint16_t points[OCTETS];  // of the rows

  void sort() {
    for (int i = 0; i < SIZE; i++) {
      int at = i;
      for (; at > 0 && x[order[at - 1]] > x[i]; at--) order[at] = order[at - 1];
      order[at] = static_cast<uint8_t>(i);
    }
  }

  void clear() {
    scale = 0;
    down[0] = down[1] = 0;
    for (int k = 0; k < OCTETS; k++) rows[k] = points[k] = 0;  // row 0 is point 0
  }

  /** From the best cuts to rows: the scale is fitted again where an octet was no row. */
  void to_grid(const GridIndex& grid, int from, int to) {
    uint8_t levels[SIZE];
    for (int i = 0; i < SIZE; i++) levels[order[i]] = i < from ? 0 : i < to ? 1 : 2;
    if (scale < 0) {
      for (uint8_t& level : levels) level = static_cast<uint8_t>(2 - level);
      for (uint8_t& d : down) d ^= 1;
      scale = -scale;
    }
    bool moved = false;
    for (int k = 0; k < OCTETS; k++) {
      int point = 0;
      for (int i = 0; i < 8; i++) point |= levels[8 * k + i] << (2 * i);
      const int32_t place = grid.places[point];
      if (place < 0) {
        moved = true;
        point = nearest_candidate<8, 2>(grid.candidates - 1 - place, x + 8 * k, w + 8 * k, scale, SHIFTED[shift_of(k)]);
        if (point < 0) {
          clear();
          scale = __builtin_nanf("");
          return;
        }
      }
      points[k] = static_cast<uint16_t>(point);
      rows[k] = static_cast<uint16_t>(grid.places[point]);
    }
    if (!moved) return;
    float xq = 0, q2 = 0;
    for (int k = 0; k < OCTETS; k++) add_sums(k, 1, xq, q2);
    if (xq > 0 && q2 > 0) scale = xq / q2;
  }

  FB_INLINE int shift_of(int k) const { return down[HALVES == 2 ? k : 0]; }

  FB_INLINE void add_sums(int k, float factor, float& xq, float& q2) const {
    for (int i = 0; i < 8; i++) {
      const float q = SHIFTED[shift_of(k)][points[k] >> (2 * i) & 3] * factor, wq = w[8 * k + i] * q;
      xq += wq * x[8 * k + i];
      q2 += wq * q;
    }
  }
};

/** W groups: prefix sums of w * x and w in sorted order, one a lane, for each half that has a shift of its own. */
template <int SIZE>
struct TernaryLanes {
  static constexpr int HALVES = TernaryGroup<SIZE>::HALVES;
  V wx[HALVES][SIZE + 1];
  V w[HALVES][SIZE + 1];
  V score = splat(-LARGEST_FLOAT), scale = V{};
  I from = splat(-1), to = splat(-1), shifts = I{};

  void load_groups(const TernaryGroup<SIZE>* groups) {
    float sums[2][HALVES][SIZE + 1][W];
    for (int lane = 0; lane < W; lane++) {
      const TernaryGroup<SIZE>& g = groups[lane];
      float a[HALVES] = {}, b[HALVES] = {};
      for (int h = 0; h < HALVES; h++) sums[0][h][0][lane] = sums[1][h][0][lane] = 0;
      for (int i = 0; i < SIZE; i++) {
        const int k = g.order[i], h = HALVES == 2 ? k / 8 : 0;
        a[h] += g.w[k] * g.x[k];
        b[h] += g.w[k];
        for (int half = 0; half < HALVES; half++) {
          sums[0][half][i + 1][lane] = a[half];
          sums[1][half][i + 1][lane] = b[half];
        }
      }
    }
    for (int h = 0; h < HALVES; h++)
      for (int i = 0; i <= SIZE; i++) {
        wx[h][i] = load(sums[0][h][i]);
        w[h][i] = load(sums[1][h][i]);
      }
  }

  FB_INLINE void offer(V xq, V q2, int i1, int i2, int shift) {
    const I better = (q2 > 0.0f) & (xq * xq > score * q2);
    if (!any(better)) return;
    const V fitted = xq / q2;
    scale = select(better, fitted, scale);
    score = select(better, fitted * xq, score);
    from = select(better, splat(i1), from);
    to = select(better, splat(i2), to);
    shifts = select(better, splat(shift), shifts);
  }

  /** One shift for the group. */
  void search_whole() {
    for (int i1 = 0; i1 <= SIZE; i1++)
      for (int i2 = i1; i2 <= SIZE; i2++)
        for (int shift = 0; shift < 2; shift++) {
          const float a = SHIFTED[shift][0], b = SHIFTED[shift][1], c = SHIFTED[shift][2];
          const V xq = wx[0][i1] * a + (wx[0][i2] - wx[0][i1]) * b + (wx[0][SIZE] - wx[0][i2]) * c;
          const V q2 = w[0][i1] * a * a + (w[0][i2] - w[0][i1]) * b * b + (w[0][SIZE] - w[0][i2]) * c * c;
          offer(xq, q2, i1, i2, shift);
        }
  }

  /** A shift for each half; neighbouring values differ by 1, so what lies below each cut is taken off once. */
  void search_halves() {
    for (int i1 = 0; i1 <= SIZE; i1++)
      for (int i2 = i1; i2 <= SIZE; i2++) {
        V xq[HALVES][2], q2[HALVES][2];
        for (int h = 0; h < HALVES; h++) {
          const V below = wx[h][i1] + wx[h][i2];
          for (int shift = 0; shift < 2; shift++) {
            const float a = SHIFTED[shift][0], b = SHIFTED[shift][1], c = SHIFTED[shift][2];
            xq[h][shift] = wx[h][SIZE] * c - below;
            q2[h][shift] = w[h][SIZE] * c * c + w[h][i1] * (a * a - b * b) + w[h][i2] * (b * b - c * c);
          }
        }
        for (int shift = 0; shift < 4; shift++)
          offer(xq[0][shift >> 1] + xq[HALVES - 1][shift & 1], q2[0][shift >> 1] + q2[HALVES - 1][shift & 1], i1, i2, shift);
      }
  }
};

/** Fits `count` groups, a multiple of W or padded to one. */
template <int SIZE>
void fit_ternary(const Job& job, TernaryGroup<SIZE>* groups, int count, float epsilon) {
  for (int at = 0; at < count; at += W) {
    TernaryLanes<SIZE> lanes;
    for (int i = at; i < at + W; i++) groups[i].sort();
    lanes.load_groups(groups + at);
    if constexpr (SIZE == 32) lanes.search_whole();
    else lanes.search_halves();
    for (int lane = 0; lane < W; lane++) {
      TernaryGroup<SIZE>& g = groups[at + lane];
      float most = 0;
      for (int i = 0; i < SIZE; i++) most = max(most, __builtin_fabsf(g.x[i]));
      g.clear();
      if (most < epsilon || lanes.from[lane] < 0) continue;
      g.scale = lanes.scale[lane];
      g.down[0] = static_cast<uint8_t>(SIZE == 32 ? lanes.shifts[lane] : lanes.shifts[lane] >> 1);
      g.down[1] = static_cast<uint8_t>(lanes.shifts[lane] & 1);
      g.to_grid(job.grid, lanes.from[lane], lanes.to[lane]);
    }
  }
}

/** The largest scale of a block's groups; NaN where one has none: such a block is refused by its scale. */
template <int SIZE>
float largest_scale(const TernaryGroup<SIZE>* groups) {
  float most = 0;
  bool failed = false;
  for (int g = 0; g < 256 / SIZE; g++) {
    most = max(most, groups[g].scale);
    failed |= groups[g].scale != groups[g].scale;
  }
  return failed ? __builtin_nanf("") : most;
}

FB_INLINE uint32_t ternary_code(float scale, float inverse) {
  return static_cast<uint32_t>(max(0, min(7, nearest_int(0.5f * (inverse * scale - 1.0f)))));
}

void put_iq1_s(const TernaryGroup<32>* groups, uint8_t* block) {
  const float most = largest_scale(groups);
  const float d = most / 15.0f, inverse = 1.0f / d;
  zero(block, 50);
  if (most != 0) blocks::put_half(block, to_f16(d * 1.125f));
  for (int g = 0; g < 8; g++) {
    uint32_t high = 0;
    for (int k = 0; k < 4; k++) {
      block[2 + 4 * g + k] = static_cast<uint8_t>(groups[g].rows[k]);
      high |= static_cast<uint32_t>(groups[g].rows[k] >> 8) << 3 * k;
    }
    if (most != 0) high |= (ternary_code(groups[g].scale, inverse) | (groups[g].down[0] ? 8u : 0u)) << 12;
    blocks::put_half(block + 34 + 2 * g, static_cast<uint16_t>(high));
  }
}

void put_iq1_m(const TernaryGroup<16>* groups, uint8_t* block) {
  const float most = largest_scale(groups);
  zero(block, 56);
  for (int g = 0; g < 16; g++)
    for (int k = 0; k < 2; k++) {
      block[2 * g + k] = static_cast<uint8_t>(groups[g].rows[k]);
      const int code = groups[g].rows[k] >> 8 | (most != 0 && groups[g].down[k] ? 8 : 0);
      block[32 + g] |= static_cast<uint8_t>(code << 4 * k);
    }
  if (most == 0) return;
  float d = most / 15.0f;
  const float inverse = 1.0f / d;
  uint32_t words[4] = {0, 0, 0, 0};
  float xq = 0, q2 = 0;
  for (int g = 0; g < 16; g++) {
    const uint32_t code = ternary_code(groups[g].scale, inverse);
    words[g / 4] |= code << 3 * (g % 4);
    for (int k = 0; k < 2; k++) groups[g].add_sums(k, static_cast<float>(2 * code + 1), xq, q2);
  }
  if (q2 > 0) d = xq / q2;
  const uint16_t half = to_f16(d * 1.1125f);
  for (int i = 0; i < 4; i++)
    blocks::put_half(block + 48 + 2 * i, static_cast<uint16_t>(words[i] | (static_cast<uint32_t>(half) >> 4 * i & 15) << 12));
}

template <Type TYPE>
void quantize_iq1(const Job& job, Batch& b, size_t at, size_t count) {
  constexpr int SIZE = TYPE == IQ1_S ? 32 : 16;
  constexpr size_t GROUPS = BATCH / SIZE;
  static_assert(GROUPS % W == 0);
  const bool weighted = job.importance != nullptr;
  if (weighted) {
    load_importance(job, b, at, count, 256);
    superblock_sigma2<256, SIZE>(b, count, 2.0f);
  }
  float w[BATCH] FB_ALIGN(64);
  for (size_t i = 0; i < BATCH; i += W) {
    const V v = load(b.x + i), x2 = v * v;
    store(w + i, weighted ? load(b.importance + i) * root(b.sigma2[i / SIZE] + x2) : x2);
  }
  TernaryGroup<SIZE> groups[GROUPS];
  for (size_t g = 0; g < GROUPS; g++) {
    groups[g].x = b.x + g * SIZE;
    groups[g].w = w + g * SIZE;
  }
  const int used = static_cast<int>((count / SIZE + W - 1) / W * W);
  fit_ternary<SIZE>(job, groups, used, TYPE == IQ1_S ? 1e-12f : 1e-7f);
  for (size_t i = 0; i < count; i += 256) {
    uint8_t* block = job.out + (at + i) / 256 * static_cast<size_t>(layout_of(TYPE).bytes);
    if constexpr (TYPE == IQ1_S) put_iq1_s(groups + i / SIZE, block);
    else put_iq1_m(groups + i / SIZE, block);
  }
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
