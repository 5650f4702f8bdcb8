// AQLM's quantiser of one linear, in phases that a level runs unit by unit. src/methods/aqlm/oracle.ts is the definition: every sum has
// one order, whatever the lanes and threads are.
#pragma once
#include "../base.h"

namespace fb::aqlm {

/** Columns of a panel of H. */
constexpr size_t PANEL = 32;
/** Rows that are multiplied with H at a time. */
constexpr size_t STRIP = 32;
/** Points, or groups of rows, that a unit takes side by side. */
constexpr size_t LANES_A_UNIT = 32;
constexpr size_t MOST_BEAMS = 64;
/** Entries of a codebook from which on leaves of them save more than they cost, entries of a leaf, and inputs of a group at most there. */
constexpr size_t LEAST_ENTRIES = 4096;
constexpr size_t LEAF = 64;
constexpr size_t MOST_WHITENED = 32;

struct Job {
  const float *w, *h;
  const int32_t* points;  // [count, trained]
  uint16_t* codes;        // [outs, ins, count]
  float* codebooks;       // [count, entries, size]
  float* scale;           // [outs]
  size_t rows, columns, out, in, count;
  int bits;
  size_t trained, iterations, beam;

  size_t outs, ins, size, entries;
  size_t values;            // of all codebooks
  size_t per_block, blocks; // groups of rows that share a partial sum
  size_t panels;
  size_t leaves;            // of a codebook; 0: all entries are scored

  // scratch
  float* data;       // [outs * ins, size]: what k-means has left
  float* packed;     // H in panels: [panels, columns, PANEL]
  float* halves;     // [ins, count * entries]: v Hss v / 2
  float* norms;      // [entries]
  float* parts;      // [2, blocks, values]
  float* direction;  // [values], and three more of conjugate gradients
  float *gradient, *preconditioned, *diagonal;
  double* row_sums;   // [rows]
  uint16_t* assigned; // [trained]
  size_t book;        // that k-means is at

  // with leaves (aqlm-tree.inc)
  int32_t *order, *place; // [count, entries]: entry at a place of the leaves' order, and the place of an entry
  float* lanes;           // [count, entries / LANES, size, LANES]
  float* radius;          // [count, leaves]
  float* boxes;           // [ins, count, leaves / LANES, size, 2, LANES]
  double* roots;          // [ins, in * in + 1]: factor of H at a group of columns, square root of its trace
  bool has_leaves() const { return leaves > 0; }
  bool searches_leaves() const { return leaves > 0 && beam == 1; }
};

/** Floats of the boxes of one codebook in one metric. */
FB_INLINE size_t boxes_floats(const Job& job) { return job.leaves * job.size * 2; }

enum Phase {
  SCALE,     // scales, and groups divided by them
  TRAIN,     // nearest centroid of the training points
  ASSIGN,    // of all groups; they lose it
  PACK,      // panels of H
  ENERGY,    // w H w by rows
  GRADIENT,  // residual: error by rows, gradient and diagonal by blocks
  CURVE,     // direction through the quadratic, by blocks
  RESCALE,   // closed form of the scales
  HALVES,    // curvatures of all entries
  SEARCH,    // beam search
  ERROR,     // residual: error by rows
};

#define FB_AQLM_LEVEL(name)                                                              \
  namespace name {                                                                       \
  size_t units(const Job& job, Phase phase);                                             \
  double cost(const Job& job, Phase phase);                                              \
  size_t worker_bytes(const Job& job, Phase phase);                                      \
  void run(const Job& job, Phase phase, size_t unit, uint8_t* local);                    \
  void plant_centroids(const Job& job);                                                  \
  void plant_codebooks(const Job& job);                                                  \
  }
FB_AQLM_LEVEL(baseline)
FB_AQLM_LEVEL(avx2)
FB_AQLM_LEVEL(avx512)
#undef FB_AQLM_LEVEL

}  // namespace fb::aqlm
