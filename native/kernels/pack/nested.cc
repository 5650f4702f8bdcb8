// Codes in the order of nested loops (src/weights/packing.ts, order `nested`): one code a byte, only its place changes. The inner loops,
// whose steps do not depend on the shape, are a table of places; the outer ones count like an odometer.
#include "../exports.h"

namespace {

constexpr size_t MAX_LOOPS = 8;
/** Words of the inner loops at most (packing.ts asks for no more). */
constexpr size_t MAX_BLOCK = 4096;

struct Loop {
  size_t count, distance;
};

struct Nest {
  size_t blocks_a_unit, blocks, outer, block;
  Loop loops[MAX_LOOPS];
  uint32_t places[MAX_BLOCK];
};

/** params: units, blocksAUnit, blocks, outer loops, inner loops, (count, distance) of each from the outermost. */
void read(const double* params, Nest& nest) {
  nest.blocks_a_unit = static_cast<size_t>(params[1]);
  nest.blocks = static_cast<size_t>(params[2]);
  nest.outer = fb::min(static_cast<size_t>(params[3]), MAX_LOOPS);
  for (size_t i = 0; i < nest.outer; i++)
    nest.loops[i] = {static_cast<size_t>(params[5 + 2 * i]), static_cast<size_t>(params[6 + 2 * i])};
  const double* inner = params + 5 + 2 * nest.outer;
  nest.block = 1;
  nest.places[0] = 0;
  // From the innermost loop outwards: each repeats what there is, `distance` further every time.
  for (size_t i = static_cast<size_t>(params[4]); i-- > 0;) {
    const size_t count = static_cast<size_t>(inner[2 * i]), distance = static_cast<size_t>(inner[2 * i + 1]);
    if (nest.block * count > MAX_BLOCK) return;
    for (size_t n = 1; n < count; n++)
      for (size_t j = 0; j < nest.block; j++)
        nest.places[n * nest.block + j] = nest.places[j] + static_cast<uint32_t>(n * distance);
    nest.block *= count;
  }
}

/** `use(first word, place of the first code)` for every block of this call. */
template <class Use>
FB_INLINE void for_blocks(const double* args, const Nest& nest, Use&& use) {
  size_t b = static_cast<size_t>(args[0]) * nest.blocks_a_unit;
  const size_t end = fb::min(nest.blocks, static_cast<size_t>(args[1]) * nest.blocks_a_unit);
  size_t at[MAX_LOOPS] = {}, place = 0, rest = b;
  for (size_t i = nest.outer; i-- > 0;) {
    at[i] = rest % nest.loops[i].count;
    rest /= nest.loops[i].count;
    place += at[i] * nest.loops[i].distance;
  }
  for (; b < end; b++) {
    use(b * nest.block, place);
    for (size_t i = nest.outer; i-- > 0;) {
      place += nest.loops[i].distance;
      if (++at[i] < nest.loops[i].count) break;
      place -= nest.loops[i].count * nest.loops[i].distance;
      at[i] = 0;
    }
  }
}

}  // namespace

/** Units are runs of blocks. inputs: codes U8 [count]; outputs: words U8 [count]; params: see read. */
FB_EXPORT double fb_pack_nested(const double* args) {
  Nest nest;
  read(args + 4, nest);
  const uint8_t* FB_RESTRICT codes = fb::pointer<const uint8_t>(args[2]);
  uint8_t* FB_RESTRICT words = fb::pointer<uint8_t>(args[3]);
  for_blocks(args, nest, [&](size_t word, size_t place) FB_LAMBDA {
    for (size_t i = 0; i < nest.block; i++) words[word + i] = codes[place + nest.places[i]];
  });
  return 0;
}

/** Units are runs of blocks. inputs: words U8 [count]; outputs: codes U8 [count]; params: see read. */
FB_EXPORT double fb_unpack_nested(const double* args) {
  Nest nest;
  read(args + 4, nest);
  const uint8_t* FB_RESTRICT words = fb::pointer<const uint8_t>(args[2]);
  uint8_t* FB_RESTRICT codes = fb::pointer<uint8_t>(args[3]);
  for_blocks(args, nest, [&](size_t word, size_t place) FB_LAMBDA {
    for (size_t i = 0; i < nest.block; i++) codes[place + nest.places[i]] = words[word + i];
  });
  return 0;
}
