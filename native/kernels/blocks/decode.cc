// The table of block decoders.
#include "decode.h"

#include "decode-k.h"

namespace fb::blocks {

Decoder decoder_of(Type type) {
  switch (type) {
    case Q4_K: return [](const uint8_t* block, float* y) { decode_q45(block, false, y); };
    case Q5_K: return [](const uint8_t* block, float* y) { decode_q45(block, true, y); };
    case Q6_K: return decode_q6;
    default: return nullptr;
  }
}

}  // namespace fb::blocks
