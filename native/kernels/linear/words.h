// Dot products in 16-bit lanes: codes widened to words, or looked up in a table of 15-bit values, times int16 digits of the activations.
// One multiplication takes 15 bits of an activation: where bytes would saturate (8-bit codes) or do not exist (WASM, SSE2).
#pragma once
#include "digits.h"
#include "pieces.h"

namespace fb::linear {
namespace {

#if defined(__AVX2__) || defined(__SSE2__) || defined(__wasm_simd128__)
#define FB_WORDS 1

typedef int16_t W __attribute__((vector_size(LANES * 4)));

/** Bytes of two vectors in turn, the first or second eight of each 128 bits: four k of rows 0, 1 or of rows 2, 3 of each four. */
FB_INLINE W interleave_low(U low, U high) {
#if defined(__AVX512F__)
  return (W)_mm512_unpacklo_epi8((__m512i)low, (__m512i)high);
#elif defined(__AVX2__)
  return (W)_mm256_unpacklo_epi8((__m256i)low, (__m256i)high);
#elif defined(__SSE2__)
  return (W)_mm_unpacklo_epi8((__m128i)low, (__m128i)high);
#else
  return (W)wasm_i8x16_shuffle((v128_t)low, (v128_t)high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#endif
}

FB_INLINE W interleave_high(U low, U high) {
#if defined(__AVX512F__)
  return (W)_mm512_unpackhi_epi8((__m512i)low, (__m512i)high);
#elif defined(__AVX2__)
  return (W)_mm256_unpackhi_epi8((__m256i)low, (__m256i)high);
#elif defined(__SSE2__)
  return (W)_mm_unpackhi_epi8((__m128i)low, (__m128i)high);
#else
  return (W)wasm_i8x16_shuffle((v128_t)low, (v128_t)high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
}

/** Products of words, neighbours added. */
FB_INLINE I pair_sums(W a, W b) {
#if defined(__AVX512F__)
  return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (I)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return (I)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)b);
#endif
}

/** Adds the two halves of each row: low holds rows 0, 1, high rows 2, 3 of each four. */
FB_INLINE I join(I low, I high) {
#if defined(__AVX512F__)
  const __m512 a = (__m512)low, b = (__m512)high;
  return (I)_mm512_shuffle_ps(a, b, 0x88) + (I)_mm512_shuffle_ps(a, b, 0xdd);
#elif defined(__AVX2__)
  return (I)_mm256_hadd_epi32((__m256i)low, (__m256i)high);
#else
  return __builtin_shufflevector(low, high, 0, 2, 4, 6) + __builtin_shufflevector(low, high, 1, 3, 5, 7);
#endif
}

FB_INLINE W broadcast8(const uint8_t* from) {
#if defined(__wasm_simd128__)
  return (W)wasm_v128_load64_splat(from);
#else
  int64_t four;
  __builtin_memcpy(&four, from, 8);
#if defined(__AVX512F__)
  return (W)_mm512_set1_epi64(four);
#elif defined(__AVX2__)
  return (W)_mm256_set1_epi64x(four);
#else
  return (W)_mm_set1_epi64x(four);
#endif
#endif
}

/** One of 16 bytes for every byte of `index`. */
FB_INLINE U pick_bytes(const uint8_t* table, U index) {
#if defined(__AVX512F__)
  return (U)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), (__m512i)index);
#elif defined(__AVX2__)
  return (U)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)), (__m256i)index);
#elif defined(__wasm_simd128__)
  return (U)wasm_i8x16_swizzle(load<v128_t>(table), (v128_t)index);
#else
  uint8_t bytes[16];
  store(bytes, index);
  for (int i = 0; i < 16; i++) bytes[i] = table[bytes[i]];
  return load<U>(bytes);
#endif
}

typedef uint16_t UnsignedWords __attribute__((vector_size(LANES * 4)));

/** Four codes a row as words that need no shuffle: those of k 0 and 2, and those of k 1 and 3. */
struct WordPairs {
  W even, odd;
};
FB_INLINE WordPairs pairs_of(U codes) { return {(W)(codes & 0x00ff00ffu), (W)((UnsignedWords)codes >> 8)}; }

