// Stored weights -> floats, exactly as src/core/half.ts and src/weights/ define the values: one rounding an operation. `arithmetic` is the
// type in which the reference restores (0 F32, 1 F16, 2 BF16): every operation is rounded to it. `target` is the type of the result
// (likewise): the float32 value is rounded to it once. Units are runs of 4096 flat elements.
#include "blocks/decode.h"
#include "exports.h"
#include "half.h"

namespace fb {
namespace {

constexpr size_t BLOCK = 4096;

enum Type { F32 = 0, F16 = 1, BF16 = 2, F64 = 3 };

/** Flat elements [from, to) of this call: args[0] and args[1] are units, `count` all elements. */
struct Range {
  size_t from, to;
  Range(const double* args, double count)
      : from(static_cast<size_t>(args[0]) * BLOCK),
        to(min(static_cast<size_t>(count), static_cast<size_t>(args[1]) * BLOCK)) {}
};

FB_INLINE float rounded(Type type, float value) {
  if (type == F16) return from_f16(to_f16(value));
  return type == BF16 ? from_bf16(to_bf16(value)) : value;
}

/** Which group an element belongs to (src/weights/scheme.ts, Grouping). */
struct Groups {
  enum Kind { flat = 0, strided = 1, tensor = 2 } kind;
  size_t size, count;
  FB_INLINE size_t of(size_t i) const { return kind == flat ? i / size : kind == strided ? i % count : 0; }
};

enum ZeroKind { constant = 0, point = 1, shift = 2 };

/** Calls fill(from, to, y) for the blocks of a range; y receives float32 values, which leave as `target`. */
template <typename Fill>
void decode_blocks(Range range, int target, void* out, const Fill& fill) {
  if (target == F32) {
    fill(range.from, range.to, static_cast<float*>(out) + range.from);
    return;
  }
  float values[BLOCK];
  uint16_t* y = static_cast<uint16_t*>(out);
  for (size_t from = range.from; from < range.to; from += BLOCK) {
    const size_t to = min(range.to, from + BLOCK);
    fill(from, to, values);
    if (target == F16) {
      for (size_t i = from; i < to; i++) y[i] = to_f16(values[i - from]);
    } else {
      for (size_t i = from; i < to; i++) y[i] = to_bf16(values[i - from]);
    }
  }
}

/** Calls run(from, to, group) for the stretches of [from, to) that lie in one group. */
template <typename Run>
FB_INLINE void each_group(Groups groups, size_t from, size_t to, const Run& run) {
  if (groups.kind == Groups::strided) {
    for (size_t i = from; i < to; i++) run(i, i + 1, i % groups.count);
    return;
  }
  for (size_t i = from; i < to;) {
    const size_t g = groups.of(i);
    const size_t end = groups.kind == Groups::tensor ? to : min(to, (g + 1) * groups.size);
    run(i, end, g);
    i = end;
  }
}

template <Type TYPE>
void affine(Range range, int target, void* out, const uint8_t* codes, const float* scale, const float* zeros, Groups groups,
            ZeroKind zero_kind, float zero_point) {
  decode_blocks(range, target, out, [&](size_t from, size_t to, float* y) {
    each_group(groups, from, to, [&](size_t begin, size_t end, size_t g) {
      const float s = scale[g];
      if (zero_kind == shift) {
        const float z = zeros[g];
        for (size_t i = begin; i < end; i++) y[i - from] = rounded(TYPE, rounded(TYPE, static_cast<float>(codes[i]) * s) + z);
      } else {
        const float z = zero_kind == point ? zeros[g] : zero_point;
        for (size_t i = begin; i < end; i++) y[i - from] = rounded(TYPE, rounded(TYPE, static_cast<float>(codes[i]) - z) * s);
      }
    });
  });
}

/** Codebooks and codes of src/weights/additive.ts. */
struct Additive {
  const void* codes;
  const float* codebooks;
  const float* scale;
  size_t columns, count, out, in;
  int bits;
  FB_INLINE size_t code(size_t at) const {
    return bits <= 8 ? static_cast<const uint8_t*>(codes)[at] : static_cast<const uint16_t*>(codes)[at];
  }
};

/** The sum of several bf16 entries is rounded with halves away from zero, as torch's embedding bag does. */
FB_INLINE float rounded_sum(Type type, size_t terms, float sum) {
  const uint32_t all = bits<uint32_t>(sum);
  if (type != BF16 || terms == 1 || (all & 0x7f800000) == 0x7f800000) return rounded(type, sum);
  return bits<float>((all + 0x8000) & 0xffff0000);
}

template <Type TYPE>
void additive(Range range, int target, void* out, const Additive& a) {
  const size_t groups = a.columns / a.in, size = a.out * a.in;
  decode_blocks(range, target, out, [&](size_t from, size_t to, float* y) {
    for (size_t i = from; i < to;) {
      const size_t row = i / a.columns, column = i % a.columns;
      const size_t r = row / a.out, first = column % a.in;
      const size_t end = min(to, i + a.in - first);
      const size_t at = (r * groups + column / a.in) * a.count;
      for (size_t within = row % a.out * a.in + first; i < end; i++, within++) {
        float sum = 0;
        for (size_t c = 0; c < a.count; c++) sum += a.codebooks[((c << a.bits) + a.code(at + c)) * size + within];
        y[i - from] = rounded(TYPE, rounded_sum(TYPE, a.count, sum) * a.scale[r]);
      }
    }
  });
}

}  // namespace
}  // namespace fb

