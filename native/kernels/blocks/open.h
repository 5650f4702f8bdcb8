// Blocks of 256 as integers: value = d * scale of its group * unit * level, every product exact in float32. What decoders and tiles share.
#pragma once
#include "tables.h"
#include "types.h"

namespace fb::blocks {

struct OpenBlock {
  int8_t levels[256];
  int8_t scales[16];  // of groups of `group` values
  uint16_t d;         // half bits
};

/** What the open blocks of a type have in common. */
struct OpenLayout {
  int bits;   // of a number of a level in `levels`; 0: the type has no such form
  int group;  // 16 or 32
  float unit;
  int8_t levels[16];  // ascending; the last is repeated
};

constexpr OpenLayout open_layout(Type type) {
  OpenLayout of_8 = {3, 32, 0.125f, {-43, -25, -8, 8, 25, 43, 43, 43, 43, 43, 43, 43, 43, 43, 43, 43}};
  OpenLayout ternary = {3, 32, 0.125f, {-9, -7, -1, 1, 7, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}};
  OpenLayout of_table = {4, 32, 1.0f, {}};
  for (int i = 0; i < 16; i++) of_table.levels[i] = IQ4_VALUES[i];
  switch (type) {
    case Q3_K: return {3, 16, 1.0f, {-4, -3, -2, -1, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3}};
    case IQ4_XS: return of_table;
    case IQ2_XXS: return of_8;
    case IQ2_XS:
    case IQ2_S: of_8.group = 16; return of_8;
    case IQ3_XXS: return {4, 32, 0.25f, {-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62}};
    case IQ3_S: return {4, 32, 1.0f, {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15}};
    case IQ1_S: return ternary;
    case IQ1_M: ternary.group = 16; return ternary;
    default: return {};
  }
}

/** Opens one block. `grid`: the values of the rows of its grid. */
using Opener = void (*)(const uint8_t* block, const int8_t* grid, OpenBlock& out);

/** The opener of a type that has an OpenLayout, or null. */
Opener opener_of(Type type);

}  // namespace fb::blocks
