// AWQ's search: the arithmetic of src/methods/awq/oracle.ts, compiled for each instruction set (awq.inc); awq.cc chooses.
#pragma once
#include "../base.h"

namespace fb::awq {

/** The dtype that every operation of the search rounds to. */
enum Arithmetic { F32 = 0, F16 = 1, BF16 = 2 };

/** Groups of neighbours along a row, and what a code may be. */
struct Codes {
  size_t rows, columns, group;
  int arithmetic;
  float max;       // 2^bits - 1, or 2^(bits - 1) - 1 where symmetric
  bool symmetric;

  FB_INLINE size_t groups() const { return columns / group; }
};

struct Requantize : Codes {
  const float* w;      // [rows, columns]
  const float* scale;  // [columns] or null
  float* out;          // R(pq(R(w * scale)) / scale)
  bool difference;     // out less w
};

struct Clip : Codes {
  const float* w;  // [rows, columns]
  const float* x;  // [columns, stride]: tokens side by side, zeros behind them
  size_t tokens, stride;
  float* best;     // [rows, groups]
  float* scratch;  // (CLIP_STEPS + 1) groups
};

struct Final : Codes {
  const float* w;     // [rows, columns] of the search's dtype
  const float* clip;  // [rows, groups] or null
  uint8_t* codes;
  float* scale;       // [rows, groups], halves
  uint8_t* zero;
  double* bad;        // [rows]: 1 + the first group without a finite scale, else 0
};

/** Rows that the tile of a product has at once. */
constexpr size_t TILE_ROWS = 6;
/** Columns of a unit of column sums, and of a block of the quadratic form. */
constexpr size_t COLUMN_BLOCK = 64;
/** Tokens stand in multiples of this. */
constexpr size_t TOKENS = 32;
/** Magnitudes that the clip search tries. */
constexpr int CLIP_STEPS = 10;
/** Elements of a unit of fb_round. */
constexpr size_t ELEMENTS = 65536;

enum Scaling { MULTIPLY_COLUMNS = 0, DIVIDE_COLUMNS = 1, DIVIDE_ROWS = 2 };
enum ColumnSum { ABSOLUTE = 0, SQUARE = 1 };

#define FB_AWQ_LEVEL(name)                                                                                                   \
  namespace name {                                                                                                           \
  void requantize(const Requantize& job, size_t from, size_t to);                                                            \
  void clip(const Clip& job, size_t from, size_t to);                                                                        \
  void finish(const Final& job, size_t from, size_t to);                                                                     \
  void scale(const float* x, const float* by, float* y, size_t columns, size_t from, size_t to, int arithmetic, int kind);    \
  void round(const float* x, float* y, size_t count, int arithmetic);                                                        \
  void norm(const float* x, const float* weight, float* y, size_t rows, size_t columns, float eps, int arithmetic);           \
  void column_sums(const float* x, double* sums, size_t rows, size_t columns, size_t from, size_t to, int kind);             \
  void weight_sums(const float* w, double* sums, size_t rows, size_t columns, size_t group, size_t from, size_t to, int arithmetic); \
  double squared_distance(const float* a, const float* b, size_t count);                                                     \
  void gram(const float* x, double* h, size_t rows, size_t columns, size_t strip);                                           \
  void quadratic(const float* d, const float* h, double* sums, size_t rows, size_t columns, size_t block, size_t blocks);     \
  }
FB_AWQ_LEVEL(baseline)
FB_AWQ_LEVEL(avx2)
FB_AWQ_LEVEL(avx512)
#undef FB_AWQ_LEVEL

}  // namespace fb::awq
