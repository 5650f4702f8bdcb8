// The block types of GGUF by ggml's numbers: src/weights/superblock/ and affine-blocks.ts hold the same table with the fields.
#pragma once
#include "../base.h"

namespace fb::blocks {

enum Type : int {
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q8_1 = 9,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  Q8_K = 15,
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  IQ1_M = 29,
  TQ1_0 = 34,
  TQ2_0 = 35,
  MXFP4 = 39,
  NVFP4 = 40,
  Q1_0 = 41,
  Q2_0 = 42
};

struct Layout {
  int elements;  // values in a block
  int bytes;
  int halves[2];  // where the half floats lie that scale or shift the block, -1: none
};

constexpr Layout layout_of(Type type) {
  switch (type) {
    case Q4_0: return {32, 18, {0, -1}};
    case Q4_1: return {32, 20, {0, 2}};
    case Q5_0: return {32, 22, {0, -1}};
    case Q5_1: return {32, 24, {0, 2}};
    case Q8_0: return {32, 34, {0, -1}};
    case Q8_1: return {32, 36, {0, 2}};
    case Q2_K: return {256, 84, {80, 82}};
    case Q3_K: return {256, 110, {108, -1}};
    case Q4_K: return {256, 144, {0, 2}};
    case Q5_K: return {256, 176, {0, 2}};
    case Q6_K: return {256, 210, {208, -1}};
    case IQ2_XXS: return {256, 66, {0, -1}};
    case IQ2_XS: return {256, 74, {0, -1}};
    case IQ2_S: return {256, 82, {0, -1}};
    case IQ3_XXS: return {256, 98, {0, -1}};
    case IQ3_S: return {256, 110, {0, -1}};
    case IQ1_S: return {256, 50, {0, -1}};
    case IQ1_M: return {256, 56, {-1, -1}};  // in pieces: iq1_m_half
    case Q8_K: return {256, 292, {-1, -1}};
    case IQ4_NL: return {32, 18, {0, -1}};
    case IQ4_XS: return {256, 136, {0, -1}};
    case TQ1_0: return {256, 54, {52, -1}};
    case TQ2_0: return {256, 66, {64, -1}};
    case MXFP4: return {32, 17, {-1, -1}};
    case NVFP4: return {64, 36, {-1, -1}};
    case Q1_0: return {128, 18, {0, -1}};
    case Q2_0: return {64, 18, {0, -1}};
  }
  return {};
}

/** Blocks that become codes and scales (src/weights/affine-blocks.ts); all others stay blocks. */
constexpr bool is_affine(Type type) { return type <= Q8_0; }

}  // namespace fb::blocks
