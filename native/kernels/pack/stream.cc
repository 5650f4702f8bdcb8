// Codes [rows, columns], one a byte, <-> a run of bits without gaps for each column: order `column-stream` of src/weights/packing.ts, whose
// functions are the oracle.
#include "../exports.h"

namespace {

/** Columns side by side: a line of the codes holds as many, so that it is read once. */
constexpr size_t BESIDE = 64;

struct Stream {
  size_t columns, rows, column_bytes, bits;

  /** Calls `visit(code, byte, shift)` for the codes of columns [from, to). */
  template <class Visit>
  FB_INLINE void walk(size_t from, size_t to, Visit&& visit) const {
    for (size_t first = from; first < to; first += BESIDE) {
      const size_t end = fb::min(to, first + BESIDE);
      for (size_t r = 0; r < rows; r++)
        for (size_t c = first; c < end; c++) visit(r * columns + c, c * column_bytes + r * bits / 8, r * bits % 8);
    }
  }
};

/** params: units (columns), rows, bytes a column, bits. */
Stream stream(const double* params) {
  return {static_cast<size_t>(params[0]), static_cast<size_t>(params[1]), static_cast<size_t>(params[2]),
          static_cast<size_t>(params[3])};
}

}  // namespace

/** Units are columns. inputs: codes U8 [rows, columns]; outputs: bytes of zero; params: see stream. */
FB_EXPORT double fb_pack_stream(const double* args) {
  const Stream s = stream(args + 4);
  const uint8_t* codes = fb::pointer<const uint8_t>(args[2]);
  uint8_t* bytes = fb::pointer<uint8_t>(args[3]);
  s.walk(static_cast<size_t>(args[0]), static_cast<size_t>(args[1]), [&](size_t code, size_t byte, size_t shift) FB_LAMBDA {
    bytes[byte] |= static_cast<uint8_t>(codes[code] << shift);
    if (shift + s.bits > 8) bytes[byte + 1] |= static_cast<uint8_t>(codes[code] >> (8 - shift));
  });
  return 0;
}

/** Reverses fb_pack_stream. */
FB_EXPORT double fb_unpack_stream(const double* args) {
  const Stream s = stream(args + 4);
  const uint8_t* bytes = fb::pointer<const uint8_t>(args[2]);
  uint8_t* codes = fb::pointer<uint8_t>(args[3]);
  const uint32_t mask = (1u << s.bits) - 1;
  s.walk(static_cast<size_t>(args[0]), static_cast<size_t>(args[1]), [&](size_t code, size_t byte, size_t shift) FB_LAMBDA {
    uint32_t both = bytes[byte];
    if (shift + s.bits > 8) both |= static_cast<uint32_t>(bytes[byte + 1]) << 8;
    codes[code] = static_cast<uint8_t>((both >> shift) & mask);
  });
  return 0;
}
