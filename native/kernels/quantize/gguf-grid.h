// The IQ2 and IQ3 types (src/methods/gguf/quantize-grid.ts). The scales that a group tries lie one a lane: each lane's sums run in the
// reference's order. Then the tries are judged one after another, as there.
#pragma once
#include "../blocks/half.h"
#include "gguf-batch.h"
#include "gguf-candidates.h"
#include "gguf-positive.h"

namespace fb::gguf::FB_LEVEL_NAMESPACE {
namespace {

/** Which cells are searched again with the best scale. */
enum class Again { OFF_GRID, ALL_WHERE_OFF, ALL };

struct GridRule {
  int group;   // values that share a scale
  int cell;    // values of a grid's row
  int bits;    // of a level in a packed point
  int levels;
  int steps;   // on each side of the sweep's middle
  float delta;
  float epsilon;     // groups whose largest magnitude is smaller are zero; 0: only zeros
  bool even_signs;   // 7 of 8 signs are stored
  float squares;     // sigma2 is so many mean squares
  Again again;
  float stretch;     // of the block's scale
  bool clears_zeros; // the block is zero bytes where all scales are 0
};

template <Type TYPE>
constexpr GridRule grid_rule() {
  switch (TYPE) {
    case IQ2_XXS: return {32, 8, 2, 3, 6, 0.1f, GROUP_EPSILON, true, 1, Again::ALL, 1, true};
    case IQ2_XS: return {16, 8, 2, 3, 9, 0.1f, GROUP_EPSILON, true, 1, Again::OFF_GRID, 1, true};
    case IQ2_S: return {16, 8, 2, 3, 9, 0.1f, 1e-8f, false, 2, Again::OFF_GRID, 0.9875f, false};
    case IQ3_XXS: return {32, 4, 3, 8, 15, 0.2f, 1e-8f, true, 2, Again::OFF_GRID, 1.0125f, true};
    default: return {32, 4, 3, 8, 9, 0.2f, 0, false, 2, Again::ALL_WHERE_OFF, 1.033f, false};
  }
}

/** 2 * level + 1, for each level of a point's coordinate, repeated to a vector. */
constexpr float ODD2[16] = {1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7};
constexpr float ODD3[16] = {1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15};

/** The search over one group. */
template <Type TYPE>
struct GridGroup {
  static constexpr GridRule R = grid_rule<TYPE>();
  static constexpr int CELLS = R.group / R.cell;
  static constexpr int TRIES = 2 * R.steps + 1;
  static constexpr int VECTORS = (TRIES + W - 1) / W;
  static constexpr int MASK = (1 << R.bits) - 1;
  static constexpr float SPAN = 2 * R.levels - 1;

  GridIndex index;
  float x[R.group];  // magnitudes; negative where an even number of minuses needed it
  float w[R.group];
  float roots[R.group];
  uint8_t signs[R.group / 8];
  uint16_t points[CELLS];
  bool off[CELLS];
  bool is_zero;  // nothing was searched

  FB_INLINE void load_values(const float* from, const float* importance, float sigma2) {
    for (int i = 0; i < R.group; i += W) {
      const V v = load(from + i), x2 = v * v;
      V weight;
      if (importance) weight = load(importance + i) * root(sigma2 + x2);
      else if (TYPE == IQ2_S) weight = 0.25f * sigma2 + x2;
      else weight = x2;
      store(x + i, absolute(v));
      store(w + i, weight);
      store(roots + i, root(weight));
    }
    for (int k = 0; k < R.group / 8; k++) {
      signs[k] = 0;
      for (int i = 0; i < 8; i++) signs[k] |= static_cast<uint8_t>(!(from[8 * k + i] >= 0) << i);
      if (R.even_signs) make_even(k);
    }
    for (int c = 0; c < CELLS; c++) points[c] = 0;
  }

  /** Flips the least important of eight values where the number of minuses is odd. */
  FB_INLINE void make_even(int k) {
    float* v = x + 8 * k;
    const float* weight = w + 8 * k;
    if (__builtin_popcount(signs[k]) & 1) {
      int least = 0;
      float smallest = (weight[0] * v[0]) * v[0];
      for (int i = 1; i < 8; i++) {
        const float cost = (weight[i] * v[i]) * v[i];
        if (!(cost < smallest)) continue;
        smallest = cost;
        least = i;
      }
      v[least] = -v[least];
      signs[k] ^= static_cast<uint8_t>(1 << least);
    }
    signs[k] &= 127;
  }

  /** The nearest row of a cell under a scale; -1 where no distance is finite. */
  FB_INLINE int nearest_row(int cell, int point, float scale, bool& is_off) const {
    const int32_t place = index.places[point];
    is_off = place < 0;
    if (place >= 0) return point;
    return nearest_candidate<R.cell, R.bits>(index.candidates - 1 - place, x + R.cell * cell, roots + R.cell * cell, scale,
                                             R.bits == 2 ? ODD2 : ODD3);
  }