/** Codes as they are: BITS bits. */
template <int BITS>
struct PlainCodes {
  static constexpr int bits = BITS, width = BITS;
  FB_INLINE U at(const uint8_t* chunk, int block, int side) const { return code_bytes<BITS>(chunk, block, side); }
  FB_INLINE WordPairs words(const uint8_t* chunk, int block, int side) const {
    if constexpr ((BITS & (BITS - 1)) != 0) return pairs_of(at(chunk, block, side));
    constexpr int PER_BYTE = 8 / BITS;
    constexpr uint16_t MASK = (1 << BITS) - 1;
    const auto bytes = load<UnsignedWords>(chunk + block / PER_BYTE * VECTOR + side * LANES * 4);
    const int shift = block % PER_BYTE * BITS;
    return {(W)(bytes >> shift & MASK), (W)(shift + BITS == 8 ? bytes >> (8 + shift) : bytes >> (8 + shift) & MASK)};
  }
};

/** True where the distance of the last level from the first needs all 8 bits of a byte. */
FB_INLINE bool has_wide_levels(const Weight& w) { return w.scheme == Scheme::Levels && w.table[15] - w.table[0] > 127; }

/** Codes that number levels, which become bytes above the lowest one: 7 bits, where they are not wide. */
template <int BITS>
struct LevelCodes {
  static constexpr int bits = BITS, width = 7;
  uint8_t table[16];

  FB_INLINE explicit LevelCodes(const float* levels) {
    for (int i = 0; i < 16; i++) table[i] = (uint8_t)(levels[i] - levels[0]);
  }
  FB_INLINE U at(const uint8_t* chunk, int block, int side) const { return pick_bytes(table, code_bytes<BITS>(chunk, block, side)); }
  FB_INLINE WordPairs words(const uint8_t* chunk, int block, int side) const { return pairs_of(at(chunk, block, side)); }
};

FB_INLINE W broadcast_pair(const uint8_t* from) {
#if defined(__wasm_simd128__)
  return (W)wasm_v128_load32_splat(from);
#else
  return (W)splat(load<int32_t>(from));
#endif
}

/** Codes times D word digits, which come in pairs (digits.h): a broadcast serves all rows, a sum is one row's. */
template <class Codes, int D>
struct CodeWordDots {
  static constexpr int bits = Codes::bits, step = CHUNK * D * 2, half = 32;
  Codes stored;

  template <int FROM = 0, int COUNT = 8>
  FB_INLINE void sums(const uint8_t* chunk, const uint8_t* digits, F (&out)[SIDES]) const {
    I sums[D][SIDES] = {};
    for (int b = FROM; b < FROM + COUNT; b++, digits += 8) {
      W even[D], odd[D];
      for (int d = 0; d < D; d++) even[d] = broadcast_pair(digits + d * CHUNK * 2), odd[d] = broadcast_pair(digits + d * CHUNK * 2 + 4);
      for (int side = 0; side < SIDES; side++) {
        const WordPairs codes = stored.words(chunk, b, side);
        for (int d = 0; d < D; d++) sums[d][side] += pair_sums(codes.even, even[d]) + pair_sums(codes.odd, odd[d]);
      }
    }
    for (int side = 0; side < SIDES; side++) {
      out[side] = to_float(sums[0][side]);
      if constexpr (D == 2) out[side] = fma(out[side], splat(32768.0f), to_float(sums[1][side]));
    }
  }
};

template <int BITS, int D>
using WordDots = CodeWordDots<PlainCodes<BITS>, D>;

/** The largest first digit for table values up to 2^14, so that 32 products fit. */
constexpr int LOOKUP_TOP = 4095;
constexpr int LOOKUP_SHIFT = 13;
/** Whether the lookup kernel takes words in pairs. */
constexpr bool LOOKUP_PAIRS = LANES == 16;

/**
 * 16-entry table: value = unit * (t0 + t1 / 2^15), each a word held as two planes of bytes.
 * One digit: t0 x d0. Two digits: t0 d0 + t0 d1 / 2^13 + t1 d0 / 2^15; the product of the lowest parts is below float32's error.
 */
#if defined(__AVX512VNNI__)
template <int D>
struct LookupDots {
  static constexpr int bits = 4, step = CHUNK * D * 2, half = 32;
  __m512i tables[D];  // words, twice: an index is a word's low five bits, of which the fifth belongs to a neighbour
  float unit;