/** inputs: x [count]; outputs: [count] of the target type; params: units, count, type (0 F32, 1 F16, 2 BF16, 3 F64), target. */
FB_EXPORT double fb_cast(const double* args) {
  using namespace fb;
  const void* x = pointer<const void>(args[2]);
  const int type = static_cast<int>(args[6]);
  decode_blocks(Range(args, args[5]), static_cast<int>(args[7]), pointer<void>(args[3]), [&](size_t from, size_t to, float* y) {
    switch (type) {
      case F32:
        copy(y, static_cast<const float*>(x) + from, (to - from) * sizeof(float));
        break;
      case F16:
        for (size_t i = from; i < to; i++) y[i - from] = from_f16(static_cast<const uint16_t*>(x)[i]);
        break;
      case BF16:
        for (size_t i = from; i < to; i++) y[i - from] = from_bf16(static_cast<const uint16_t*>(x)[i]);
        break;
      default:
        for (size_t i = from; i < to; i++) y[i - from] = static_cast<float>(static_cast<const double*>(x)[i]);
    }
  });
  return 0;
}

/** inputs: codes U8 [count], nested F32, table F32 [256], offset F32 [1]; outputs: F32 [count]; params: units, count, nested size. */
FB_EXPORT double fb_restore_scales(const double* args) {
  using namespace fb;
  const Range range(args, args[8]);
  const uint8_t* codes = pointer<const uint8_t>(args[2]);
  const float* nested = pointer<const float>(args[3]);
  const float* table = pointer<const float>(args[4]);
  const float offset = *pointer<const float>(args[5]);
  float* y = pointer<float>(args[6]);
  const size_t size = static_cast<size_t>(args[9]);
  for (size_t i = range.from; i < range.to; i++) {
    const float product = table[codes[i]] * nested[i / size];
    y[i] = product + offset;
  }
  return 0;
}

/**
 * inputs: codes U8 [count], scale F32 [G], zeros F32 [G] (any block where the zero is a number); outputs: [count] of the target type;
 * params: units, count, group kind (0 flat, 1 strided, 2 tensor), group size, G, zero kind (0 number, 1 point, 2 shift), number,
 * arithmetic, target.
 */
FB_EXPORT double fb_decode_affine(const double* args) {
  using namespace fb;
  const Groups groups = {static_cast<Groups::Kind>(static_cast<int>(args[8])), static_cast<size_t>(args[9]), static_cast<size_t>(args[10])};
  const int arithmetic = static_cast<int>(args[13]);
  const auto run = arithmetic == F16 ? affine<F16> : arithmetic == BF16 ? affine<BF16> : affine<F32>;
  run(Range(args, args[7]), static_cast<int>(args[14]), pointer<void>(args[5]), pointer<const uint8_t>(args[2]),
      pointer<const float>(args[3]), pointer<const float>(args[4]), groups, static_cast<ZeroKind>(static_cast<int>(args[11])),
      static_cast<float>(args[12]));
  return 0;
}