  /** The point of a cell's nearest levels. */
  FB_INLINE int nearest_point(int cell, float inverse) const {
    int point = 0;
    for (int i = 0; i < R.cell; i++) {
      const int level = nearest_int(0.5f * (inverse * x[R.cell * cell + i] - 1.0f));
      point |= max(0, min(R.levels - 1, level)) << (R.bits * i);
    }
    return point;
  }

  /** All tries of the sweep: the sums and rows of each. */
  struct Tries {
    int32_t points[CELLS][VECTORS * W];
    bool off[CELLS][TRIES];
    float xq[VECTORS * W];
    float q2[VECTORS * W];
    float scale[VECTORS * W];
  };

  /** False where a cell has no row. */
  FB_INLINE bool sweep(float reach, Tries& t) const {
    float inverses[VECTORS * W];
    for (int i = 0; i < VECTORS * W; i++) inverses[i] = (SPAN + static_cast<float>(i - R.steps) * R.delta) / reach;
    for (int v = 0; v < VECTORS; v++) {
      const V inverse = load(inverses + v * W);
      store(t.scale + v * W, 1.0f / inverse);
      for (int cell = 0; cell < CELLS; cell++) {
        I point = I{};
        for (int i = 0; i < R.cell; i++) {
          const V at = 0.5f * (inverse * x[R.cell * cell + i] - 1.0f);
          point |= (nearest(at, 0, R.levels - 1) - ORIGIN) << (R.bits * i);
        }
        __builtin_memcpy(t.points[cell] + v * W, &point, sizeof point);
      }
    }
    for (int cell = 0; cell < CELLS; cell++)
      for (int i = 0; i < TRIES; i++) {
        const int point = nearest_row(cell, t.points[cell][i], t.scale[i], t.off[cell][i]);
        if (point < 0) return false;
        t.points[cell][i] = point;
      }
    for (int v = 0; v < VECTORS; v++) {
      V xq = V{}, q2 = V{};
      for (int cell = 0; cell < CELLS; cell++) {
        I point;
        __builtin_memcpy(&point, t.points[cell] + v * W, sizeof point);
        for (int i = 0; i < R.cell; i++) {
          const int k = R.cell * cell + i;
          const V q = __builtin_convertvector(2 * (point >> (R.bits * i) & MASK) + 1, V);
          xq += (w[k] * x[k]) * q;
          q2 += (w[k] * q) * q;
        }
      }
      store(t.xq + v * W, xq);
      store(t.q2 + v * W, q2);
    }
    return true;
  }

  FB_INLINE void sums(float& xq, float& q2) const {
    xq = q2 = 0;
    for (int k = 0; k < R.group; k++) {
      const float q = static_cast<float>(2 * (points[k / R.cell] >> (R.bits * (k % R.cell)) & MASK) + 1);
      xq += (w[k] * x[k]) * q;
      q2 += (w[k] * q) * q;
    }
  }

  float zero_group() {
    is_zero = true;
    return 0;
  }

