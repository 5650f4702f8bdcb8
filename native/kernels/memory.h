// Memory that both sides see: 64-byte aligned blocks, counted. Only the host's own thread allocates; kernels never do inside a region.
#pragma once
#include "base.h"

namespace fb {

/** A block of at least `bytes`, 64-byte aligned, not cleared; null where memory is exhausted. */
void* allocate(size_t bytes);

/** Gives a block back; null is allowed. */
void release(void* block);

/** A block that lives as long as a model. Small ones lie side by side in large pages. Given back with release_lasting. */
void* allocate_lasting(size_t bytes);
void release_lasting(void* block);

}  // namespace fb
