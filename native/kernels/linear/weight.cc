// Describes and tiles weights; decodes single rows. Portable: the same bytes on every machine, but for WASM, which has no half
// conversion in its vector set and therefore keeps scales as float32.
#include "additive-tile.h"
#include "../blocks/open.h"
#include "decode.h"
#include "layout.h"

namespace fb::linear {
namespace {

bool all_exact(const float* values, size_t count, uint16_t (*to)(float), float (*from)(uint16_t)) {
  for (size_t i = 0; i < count; i++) {
    if (bits<uint32_t>(from(to(values[i]))) != bits<uint32_t>(values[i])) return false;
  }
  return true;
}

ScaleType narrowest_scale(const Source& s) {
#ifdef __wasm__
  return ScaleType::F32;
#endif
  const size_t count = (size_t)s.n * (size_t)(s.k / s.group);
  const bool zeros = s.scheme == Scheme::Affine && s.zero != Zero::Constant;
  if (all_exact(s.scale, count, to_f16, from_f16) && (!zeros || all_exact(s.zeros, count, to_f16, from_f16))) return ScaleType::F16;
  if (all_exact(s.scale, count, to_bf16, from_bf16) && (!zeros || all_exact(s.zeros, count, to_bf16, from_bf16))) return ScaleType::BF16;
  return ScaleType::F32;
}

float float8_unit(const Source& s) { return power_of_two(127 - s.bias - FLOAT8_HALF); }

/** Columns that lie together in the tile; 0: no tile holds such groups. */
int span_of(const Source& s) {
  if (s.group == s.k || s.group % CHUNK == 0) return s.group;
  return (s.group == 8 || s.group == 16) && s.scheme != Scheme::Float8 ? CHUNK : 0;
}

void write_scale(ScaleType type, uint8_t* out, int lane, float value) {
  if (type == ScaleType::F32) {
    copy(out + lane * 4, &value, 4);
    return;
  }
  const uint16_t half = type == ScaleType::F16 ? to_f16(value) : to_bf16(value);
  copy(out + lane * 2, &half, 2);
}

/** Writes one row's chunk of up to 32 codes into lane `lane`; four codes at a time in one word. */
void write_chunk(int bits, const uint8_t* codes, int count, uint8_t* out, int lane) {
  uint32_t blocks[8] = {0};
  copy(blocks, codes, (size_t)count);
  int shift = 0;
  for (int width = 8; width; width >>= 1) {
    if (!(bits & width)) continue;
    const int per_byte = 8 / width;
    const uint32_t mask = 0x01010101u * ((1u << width) - 1);
    for (int v = 0; v < width; v++) {
      uint32_t word = 0;
      for (int i = 0; i < per_byte; i++) word |= (blocks[v * per_byte + i] >> shift & mask) << (i * width);
      copy(out + v * VECTOR + lane * 4, &word, 4);
    }
    out += width * VECTOR;
    shift += width;
  }
}

void tile_groups(const Source& s, const Weight& w, uint8_t* out, int panel) {
  const int groups = s.k / s.group;
  const bool zeros = w.scheme == Scheme::Affine && w.zero != Zero::Constant;
  zero(out, w.panel_bytes);
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const size_t row = (size_t)(panel * PANEL_ROWS + lane);
    for (int k = 0; k < s.k; k += w.span) {
      uint8_t* span = out + w.group_bytes * (size_t)(k / w.span);
      const int end = k + w.span < s.k ? k + w.span : s.k;
      for (int from = k; from < end; from += CHUNK, span += chunk_bytes(w.bits))
        write_chunk(w.bits, s.data + row * (size_t)s.k + (size_t)from, end - from < CHUNK ? end - from : CHUNK, span, lane);
      for (int g = k / s.group; g < end / s.group; g++, span += PANEL_ROWS * scale_bytes(w.scale_type)) {
        const size_t at = row * (size_t)groups + (size_t)g;
        write_scale(w.scale_type, span, lane, s.scale[at]);
        if (zeros) write_scale(w.scale_type, span + zeros_behind(w), lane, s.zeros[at]);
      }
    }
  }
}

/** The codes of one superblock, one a byte, and its small scales. */
struct OpenSuperblock {
  uint8_t codes[SUPERBLOCK];
  uint8_t scales[16];
  uint8_t mins[8];
  const uint8_t* d;
  const uint8_t* dmin;
};

void open_q45(const uint8_t* block, bool five, OpenSuperblock& o) {
  o.d = block;
  o.dmin = block + 2;
  const uint8_t* sc = block + 4;
  for (int j = 0; j < 8; j++) {
    o.scales[j] = j < 4 ? sc[j] & 63 : (sc[j + 4] & 15) | (sc[j - 4] >> 6) << 4;
    o.mins[j] = j < 4 ? sc[j + 4] & 63 : sc[j + 4] >> 4 | (sc[j] >> 6) << 4;
  }
  const uint8_t* high = block + 16;
  const uint8_t* low = block + (five ? 48 : 16);
  for (int g = 0; g < 8; g++) {
    for (int l = 0; l < 32; l++) {
      const uint8_t byte = low[32 * (g >> 1) + l];
      uint8_t q = g & 1 ? byte >> 4 : byte & 15;
      if (five) q |= (high[l] >> g & 1) << 4;
      o.codes[32 * g + l] = q;
    }
  }
}

void open_q6(const uint8_t* block, OpenSuperblock& o) {
  o.d = block + 208;
  for (int j = 0; j < 16; j++) o.scales[j] = block[192 + j];
  for (int e = 0; e < SUPERBLOCK; e++) {
    const int n = e >> 7, k = e >> 5 & 3, l = e & 31;
    const uint8_t low = block[64 * n + (k & 1 ? 32 : 0) + l];
    o.codes[e] = (k < 2 ? low & 15 : low >> 4) | (block[128 + 32 * n + l] >> (2 * k) & 3) << 4;
  }
}

void open_q2(const uint8_t* block, OpenSuperblock& o) {
  o.d = block + 80;
  o.dmin = block + 82;
  copy(o.scales, block, 16);
  for (int e = 0; e < SUPERBLOCK; e++) o.codes[e] = block[16 + 32 * (e >> 7) + (e & 31)] >> (2 * (e >> 5 & 3)) & 3;
}

int superblock_bytes(Scheme scheme) {
  return scheme == Scheme::Q2_K ? 84 : scheme == Scheme::Q4_K ? 144 : scheme == Scheme::Q5_K ? 176 : 210;
}

void open_superblock(Scheme scheme, const uint8_t* block, OpenSuperblock& o) {
  if (scheme == Scheme::Q6_K) return open_q6(block, o);
  if (scheme == Scheme::Q2_K) return open_q2(block, o);
  open_q45(block, scheme == Scheme::Q5_K, o);
}

void tile_superblocks(const Source& s, const Weight& w, uint8_t* out, int panel) {
  const int blocks = s.k / SUPERBLOCK;
  const int bytes = superblock_bytes(s.scheme);
  const int code_bytes = SUPERBLOCK / CHUNK * chunk_bytes(w.bits);
  zero(out, w.panel_bytes);
  OpenSuperblock open;
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const uint8_t* row = s.data + (size_t)(panel * PANEL_ROWS + lane) * (size_t)blocks * (size_t)bytes;
    for (int b = 0; b < blocks; b++) {
      uint8_t* to = out + w.group_bytes * (size_t)b;
      open_superblock(s.scheme, row + (size_t)b * (size_t)bytes, open);
      for (int c = 0; c < SUPERBLOCK / CHUNK; c++) write_chunk(w.bits, open.codes + c * CHUNK, CHUNK, to + c * chunk_bytes(w.bits), lane);
      to += code_bytes;
      for (int j = 0; j < SUPERBLOCK / w.group; j++) to[j * PANEL_ROWS + lane] = open.scales[j];
      copy(to + 256 + lane * 2, open.d, 2);
      if (s.scheme == Scheme::Q6_K) continue;
      copy(to + 288 + lane * 2, open.dmin, 2);
      if (s.scheme == Scheme::Q2_K) continue;
      for (int j = 0; j < 8; j++) to[128 + j * PANEL_ROWS + lane] = open.mins[j];
    }
  }
}

