// The largest magnitude of each block of a flat float32 array: the example of a quantiser kernel (exports.h).
#include "../exports.h"

/** Units are blocks. inputs: x F32 [count]; outputs: absmax F32 [blocks]; params: blocks, count, blockSize. */
FB_EXPORT double fb_absmax(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const float* x = fb::pointer<const float>(args[2]);
  float* absmax = fb::pointer<float>(args[3]);
  const size_t count = static_cast<size_t>(args[5]), size = static_cast<size_t>(args[6]);
  for (size_t block = from; block < to; block++) {
    const size_t end = fb::min(count, (block + 1) * size);
    float largest = 0;
    for (size_t i = block * size; i < end; i++) largest = fb::max(largest, __builtin_fabsf(x[i]));
    absmax[block] = largest;
  }
  return 0;
}