/** LLM.int8. inputs: codes U8 [N, K], absmax F32 [N]; outputs: [N, K] of the target type; params: units, count, K, target. */
FB_EXPORT double fb_decode_int8(const double* args) {
  using namespace fb;
  const uint8_t* codes = pointer<const uint8_t>(args[2]);
  const float* absmax = pointer<const float>(args[3]);
  const Groups rows = {Groups::flat, static_cast<size_t>(args[7]), 0};
  constexpr float INVERSE_127 = 1.0f / 127.0f;
  decode_blocks(Range(args, args[6]), static_cast<int>(args[8]), pointer<void>(args[4]), [&](size_t from, size_t to, float* y) {
    each_group(rows, from, to, [&](size_t begin, size_t end, size_t row) {
      const float scale = absmax[row];
      for (size_t i = begin; i < end; i++) {
        const float product = static_cast<float>(static_cast<int>(codes[i]) - 128) * scale;
        y[i - from] = product * INVERSE_127;
      }
    });
  });
  return 0;
}

/**
 * inputs: codes U8 [count], scale F32 [G], table F32; outputs: [count] of the target type; params: units, count, group kind, group size,
 * G, target.
 */
FB_EXPORT double fb_decode_lookup(const double* args) {
  using namespace fb;
  const uint8_t* codes = pointer<const uint8_t>(args[2]);
  const float* scale = pointer<const float>(args[3]);
  const float* table = pointer<const float>(args[4]);
  const Groups groups = {static_cast<Groups::Kind>(static_cast<int>(args[8])), static_cast<size_t>(args[9]), static_cast<size_t>(args[10])};
  decode_blocks(Range(args, args[7]), static_cast<int>(args[11]), pointer<void>(args[5]), [&](size_t from, size_t to, float* y) {
    each_group(groups, from, to, [&](size_t begin, size_t end, size_t g) {
      const float s = scale[g];
      for (size_t i = begin; i < end; i++) y[i - from] = table[codes[i]] * s;
    });
  });
  return 0;
}

/**
 * inputs: blocks of a type (blocks/types.h), I8 values of its grid (or empty); outputs: [count] of the target type; params: units, count,
 * type, target.
 */
FB_EXPORT double fb_decode_superblock(const double* args) {
  using namespace fb;
  const blocks::Type type = static_cast<blocks::Type>(static_cast<int>(args[7]));
  const blocks::Layout layout = blocks::layout_of(type);
  const blocks::Decoder decode = blocks::decoder_of(type);
  const size_t elements = static_cast<size_t>(layout.elements), bytes = static_cast<size_t>(layout.bytes);
  const uint8_t* stored = pointer<const uint8_t>(args[2]);
  const int8_t* grid = pointer<const int8_t>(args[3]);
  decode_blocks(Range(args, args[6]), static_cast<int>(args[8]), pointer<void>(args[4]), [&](size_t from, size_t to, float* y) {
    for (size_t at = from; at < to; at += elements) decode(stored + at / elements * bytes, grid, y + (at - from));
  });
  return 0;
}

/**
 * inputs: codes U8 (U16 above 8 bits) [N/out, K/in, codebooks], codebooks F32 [codebooks, 2^bits, out, in], scale F32 [N/out]; outputs: [count]
 * of the target type; params: units, count, K, codebooks, bits, out, in, arithmetic, target.
 */
FB_EXPORT double fb_decode_additive(const double* args) {
  using namespace fb;
  const Additive a = {
      pointer<const void>(args[2]),   pointer<const float>(args[3]),   pointer<const float>(args[4]),   static_cast<size_t>(args[8]),
      static_cast<size_t>(args[9]),   static_cast<size_t>(args[11]),   static_cast<size_t>(args[12]),   static_cast<int>(args[10]),
  };
  const int arithmetic = static_cast<int>(args[13]);
  const auto run = arithmetic == F16 ? additive<F16> : arithmetic == BF16 ? additive<BF16> : additive<F32>;
  run(Range(args, args[7]), static_cast<int>(args[14]), pointer<void>(args[5]), a);
  return 0;
}