/** Superblocks as levels: a code is the number of a level in the type's table. */
void tile_levels(const Source& s, const Weight& w, uint8_t* out, int panel) {
  const int blocks = s.k / SUPERBLOCK;
  const size_t bytes = (size_t)blocks::layout_of(s.type).bytes;
  const blocks::OpenLayout layout = blocks::open_layout(s.type);
  const blocks::Opener open = blocks::opener_of(s.type);
  uint8_t number[256] = {0};
  for (int i = 15; i >= 0; i--) number[(uint8_t)layout.levels[i]] = (uint8_t)i;
  zero(out, w.panel_bytes);
  blocks::OpenBlock o;
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const uint8_t* row = s.data + (size_t)(panel * PANEL_ROWS + lane) * (size_t)blocks * bytes;
    for (int b = 0; b < blocks; b++) {
      open(row + (size_t)b * bytes, s.grid, o);
      uint8_t codes[SUPERBLOCK];
      for (int i = 0; i < SUPERBLOCK; i++) codes[i] = number[(uint8_t)o.levels[i]];
      uint8_t* to = out + w.group_bytes * (size_t)b;
      for (int c = 0; c < SUPERBLOCK / CHUNK; c++) write_chunk(w.bits, codes + c * CHUNK, CHUNK, to + c * chunk_bytes(w.bits), lane);
      to += SUPERBLOCK / CHUNK * chunk_bytes(w.bits);
      for (int g = 0; g < SUPERBLOCK / w.group; g++) to[g * PANEL_ROWS + lane] = (uint8_t)o.scales[g];
      copy(to + level_scale_bytes(w.group) + lane * 2, &o.d, 2);
    }
  }
}

