// The table of block decoders.
#include "decode.h"

#include "decode-iq.h"
#include "decode-k.h"

namespace fb::blocks {

Decoder decoder_of(Type type) {
  switch (type) {
    case Q4_K: return [](const uint8_t* block, const int8_t*, float* y) { decode_q45(block, false, y); };
    case Q5_K: return [](const uint8_t* block, const int8_t*, float* y) { decode_q45(block, true, y); };
    case Q6_K: return [](const uint8_t* block, const int8_t*, float* y) { decode_q6(block, y); };
    case IQ2_XXS: return decode_iq2_xxs;
    case IQ2_XS: return decode_iq2_xs;
    case IQ2_S: return decode_iq2_s;
    case IQ3_XXS: return decode_iq3_xxs;
    case IQ3_S: return decode_iq3_s;
    case IQ1_S: return decode_iq1_s;
    case IQ1_M: return decode_iq1_m;
    default: return nullptr;
  }
}

}  // namespace fb::blocks
