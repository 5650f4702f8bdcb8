// Blocks of GGUF -> values, with the roundings of src/weights/superblock/, the definition.
#pragma once
#include "types.h"

namespace fb::blocks {

/** Writes the values of one block. `grid`: the values of the rows of its grid, where the type has one. */
using Decoder = void (*)(const uint8_t* block, const int8_t* grid, float* y);

/** The decoder of a type, or null. */
Decoder decoder_of(Type type);

}  // namespace fb::blocks