void tile_dense(const Source& s, const Weight& w, uint8_t* out, int panel) {
  zero(out, w.panel_bytes);
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const size_t first = (size_t)(panel * PANEL_ROWS + lane) * (size_t)s.k;
    if (w.scheme == Scheme::DenseF32) {
      for (int k = 0; k < s.k; k++) copy(out + ((size_t)k * PANEL_ROWS + (size_t)lane) * 4, s.data + (first + (size_t)k) * 4, 4);
    } else if (w.scheme == Scheme::DenseF16) {
      for (int k = 0; k < s.k; k++) copy(out + ((size_t)k * PANEL_ROWS + (size_t)lane) * 2, s.data + (first + (size_t)k) * 2, 2);
    } else {
      for (int k = 0; k < s.k; k++) {
        copy(out + (size_t)(k >> 1) * VECTOR + lane * 4 + (k & 1) * 2, s.data + (first + (size_t)k) * 2, 2);
      }
    }
  }
}

/** Groups that the tile cannot hold: values, decoded with the definition's roundings. */
void tile_decoded(const Source& s, const Weight& w, uint8_t* out, int panel) {
  zero(out, w.panel_bytes);
  const int groups = s.k / s.group;
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const size_t row = (size_t)(panel * PANEL_ROWS + lane);
    for (int k = 0; k < s.k; k++) {
      const size_t at = row * (size_t)groups + (size_t)(k / s.group);
      const uint8_t q = s.data[row * (size_t)s.k + (size_t)k];
      float value;
      if (s.scheme == Scheme::Float8) value = float8_value(s.mantissa, float8_unit(s), q) * s.scale[at];
      else if (s.scheme == Scheme::Lookup16) value = s.table[q & 15] * s.scale[at];
      else value = affine_value(s.zero, (float)q, s.scale[at], s.zero == Zero::Constant ? s.zero_point : s.zeros[at]);
      copy(out + ((size_t)k * PANEL_ROWS + (size_t)lane) * 4, &value, 4);
    }
  }
}

void split_table(Weight& w) {
  float most = 0;
  for (int i = 0; i < 16; i++) {
    const float size = w.table[i] < 0 ? -w.table[i] : w.table[i];
    most = most < size ? size : most;
  }
  w.table_unit = most / 16383.0f;
  const float inverse = most > 0 ? 16383.0f / most : 0.0f;
  for (int i = 0; i < 16; i++) {
    float rest = w.table[i] * inverse;
    for (int p = 0; p < 2; p++) {
      const float whole = (rest + 12582912.0f) - 12582912.0f;
      const int word = (int)whole;
      w.table_planes[2 * p][i] = (uint8_t)(word & 255);
      w.table_planes[2 * p + 1][i] = (uint8_t)(word >> 8 & 255);
      rest = (rest - whole) * 32768.0f;
    }
  }
}

}  // namespace

