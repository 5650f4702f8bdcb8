// Half floats inside blocks, at any byte.
#pragma once
#include "../half.h"

namespace fb::blocks {

FB_INLINE uint16_t half_bits_at(const uint8_t* at) { return static_cast<uint16_t>(at[0] | (at[1] << 8)); }
FB_INLINE float half_at(const uint8_t* at) { return from_f16(half_bits_at(at)); }
FB_INLINE void put_half(uint8_t* to, uint16_t half) { copy(to, &half, 2); }

}  // namespace fb::blocks