  FB_INLINE explicit LookupDots(const Weight& w) : unit(w.table_unit) {
    for (int p = 0; p < D; p++) {
      const __m256i low = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)w.table_planes[2 * p]));
      const __m256i high = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)w.table_planes[2 * p + 1]));
      tables[p] = _mm512_broadcast_i64x4(_mm256_or_si256(low, _mm256_slli_epi16(high, 8)));
    }
  }

  FB_INLINE static __m512i pair(const uint8_t* from) {
    int32_t two;
    __builtin_memcpy(&two, from, 4);
    return _mm512_set1_epi32(two);
  }

  template <int FROM = 0, int COUNT = 8>
  FB_INLINE void sums(const uint8_t* chunk, const uint8_t* digits, F (&out)[SIDES]) const {
    __m512i first = _mm512_setzero_si512(), second = first, third = first;
    const auto add = [&](__m512i index, const uint8_t* x) FB_LAMBDA {
      const __m512i value = _mm512_permutexvar_epi16(index, tables[0]);
      first = _mm512_dpwssd_epi32(first, value, pair(x));
      if constexpr (D == 2) {
        second = _mm512_dpwssd_epi32(second, value, pair(x + CHUNK * 2));
        third = _mm512_dpwssd_epi32(third, _mm512_permutexvar_epi16(index, tables[1]), pair(x));
      }
    };
    for (int v = FROM / 2; v < (FROM + COUNT) / 2; v++, digits += 16) {
      // Words of k 0 and 2 begin at their byte, those of k 1 and 3 one byte later.
      const __m512i even = _mm512_loadu_si512(chunk + v * VECTOR), odd = _mm512_loadu_si512(chunk + v * VECTOR + 1);
      add(even, digits);
      add(odd, digits + 4);
      add(_mm512_srli_epi16(even, 4), digits + 8);
      add(_mm512_srli_epi16(odd, 4), digits + 12);
    }
    out[0] = to_float((I)first);
    if constexpr (D == 2) out[0] = fma(out[0], splat(8192.0f), fma(to_float((I)third), splat(0.25f), to_float((I)second)));
    out[0] = out[0] * splat(unit);
  }
};
#else
template <int D>
struct LookupDots {
  static constexpr int bits = 4, step = CHUNK * D * 2, half = 32;
  const uint8_t (&planes)[4][16];
  float unit;

  FB_INLINE explicit LookupDots(const Weight& w) : planes(w.table_planes), unit(w.table_unit) {}

  template <int FROM = 0, int COUNT = 8>
  FB_INLINE void sums(const uint8_t* chunk, const uint8_t* digits, F (&out)[SIDES]) const {
    for (int side = 0; side < SIDES; side++) {
      I low[3] = {}, high[3] = {};
      for (int b = FROM; b < FROM + COUNT; b++) {
        const U index = code_bytes<4>(chunk, b, side);
        const W a = broadcast8(digits + (b - FROM) * 8);
        const U even = pick_bytes(planes[0], index), odd = pick_bytes(planes[1], index);
        const W first = interleave_low(even, odd), second = interleave_high(even, odd);
        low[0] += pair_sums(first, a), high[0] += pair_sums(second, a);
        if constexpr (D == 2) {
          const W a1 = broadcast8(digits + CHUNK * 2 + (b - FROM) * 8);
          low[1] += pair_sums(first, a1), high[1] += pair_sums(second, a1);
          const U even1 = pick_bytes(planes[2], index), odd1 = pick_bytes(planes[3], index);
          low[2] += pair_sums(interleave_low(even1, odd1), a), high[2] += pair_sums(interleave_high(even1, odd1), a);
        }
      }
      out[side] = to_float(join(low[0], high[0]));
      if constexpr (D == 2) {
        const F rest = fma(to_float(join(low[2], high[2])), splat(0.25f), to_float(join(low[1], high[1])));
        out[side] = fma(out[side], splat(8192.0f), rest);
      }
      out[side] = out[side] * splat(unit);
    }
  }
};
#endif
#endif

}  // namespace
}  // namespace fb::linear