Weight describe(const Source& s) {
  Weight w = {};
  w.scheme = s.scheme;
  w.n = s.n;
  w.k = s.k;
  w.panels = (s.n + PANEL_ROWS - 1) / PANEL_ROWS;
  if (s.scheme == Scheme::Additive) {
    describe_additive(s, w);
    return w;
  }
  if (!is_dense(s.scheme) && !is_superblock(s.scheme) && span_of(s) == 0) w.scheme = Scheme::DenseF32;
  if (is_dense(w.scheme)) {
    w.bits = w.scheme == Scheme::DenseF32 ? 32 : 16;
    w.group_bytes = (size_t)(w.bits / 8) * PANEL_ROWS;
    w.panel_bytes = w.group_bytes * (size_t)(s.k + (s.k & 1));
    return w;
  }
  if (s.scheme == Scheme::Levels) {
    const blocks::OpenLayout layout = blocks::open_layout(s.type);
    w.bits = (uint8_t)layout.bits;
    w.group = layout.group;
    w.unit = layout.unit;
    for (int i = 0; i < 16; i++) w.table[i] = (float)layout.levels[i];
    w.group_bytes = (size_t)(SUPERBLOCK / CHUNK * chunk_bytes(w.bits) + level_scale_bytes(w.group) + VECTOR);
    w.panel_bytes = w.group_bytes * (size_t)(s.k / SUPERBLOCK);
    return w;
  }
  if (is_superblock(s.scheme)) {
    w.bits = (uint8_t)superblock_bits(s.scheme);
    w.group = superblock_group(s.scheme);
    w.group_bytes = (size_t)(SUPERBLOCK / CHUNK * chunk_bytes(w.bits) + SUPERBLOCK_SCALES);
    w.panel_bytes = w.group_bytes * (size_t)(s.k / SUPERBLOCK);
    return w;
  }
  w.bits = (uint8_t)(s.scheme == Scheme::Lookup16 ? 4 : s.bits);
  w.group = s.group;
  w.span = span_of(s);
  w.zero = s.scheme == Scheme::Affine ? s.zero : Zero::Constant;
  w.zero_point = s.scheme == Scheme::Affine && s.zero == Zero::Constant ? s.zero_point : 0;
  w.scale_type = narrowest_scale(s);
  if (s.scheme == Scheme::Float8) {
    w.mantissa = (uint8_t)s.mantissa;
    w.unit = float8_unit(s);
  }
  if (s.scheme == Scheme::Lookup16) {
    for (int i = 0; i < 16; i++) w.table[i] = s.table[i];
    split_table(w);
  }
  w.group_bytes = (size_t)(chunks_of(w.span) * chunk_bytes(w.bits) + zeros_behind(w) * (w.zero == Zero::Constant ? 1 : 2));
  w.panel_bytes = w.group_bytes * (size_t)((s.k + w.span - 1) / w.span);
  return w;
}

void tile(const Source& s, const Weight& w, uint8_t* out, int panel_from, int panel_to) {
  for (int panel = panel_from; panel < panel_to; panel++) {
    uint8_t* to = out + w.panel_bytes * (size_t)panel;
    if (s.scheme != w.scheme) tile_decoded(s, w, to, panel);
    else if (w.scheme == Scheme::Additive) tile_additive(s, w, to, panel);
    else if (is_dense(w.scheme)) tile_dense(s, w, to, panel);
    else if (w.scheme == Scheme::Levels) tile_levels(s, w, to, panel);
    else if (is_superblock(w.scheme)) tile_superblocks(s, w, to, panel);
    else tile_groups(s, w, to, panel);
  }
}

void decode_row(const Weight& w, int row, float* out) {
  if (w.scheme == Scheme::Additive) return decode_additive_row(w, row, out);
  const uint8_t* panel = panel_of(w, row / PANEL_ROWS);
  float block[SUPERBLOCK * PANEL_ROWS];
  for (int k = 0; k < w.k; k += SUPERBLOCK) {
    const int to = k + SUPERBLOCK < w.k ? k + SUPERBLOCK : w.k;
    decode_panel(w, panel, k, to, block);
    for (int i = k; i < to; i++) out[i] = block[(i - k) * PANEL_ROWS + row % PANEL_ROWS];
  }
}

}  // namespace fb::linear