  /** The group's scale, 0 for none; NaN where it has none that can be stored. */
  float fit() {
    constexpr float NONE = __builtin_nanf("");
    is_zero = false;
    float most = x[0];
    for (int i = 1; i < R.group; i++) most = most > x[i] ? most : x[i];
    if (R.epsilon == 0 ? most == 0 : most < R.epsilon) return zero_group();
    float scale = most / SPAN, reach = most;
    if (R.again == Again::ALL) {
      scale = positive_scale<R.group>(x, w, R.levels + 1);
      reach = scale * static_cast<float>(R.levels);
      if (reach <= 0) return zero_group();
    }
    Tries t;
    if (!sweep(reach, t)) return NONE;
    float best = 0;
    int chosen = -1;
    for (int i = 0; i < TRIES; i++) {
      if (!(t.q2[i] > 0 && t.xq[i] * t.xq[i] > best * t.q2[i])) continue;
      scale = t.xq[i] / t.q2[i];
      best = scale * t.xq[i];
      chosen = i;
    }
    bool any_off = R.again == Again::ALL || (R.again == Again::ALL_WHERE_OFF && chosen < 0);
    for (int cell = 0; cell < CELLS; cell++) {
      points[cell] = chosen < 0 ? 0 : static_cast<uint16_t>(t.points[cell][chosen]);
      off[cell] = chosen >= 0 && t.off[cell][chosen];
      any_off |= off[cell];
    }
    if (scale > 0 && any_off) {
      const float inverse = 1.0f / scale;
      for (int cell = 0; cell < CELLS; cell++) {
        if (R.again == Again::OFF_GRID && !off[cell]) continue;
        bool unused;
        const int point = nearest_row(cell, nearest_point(cell, inverse), scale, unused);
        if (point < 0) return NONE;
        points[cell] = static_cast<uint16_t>(point);
      }
      float xq, q2;
      sums(xq, q2);
      if (q2 > 0) scale = xq / q2;
    }
    if (scale < 0) {
      scale = -scale;
      for (uint8_t& s : signs) s = static_cast<uint8_t>(~s & (R.even_signs ? 127 : 255));
    }
    return scale;
  }
};

/** What is stored of a block besides d: a row a cell, signs of 8 values, a 4-bit code a group's scale. */
struct GridBlock {
  uint16_t rows[64];
  uint8_t signs[32];
  uint8_t codes[16];
  uint8_t searched[16];  // groups that are not zero, in order
  int count;             // of them
};

/** A word of four times 7 signs, and a group's scale on top. */
FB_INLINE void put_signs_and_scale(uint8_t* to, const GridBlock& b, int group) {
  uint32_t word = static_cast<uint32_t>(b.codes[group]) << 28;
  for (int k = 0; k < 4; k++) word |= static_cast<uint32_t>(b.signs[4 * group + k]) << (7 * k);
  copy(to, &word, 4);
}

FB_INLINE void put_nibbles(uint8_t* to, const uint8_t* codes, int count) {
  for (int i = 0; i < count; i += 2) to[i / 2] = static_cast<uint8_t>(codes[i] | codes[i + 1] << 4);
}

template <Type TYPE>
void put_grid_block(uint8_t* block, const GridBlock& b) {
  switch (TYPE) {
    case IQ2_XXS:
      for (int g = 0; g < 8; g++) {
        for (int k = 0; k < 4; k++) block[2 + 8 * g + k] = static_cast<uint8_t>(b.rows[4 * g + k]);
        put_signs_and_scale(block + 6 + 8 * g, b, g);
      }
      break;
    case IQ2_XS:
      for (int k = 0; k < 32; k++) {
        const uint16_t code = static_cast<uint16_t>(b.rows[k] | b.signs[k] << 9);
        copy(block + 2 + 2 * k, &code, 2);
      }
      put_nibbles(block + 66, b.codes, 16);
      break;
    case IQ2_S:
      for (int k = 0; k < 32; k++) {
        block[2 + k] = static_cast<uint8_t>(b.rows[k]);
        block[34 + k] = b.signs[k];
        block[66 + k / 4] |= static_cast<uint8_t>(b.rows[k] >> 8 << 2 * (k % 4));
      }
      put_nibbles(block + 74, b.codes, 16);
      break;
    case IQ3_XXS:
      for (int k = 0; k < 64; k++) block[2 + k] = static_cast<uint8_t>(b.rows[k]);
      for (int g = 0; g < 8; g++) put_signs_and_scale(block + 66 + 4 * g, b, g);
      break;
    default:  // signs and low bytes of groups after a zero one stand too early, as ggml puts them
      for (int place = 0; place < b.count; place++) {
        const int g = b.searched[place];
        for (int k = 0; k < 8; k++) {
          const uint16_t row = b.rows[8 * g + k];
          block[2 + 8 * place + k] = static_cast<uint8_t>(row);
          block[66 + g] |= static_cast<uint8_t>(row >> 8 << k);
        }
        copy(block + 74 + 4 * place, b.signs + 4 * g, 4);
      }
      put_nibbles(block + 106, b.codes, 8);
  }
}

template <Type TYPE>
void quantize_grid_block(const Job& job, const float* x, const float* importance, uint8_t* block) {
  constexpr GridRule R = grid_rule<TYPE>();
  constexpr int GROUPS = 256 / R.group;
  zero(block, static_cast<size_t>(layout_of(TYPE).bytes));
  float sum = 0;
  for (int i = 0; i < 256; i++) sum += x[i] * x[i];
  const float sigma2 = R.squares * sum / 256.0f;
  GridGroup<TYPE> group;
  group.index = job.grid;
  GridBlock b;
  zero(&b, sizeof b);
  float scales[GROUPS];
  float most = 0;
  bool failed = false;
  for (int g = 0; g < GROUPS; g++) {
    group.load_values(x + g * R.group, importance ? importance + g * R.group : nullptr, sigma2);
    const float scale = scales[g] = group.fit();
    failed |= scale != scale;
    most = scale > most ? scale : most;
    if (group.is_zero) continue;
    b.searched[b.count++] = static_cast<uint8_t>(g);
    for (int c = 0; c < group.CELLS; c++)
      b.rows[g * group.CELLS + c] = static_cast<uint16_t>(job.grid.places[group.points[c]]);
    copy(b.signs + g * R.group / 8, group.signs, R.group / 8);
  }
  if (failed) most = __builtin_nanf("");  // the block is refused by its scale
  if (most == 0 && R.clears_zeros) return;
  if (most != 0) {
    const float d = most / 31.0f, inverse = 1.0f / d;
    blocks::put_half(block, to_f16(d * R.stretch));
    for (int g = 0; g < GROUPS; g++)
      b.codes[g] = static_cast<uint8_t>(max(0, min(15, nearest_int(0.5f * (inverse * scales[g] - 1.0f)))));
  }
  put_grid_block<TYPE>(block, b);
}

template <Type TYPE>
void quantize_grid(const Job& job, Batch& b, size_t at, size_t count) {
  if (job.importance) load_importance(job, b, at, count, 256);
  constexpr size_t BYTES = static_cast<size_t>(layout_of(TYPE).bytes);
  for (size_t i = 0; i < count; i += 256)
    quantize_grid_block<TYPE>(job, b.x + i, job.importance ? b.importance + i : nullptr, job.out + (at + i) / 256 * BYTES);
}

}  // namespace
}  // namespace fb::gguf::FB_LEVEL_NAMESPACE
