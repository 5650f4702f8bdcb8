// What quantisers by groups of neighbours share: the range of each group, and codes as rounded quotients. Equal to src/methods/groups.ts
// bit for bit. A group is a run of the flat x; loops have no branches, so that compilers make vectors of them.
#include "../arithmetic.h"
#include "../exports.h"
#include "../float8.h"
#include "../quantized-input.h"

namespace {

typedef float F32x4 __attribute__((vector_size(16)));
typedef int32_t I32x4 __attribute__((vector_size(16)));
constexpr size_t LANES = 4;

using fb::BF16, fb::F16, fb::F32, fb::rounded;
enum Rounding { EVEN = 0, AWAY = 1 };

/** The nearest whole number of a value within [-255, 255]. */
template <int ROUNDING>
FB_INLINE float whole(float value) {
  if (ROUNDING == EVEN) return (value + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23
  const float towards_zero = static_cast<float>(static_cast<int32_t>(value));
  const float rest = value - towards_zero;
  return towards_zero + (rest >= 0.5f ? 1.0f : 0.0f) - (rest <= -0.5f ? 1.0f : 0.0f);
}

struct Codes {
  const float *x, *step, *shift;
  uint8_t* codes;
  size_t count, size;
  float low, high, offset, nan;
};

template <int ARITHMETIC, int ROUNDING>
void quotients(const Codes& c, size_t from, size_t to) {
  for (size_t group = from; group < to; group++) {
    const float step = c.step[group], shift = c.shift ? c.shift[group] : 0;
    const float low = c.low, high = c.high, offset = c.offset, nan = c.nan;
    const size_t start = group * c.size, length = fb::min(c.count, start + c.size) - start;
    const float* FB_RESTRICT x = c.x + start;
    uint8_t* FB_RESTRICT codes = c.codes + start;
    for (size_t i = 0; i < length; i++) {
      const float d = rounded<ARITHMETIC>((c.shift ? rounded<ARITHMETIC>(x[i] + shift) : x[i]) / step);
      float v = d < low ? low : d;
      v = v > high ? high : v;
      v = d == d ? v : nan;
      codes[i] = static_cast<uint8_t>(static_cast<int32_t>(whole<ROUNDING>(v) + offset));
    }
  }
}

template <int ROUNDING>
void quotients(int arithmetic, const Codes& c, size_t from, size_t to) {
  if (arithmetic == F16) quotients<F16, ROUNDING>(c, from, to);
  else if (arithmetic == BF16) quotients<BF16, ROUNDING>(c, from, to);
  else quotients<F32, ROUNDING>(c, from, to);
}

/** The lanes keep no order among zeros of both signs. `x` holds one. */
float first_zero(const float* x) {
  while (*x != 0) x++;
  return *x;
}

template <int ARITHMETIC>
void float8_groups(fb::Float8 type, bool minus_zero, const float* x, const float* scale, uint8_t* codes, size_t count, size_t size, size_t from, size_t to) {
  for (size_t group = from; group < to; group++) {
    const size_t start = group * size, end = fb::min(count, start + size);
    const float s = scale[group];
    if (s == 0) continue;  // outputs start as zeros
    for (size_t i = start; i < end; i++) {
      const float d = rounded<ARITHMETIC>(x[i] / s);
      const int32_t code = type.magnitude(d);
      const int32_t sign = fb::bits<int32_t>(d) < 0 && (minus_zero || code != 0) ? 0x80 : 0;
      codes[i] = static_cast<uint8_t>(code | sign);
    }
  }
}

}  // namespace

/**
 * Units are groups; equal to src/weights/float8-codes.ts. inputs: finite x F32 [count], scale F32 [groups]; outputs: codes U8 [count]; params:
 * groups, count, groupSize, arithmetic, bits of the mantissa, bias, largest value, -0 is no code.
 */
FB_EXPORT double fb_float8(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const double* params = args + 5;
  const size_t count = static_cast<size_t>(params[1]), size = static_cast<size_t>(params[2]);
  const fb::Float8 type = fb::float8(static_cast<int32_t>(params[4]), static_cast<int32_t>(params[5]), static_cast<float>(params[6]));
  const bool minus_zero = params[7] == 0;
  const float* x = fb::pointer<const float>(args[2]);
  const float* scale = fb::pointer<const float>(args[3]);
  uint8_t* codes = fb::pointer<uint8_t>(args[4]);
  const int arithmetic = static_cast<int>(params[3]);
  if (arithmetic == F16) float8_groups<F16>(type, minus_zero, x, scale, codes, count, size, from, to);
  else if (arithmetic == BF16) float8_groups<BF16>(type, minus_zero, x, scale, codes, count, size, from, to);
  else float8_groups<F32>(type, minus_zero, x, scale, codes, count, size, from, to);
  return 0;
}

/**
 * Units are groups. inputs: x F32 [count]; outputs: least F32 [groups], greatest F32 [groups], U8 [groups] 1 where an element is not finite.
 * NaN is in no range, a zero has the sign of the first one. params: groups, count, groupSize.
 */
FB_EXPORT double fb_ranges(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  float *low = fb::pointer<float>(args[3]), *high = fb::pointer<float>(args[4]);
  uint8_t* bad = fb::pointer<uint8_t>(args[5]);
  const size_t count = static_cast<size_t>(args[7]), size = static_cast<size_t>(args[8]);
  for (size_t group = from; group < to; group++) {
    const size_t start = group * size, length = fb::min(count, start + size) - start;
    const float* x = fb::pointer<const float>(args[2]) + start;
    F32x4 least = F32x4{} + __builtin_inff(), greatest = F32x4{} - __builtin_inff(), poison = {};
    for (size_t i = 0; i < length; i += LANES) {
      F32x4 v = F32x4{} + x[i];
      fb::copy(&v, x + i, fb::min(LANES, length - i) * sizeof(float));
      least = v < least ? v : least;
      greatest = v > greatest ? v : greatest;
      poison += v * 0.0f;
    }
    float l = least[0], g = greatest[0];
    for (size_t i = 1; i < LANES; i++) {
      l = least[i] < l ? least[i] : l;
      g = greatest[i] > g ? greatest[i] : g;
    }
    low[group] = l == 0 ? first_zero(x) : l;
    high[group] = g == 0 ? first_zero(x) : g;
    const I32x4 nan = poison != poison;
    bad[group] = (nan[0] | nan[1] | nan[2] | nan[3]) != 0;
  }
  return 0;
}

/**
 * code = offset + whole(clamp((x + shift) / step)), each operation rounded to the arithmetic's type; NaN gives `nan`. Units are groups.
 * inputs: x F32 [count], step F32 [groups], shift F32 [groups] or nothing; outputs: codes U8 [count]; params: groups, count, groupSize,
 * has shift, arithmetic, rounding, low, high, offset, nan.
 */
FB_EXPORT double fb_quotients(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const double* params = args + 6;
  Codes c;
  c.x = fb::pointer<const float>(args[2]);
  c.step = fb::pointer<const float>(args[3]);
  c.shift = params[3] != 0 ? fb::pointer<const float>(args[4]) : nullptr;
  c.codes = fb::pointer<uint8_t>(args[5]);
  c.count = static_cast<size_t>(params[1]);
  c.size = static_cast<size_t>(params[2]);
  c.low = static_cast<float>(params[6]);
  c.high = static_cast<float>(params[7]);
  c.offset = static_cast<float>(params[8]);
  c.nan = static_cast<float>(params[9]);
  const int arithmetic = static_cast<int>(params[4]);
  if (static_cast<int>(params[5]) == AWAY) quotients<AWAY>(arithmetic, c, from, to);
  else quotients<EVEN>(arithmetic, c, from, to);
  return 0;
}

/**
 * Units are runs; equal to src/weights/quantized-input.ts. inputs: x F32 [count], scale F32 [runs], 0 for a run that stays as it is; outputs:
 * F32 [count]; params: runs, count, values of a run, type of the input.
 */
FB_EXPORT double fb_quantized_inputs(const double* args) {
  const size_t from = static_cast<size_t>(args[0]), to = static_cast<size_t>(args[1]);
  const float *x = fb::pointer<const float>(args[2]), *scale = fb::pointer<const float>(args[3]);
  float* y = fb::pointer<float>(args[4]);
  const size_t count = static_cast<size_t>(args[6]), size = static_cast<size_t>(args[7]);
  const fb::InputType type = static_cast<fb::InputType>(static_cast<int>(args[8]));
  for (size_t run = from; run < to; run++) {
    const size_t first = run * size, length = fb::min(size, count - first);
    if (scale[run] == 0) fb::copy(y + first, x + first, length * sizeof(float));
    else fb::quantize_input(x + first, y + first, length, scale[run], type);
  }
  return 0;
}
