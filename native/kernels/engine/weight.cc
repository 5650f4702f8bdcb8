// Weights on this side: described, tiled in pieces by the pool, freed.
#include "../exports.h"
#include "../memory.h"
#include "engine.h"

namespace fb {
namespace {

PreparedWeight& weight_at(double address) { return *pointer<PreparedWeight>(address); }

}  // namespace
}  // namespace fb

/**
 * (scheme, n, k, bits, group, zero kind, zero point, data, scale, zeros, table, codebooks, rows a code, block type, grid, mantissa, bias) -> weight with room for its tile, 0 without memory. Numbers of
 * enums as in linear.h; data, scale, zeros, table and grid are pointers that must live until fb_weight_tile has done all panels.
 */
FB_EXPORT double fb_weight_new(const double* args) {
  using namespace fb;
  linear::Source s = {};
  s.scheme = static_cast<linear::Scheme>(static_cast<int>(args[0]));
  s.n = static_cast<int>(args[1]);
  s.k = static_cast<int>(args[2]);
  s.bits = static_cast<int>(args[3]);
  s.group = static_cast<int>(args[4]);
  s.zero = static_cast<linear::Zero>(static_cast<int>(args[5]));
  s.zero_point = static_cast<float>(args[6]);
  s.data = pointer<const uint8_t>(args[7]);
  s.scale = pointer<const float>(args[8]);
  s.zeros = pointer<const float>(args[9]);
  s.table = pointer<const float>(args[10]);
  s.codebooks = static_cast<int>(args[11]);
  s.out = static_cast<int>(args[12]);
  s.type = static_cast<blocks::Type>(static_cast<int>(args[13]));
  s.grid = pointer<const int8_t>(args[14]);
  s.mantissa = static_cast<int>(args[15]);
  s.bias = static_cast<int>(args[16]);
  PreparedWeight* w = static_cast<PreparedWeight*>(allocate(sizeof(PreparedWeight)));
  if (!w) return 0;
  w->source = s;
  w->weight = linear::describe(s);
  w->tile = static_cast<uint8_t*>(allocate_lasting(linear::tile_bytes(w->weight)));
  w->weight.tile = w->tile;
  if (w->tile) return number(w);
  release(w);
  return 0;
}

/** (weight) -> panels */
FB_EXPORT double fb_weight_panels(const double* args) { return fb::weight_at(args[0]).weight.panels; }

/** (weight) -> bytes of the tile */
FB_EXPORT double fb_weight_bytes(const double* args) { return static_cast<double>(fb::linear::tile_bytes(fb::weight_at(args[0]).weight)); }

/** (weight, from, to): writes those panels of the tile. */
FB_EXPORT double fb_weight_tile(const double* args) {
  fb::PreparedWeight& w = fb::weight_at(args[0]);
  const int from = static_cast<int>(args[1]), to = static_cast<int>(args[2]);
  const size_t chunks = static_cast<size_t>(fb::min(to - from, 8 * fb::threads()));
  fb::parallel(chunks, [&](size_t chunk, int) {
    const size_t panels = static_cast<size_t>(to - from);
    fb::linear::tile(w.source, w.weight, w.tile, from + static_cast<int>(panels * chunk / chunks),
                     from + static_cast<int>(panels * (chunk + 1) / chunks));
  });
  return 0;
}

/** (weight) */
FB_EXPORT double fb_weight_free(const double* args) {
  fb::release_lasting(fb::weight_at(args[0]).tile);
  fb::release(&fb::weight_at(args[0]));
  return 0;
}

/** (weight, 1 for fast and 2 for fastest, 1 for decode, 1 for LLM.int8, 1 for inputs that are int8, 64 bytes of room): writes the name of the kernel that such a call takes. */
FB_EXPORT double fb_weight_kernel(const double* args) {
  using namespace fb;
  linear::Call call = {};
  int8_t activations;
  call.weight = &weight_at(args[0]).weight;
  call.rows = 1;
  call.mode = static_cast<linear::Mode>(static_cast<int>(args[1]));
  call.phase = args[2] != 0 ? linear::Phase::Decode : linear::Phase::Prefill;
  if (args[3] != 0) call.x8 = &activations;
  call.unit = static_cast<float>(args[4]);
  const char* name = best_linear(level())->kernel(call);
  char* out = pointer<char>(args[5]);
  int i = 0;
  for (; i < 63 && name[i]; i++) out[i] = name[i];
  out[i] = 0;
  return i;
}
