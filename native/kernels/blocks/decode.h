// Blocks of GGUF -> values, with the roundings of src/weights/superblock/, the definition.
#pragma once
#include "types.h"

namespace fb::blocks {

/** Writes the values of one block. */
using Decoder = void (*)(const uint8_t* block, float* y);

/** The decoder of a type, or null. */
Decoder decoder_of(Type type);

}  // namespace fb::blocks
