// Codes (one a byte) <-> words that hold several, driven by the packing record of src/weights/packing.ts, whose functions are the oracle.
// Words are flat: slot s of word w holds code w * slots + s (neighbours), or code s * words + w (split rows). A matrix of neighbours whose
// rows do not fill their last word is packed row by row by the caller's choice of units.
#include "../exports.h"

namespace {

constexpr size_t MAX_SLOTS = 32;

struct Record {
  size_t count, words, slots;
  bool neighbours;
  uint32_t mask, pad;
  uint32_t shifts[MAX_SLOTS];
};

/** params: units, wordsAUnit, count (codes), words, slots, neighbours, bits, padCode, shifts... */
Record record(const double* params) {
  Record r;
  r.count = static_cast<size_t>(params[2]);
  r.words = static_cast<size_t>(params[3]);
  r.slots = fb::min(static_cast<size_t>(params[4]), MAX_SLOTS);
  r.neighbours = params[5] != 0;
  r.mask = (1u << static_cast<uint32_t>(params[6])) - 1;
  r.pad = static_cast<uint32_t>(params[7]);
  for (size_t s = 0; s < r.slots; s++) r.shifts[s] = static_cast<uint32_t>(params[8 + s]);
  return r;
}

/** Words [from, to) of a slot have a code where from <= word < limit. */
FB_INLINE size_t limit(const Record& r, size_t slot, size_t from, size_t to) {
  const size_t step = r.neighbours ? r.slots : 1;
  const size_t first = r.neighbours ? slot : slot * r.words;
  const size_t have = first >= r.count ? 0 : (r.count - first + step - 1) / step;
  return fb::max(from, fb::min(to, have));
}

template <class Word>
void pack(const Record& r, const uint8_t* codes, Word* words, size_t from, size_t to) {
  for (size_t w = from; w < to; w++) words[w] = 0;
  for (size_t s = 0; s < r.slots; s++) {
    const uint32_t shift = r.shifts[s];
    const size_t end = limit(r, s, from, to);
    if (r.neighbours) {
      const uint8_t* in = codes + s;
      const size_t step = r.slots;
      for (size_t w = from; w < end; w++) words[w] |= static_cast<Word>(static_cast<Word>(in[w * step]) << shift);
    } else {
      const uint8_t* in = codes + s * r.words;
      for (size_t w = from; w < end; w++) words[w] |= static_cast<Word>(static_cast<Word>(in[w]) << shift);
    }
    for (size_t w = end; w < to; w++) words[w] |= static_cast<Word>(r.pad << shift);
  }
}

template <class Word>
void unpack(const Record& r, const Word* words, uint8_t* codes, size_t from, size_t to) {
  const Word mask = static_cast<Word>(r.mask);
  for (size_t s = 0; s < r.slots; s++) {
    const uint32_t shift = r.shifts[s];
    const size_t end = limit(r, s, from, to);
    if (r.neighbours) {
      uint8_t* out = codes + s;
      const size_t step = r.slots;
      for (size_t w = from; w < end; w++) out[w * step] = static_cast<uint8_t>((words[w] >> shift) & mask);
    } else {
      uint8_t* out = codes + s * r.words;
      for (size_t w = from; w < end; w++) out[w] = static_cast<uint8_t>((words[w] >> shift) & mask);
    }
  }
}

/** Two codes a byte, high half first or not: the common case in one pass. */
void pack_pairs(const Record& r, const uint8_t* FB_RESTRICT codes, uint8_t* FB_RESTRICT words, size_t from, size_t to) {
  const uint32_t first = r.shifts[0], second = r.shifts[1];
  const size_t whole = fb::max(from, fb::min(to, r.count / 2));
  for (size_t w = from; w < whole; w++)
    words[w] = static_cast<uint8_t>(codes[2 * w] << first | codes[2 * w + 1] << second);
  for (size_t w = whole; w < to; w++) words[w] = static_cast<uint8_t>(codes[2 * w] << first | r.pad << second);
}

void unpack_pairs(const Record& r, const uint8_t* FB_RESTRICT words, uint8_t* FB_RESTRICT codes, size_t from, size_t to) {
  const uint32_t first = r.shifts[0], second = r.shifts[1];
  const uint8_t mask = static_cast<uint8_t>(r.mask);
  const size_t whole = fb::max(from, fb::min(to, r.count / 2));
  for (size_t w = from; w < whole; w++) {
    codes[2 * w] = static_cast<uint8_t>(words[w] >> first) & mask;
    codes[2 * w + 1] = static_cast<uint8_t>(words[w] >> second) & mask;
  }
  for (size_t w = whole; w < to; w++) codes[2 * w] = static_cast<uint8_t>(words[w] >> first) & mask;
}

struct Range {
  size_t from, to;
};

FB_INLINE Range range(const double* args, const Record& r) {
  const size_t words = static_cast<size_t>(args[5]);
  return {static_cast<size_t>(args[0]) * words, fb::min(r.words, static_cast<size_t>(args[1]) * words)};
}

}  // namespace

/** Units are runs of words. inputs: codes U8 [count]; outputs: U8 words; params: see record. */
FB_EXPORT double fb_pack_u8(const double* args) {
  const Record r = record(args + 4);
  const Range w = range(args, r);
  const uint8_t* codes = fb::pointer<const uint8_t>(args[2]);
  uint8_t* words = fb::pointer<uint8_t>(args[3]);
  if (r.neighbours && r.slots == 2) pack_pairs(r, codes, words, w.from, w.to);
  else pack(r, codes, words, w.from, w.to);
  return 0;
}

/** As fb_pack_u8 with I32 words. */
FB_EXPORT double fb_pack_i32(const double* args) {
  const Record r = record(args + 4);
  const Range w = range(args, r);
  pack(r, fb::pointer<const uint8_t>(args[2]), fb::pointer<uint32_t>(args[3]), w.from, w.to);
  return 0;
}

/** As fb_pack_u8 with I16 words. */
FB_EXPORT double fb_pack_i16(const double* args) {
  const Record r = record(args + 4);
  const Range w = range(args, r);
  pack(r, fb::pointer<const uint8_t>(args[2]), fb::pointer<uint16_t>(args[3]), w.from, w.to);
  return 0;
}

/** Units are runs of words. inputs: U8 words; outputs: codes U8 [count]; params: see record. */
FB_EXPORT double fb_unpack_u8(const double* args) {
  const Record r = record(args + 4);
  const Range w = range(args, r);
  const uint8_t* words = fb::pointer<const uint8_t>(args[2]);
  uint8_t* codes = fb::pointer<uint8_t>(args[3]);
  if (r.neighbours && r.slots == 2) unpack_pairs(r, words, codes, w.from, w.to);
  else unpack(r, words, codes, w.from, w.to);
  return 0;
}

/** As fb_unpack_u8 with I16 words. */
FB_EXPORT double fb_unpack_i16(const double* args) {
  const Record r = record(args + 4);
  const Range w = range(args, r);
  unpack(r, fb::pointer<const uint16_t>(args[2]), fb::pointer<uint8_t>(args[3]), w.from, w.to);
  return 0;
}

/** As fb_unpack_u8 with I32 words. */
FB_EXPORT double fb_unpack_i32(const double* args) {
  const Record r = record(args + 4);
  const Range w = range(args, r);
  unpack(r, fb::pointer<const uint32_t>(args[2]), fb::pointer<uint8_t>(args[3]), w.from, w.to);
  return 0;
}
