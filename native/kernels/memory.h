// Memory that both sides see: 64-byte aligned blocks, counted. Only the host's own thread allocates; kernels never do inside a region.
#pragma once
#include "base.h"

namespace fb {

/** A block of at least `bytes`, 64-byte aligned, not cleared; null where memory is exhausted. */
void* allocate(size_t bytes);

/** Gives a block back; null is allowed. */
void release(void* block);

}  // namespace fb
