// The table of block decoders.
#include "decode.h"

#include "decode-k.h"
#include "decode-small.h"
#include "open-iq.h"

namespace fb::blocks {

namespace {

/** A decoder that needs no grid. */
template <void (*DECODE)(const uint8_t*, float*)>
void plain(const uint8_t* block, const int8_t*, float* y) {
  DECODE(block, y);
}

}  // namespace

Decoder decoder_of(Type type) {
  switch (type) {
    case Q8_1: return plain<decode_q8_1>;
    case Q2_K: return plain<decode_q2>;
    case Q3_K: return decode_open<Q3_K, open_q3>;
    case Q4_K: return plain<decode_q4>;
    case Q5_K: return plain<decode_q5>;
    case Q6_K: return plain<decode_q6>;
    case Q8_K: return plain<decode_q8_k>;
    case IQ4_NL: return plain<decode_iq4_nl>;
    case IQ4_XS: return decode_open<IQ4_XS, open_iq4_xs>;
    case TQ1_0: return plain<decode_tq1>;
    case TQ2_0: return plain<decode_tq2>;
    case MXFP4: return plain<decode_mxfp4>;
    case NVFP4: return plain<decode_nvfp4>;
    case Q1_0: return plain<decode_q1_0>;
    case Q2_0: return plain<decode_q2_0>;
    case IQ2_XXS: return decode_open<IQ2_XXS, open_iq2_xxs>;
    case IQ2_XS: return decode_open<IQ2_XS, open_iq2_xs>;
    case IQ2_S: return decode_open<IQ2_S, open_iq2_s>;
    case IQ3_XXS: return decode_open<IQ3_XXS, open_iq3_xxs>;
    case IQ3_S: return decode_open<IQ3_S, open_iq3_s>;
    case IQ1_S: return decode_open<IQ1_S, open_iq1_s>;
    case IQ1_M: return decode_open<IQ1_M, open_iq1_m>;
    case Q4_0:
    case Q4_1:
    case Q5_0:
    case Q5_1:
    case Q8_0: break;  // affine: fb_decode_affine
  }
  return nullptr;
}

Opener opener_of(Type type) {
  switch (type) {
    case Q3_K: return open_q3;
    case IQ4_XS: return open_iq4_xs;
    case IQ2_XXS: return open_iq2_xxs;
    case IQ2_XS: return open_iq2_xs;
    case IQ2_S: return open_iq2_s;
    case IQ3_XXS: return open_iq3_xxs;
    case IQ3_S: return open_iq3_s;
    case IQ1_S: return open_iq1_s;
    case IQ1_M: return open_iq1_m;
    default: return nullptr;
  }
}

}  // namespace fb::blocks
