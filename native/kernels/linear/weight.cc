// Describes and tiles weights; decodes single rows. Portable: the same bytes on every machine, but for WASM, which has no half
// conversion in its vector set and therefore keeps scales as float32.
#include "decode.h"
#include "half.h"
#include "layout.h"

namespace fewbit {
namespace {

bool allExact(const float* values, size_t count, bool (*convert)(float, uint16_t*)) {
  uint16_t bits;
  for (size_t i = 0; i < count; i++) {
    if (!convert(values[i], &bits)) return false;
  }
  return true;
}

ScaleType narrowestScale(const Source& s) {
#ifdef __wasm__
  return ScaleType::F32;
#endif
  const size_t count = (size_t)s.n * (size_t)(s.k / s.group);
  const bool zeros = s.scheme == Scheme::Affine && s.zero != Zero::Constant;
  if (allExact(s.scale, count, toF16Exactly) && (!zeros || allExact(s.zeros, count, toF16Exactly))) return ScaleType::F16;
  if (allExact(s.scale, count, toBF16Exactly) && (!zeros || allExact(s.zeros, count, toBF16Exactly))) return ScaleType::BF16;
  return ScaleType::F32;
}

bool hasTile(const Source& s) { return s.group == s.k || s.group % CHUNK == 0; }

void writeScale(ScaleType type, uint8_t* out, int lane, float value) {
  if (type == ScaleType::F32) {
    __builtin_memcpy(out + lane * 4, &value, 4);
    return;
  }
  uint16_t bits = 0;
  if (type == ScaleType::F16) toF16Exactly(value, &bits);
  else toBF16Exactly(value, &bits);
  __builtin_memcpy(out + lane * 2, &bits, 2);
}

void clear(uint8_t* out, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) out[i] = 0;
}

/** Writes one row's chunk of up to 32 codes into lane `lane`; four codes at a time in one word. */
void writeChunk(int bits, const uint8_t* codes, int count, uint8_t* out, int lane) {
  uint32_t blocks[8] = {0};
  __builtin_memcpy(blocks, codes, (size_t)count);
  int shift = 0;
  for (int width = 8; width; width >>= 1) {
    if (!(bits & width)) continue;
    const int perByte = 8 / width;
    const uint32_t mask = 0x01010101u * ((1u << width) - 1);
    for (int v = 0; v < width; v++) {
      uint32_t word = 0;
      for (int i = 0; i < perByte; i++) word |= (blocks[v * perByte + i] >> shift & mask) << (i * width);
      __builtin_memcpy(out + v * VECTOR + lane * 4, &word, 4);
    }
    out += width * VECTOR;
    shift += width;
  }
}

void tileGroups(const Source& s, const Weight& w, uint8_t* out, int panel) {
  const int groups = s.k / s.group;
  const int chunks = chunksOf(s.group);
  const size_t codeBytes = (size_t)chunks * (size_t)chunkBytes(w.bits);
  const bool zeros = w.scheme == Scheme::Affine && w.zero != Zero::Constant;
  clear(out, w.panelBytes);
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const size_t row = (size_t)(panel * PANEL_ROWS + lane);
    for (int g = 0; g < groups; g++) {
      uint8_t* group = out + w.groupBytes * (size_t)g;
      const uint8_t* codes = s.data + row * (size_t)s.k + (size_t)g * (size_t)s.group;
      for (int c = 0; c < chunks; c++) {
        const int left = s.group - c * CHUNK;
        writeChunk(w.bits, codes + c * CHUNK, left < CHUNK ? left : CHUNK, group + c * chunkBytes(w.bits), lane);
      }
      const size_t at = row * (size_t)groups + (size_t)g;
      writeScale(w.scaleType, group + codeBytes, lane, s.scale[at]);
      if (zeros) writeScale(w.scaleType, group + codeBytes + PANEL_ROWS * scaleBytes(w.scaleType), lane, s.zeros[at]);
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

void openQ45(const uint8_t* block, bool five, OpenSuperblock& o) {
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

void openQ6(const uint8_t* block, OpenSuperblock& o) {
  o.d = block + 208;
  for (int j = 0; j < 16; j++) o.scales[j] = block[192 + j];
  for (int e = 0; e < SUPERBLOCK; e++) {
    const int n = e >> 7, k = e >> 5 & 3, l = e & 31;
    const uint8_t low = block[64 * n + (k & 1 ? 32 : 0) + l];
    o.codes[e] = (k < 2 ? low & 15 : low >> 4) | (block[128 + 32 * n + l] >> (2 * k) & 3) << 4;
  }
}

int superblockBytes(Scheme scheme) { return scheme == Scheme::Q4_K ? 144 : scheme == Scheme::Q5_K ? 176 : 210; }

void tileSuperblocks(const Source& s, const Weight& w, uint8_t* out, int panel) {
  const int blocks = s.k / SUPERBLOCK;
  const int bytes = superblockBytes(s.scheme);
  const int codeBytes = SUPERBLOCK / CHUNK * chunkBytes(w.bits);
  clear(out, w.panelBytes);
  OpenSuperblock open;
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const uint8_t* row = s.data + (size_t)(panel * PANEL_ROWS + lane) * (size_t)blocks * (size_t)bytes;
    for (int b = 0; b < blocks; b++) {
      uint8_t* to = out + w.groupBytes * (size_t)b;
      if (s.scheme == Scheme::Q6_K) openQ6(row + (size_t)b * (size_t)bytes, open);
      else openQ45(row + (size_t)b * (size_t)bytes, s.scheme == Scheme::Q5_K, open);
      for (int c = 0; c < SUPERBLOCK / CHUNK; c++) writeChunk(w.bits, open.codes + c * CHUNK, CHUNK, to + c * chunkBytes(w.bits), lane);
      to += codeBytes;
      if (s.scheme == Scheme::Q6_K) {
        for (int j = 0; j < 16; j++) to[j * PANEL_ROWS + lane] = open.scales[j];
        __builtin_memcpy(to + 256 + lane * 2, open.d, 2);
        continue;
      }
      for (int j = 0; j < 8; j++) to[j * PANEL_ROWS + lane] = open.scales[j];
      for (int j = 0; j < 8; j++) to[128 + j * PANEL_ROWS + lane] = open.mins[j];
      __builtin_memcpy(to + 256 + lane * 2, open.d, 2);
      __builtin_memcpy(to + 288 + lane * 2, open.dmin, 2);
    }
  }
}

void tileDense(const Source& s, const Weight& w, uint8_t* out, int panel) {
  clear(out, w.panelBytes);
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const size_t first = (size_t)(panel * PANEL_ROWS + lane) * (size_t)s.k;
    if (w.scheme == Scheme::DenseF32) {
      for (int k = 0; k < s.k; k++) __builtin_memcpy(out + ((size_t)k * PANEL_ROWS + (size_t)lane) * 4, s.data + (first + (size_t)k) * 4, 4);
    } else if (w.scheme == Scheme::DenseF16) {
      for (int k = 0; k < s.k; k++) __builtin_memcpy(out + ((size_t)k * PANEL_ROWS + (size_t)lane) * 2, s.data + (first + (size_t)k) * 2, 2);
    } else {
      for (int k = 0; k < s.k; k++) {
        __builtin_memcpy(out + (size_t)(k >> 1) * VECTOR + lane * 4 + (k & 1) * 2, s.data + (first + (size_t)k) * 2, 2);
      }
    }
  }
}

/** Groups that the tile cannot hold: values, decoded with the definition's roundings. */
void tileDecoded(const Source& s, const Weight& w, uint8_t* out, int panel) {
  clear(out, w.panelBytes);
  const int groups = s.k / s.group;
  for (int lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < s.n; lane++) {
    const size_t row = (size_t)(panel * PANEL_ROWS + lane);
    for (int k = 0; k < s.k; k++) {
      const size_t at = row * (size_t)groups + (size_t)(k / s.group);
      const uint8_t q = s.data[row * (size_t)s.k + (size_t)k];
      float value;
      if (s.scheme == Scheme::Lookup16) value = s.table[q & 15] * s.scale[at];
      else value = affineValue(s.zero, (float)q, s.scale[at], s.zero == Zero::Constant ? s.zeroPoint : s.zeros[at]);
      __builtin_memcpy(out + ((size_t)k * PANEL_ROWS + (size_t)lane) * 4, &value, 4);
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
  if (!isDense(s.scheme) && !isSuperblock(s.scheme) && !hasTile(s)) w.scheme = Scheme::DenseF32;
  if (isDense(w.scheme)) {
    w.bits = w.scheme == Scheme::DenseF32 ? 32 : 16;
    w.groupBytes = (size_t)(w.bits / 8) * PANEL_ROWS;
    w.panelBytes = w.groupBytes * (size_t)(s.k + (s.k & 1));
    return w;
  }
  if (isSuperblock(s.scheme)) {
    w.bits = s.scheme == Scheme::Q4_K ? 4 : s.scheme == Scheme::Q5_K ? 5 : 6;
    w.group = superblockGroup(s.scheme);
    w.groupBytes = (size_t)(SUPERBLOCK / CHUNK * chunkBytes(w.bits) + 320);
    w.panelBytes = w.groupBytes * (size_t)(s.k / SUPERBLOCK);
    return w;
  }
  w.bits = (uint8_t)(s.scheme == Scheme::Lookup16 ? 4 : s.bits);
  w.group = s.group;
  w.zero = s.scheme == Scheme::Affine ? s.zero : Zero::Constant;
  w.zeroPoint = s.scheme == Scheme::Affine && s.zero == Zero::Constant ? s.zeroPoint : 0;
  w.scaleType = narrowestScale(s);
  if (s.scheme == Scheme::Lookup16) {
    for (int i = 0; i < 16; i++) w.table[i] = s.table[i];
  }
  const size_t scales = (size_t)(scaleBytes(w.scaleType) * PANEL_ROWS);
  w.groupBytes = (size_t)chunksOf(s.group) * (size_t)chunkBytes(w.bits) + scales * (w.zero == Zero::Constant ? 1 : 2);
  w.panelBytes = w.groupBytes * (size_t)(s.k / s.group);
  return w;
}

void tile(const Source& s, const Weight& w, uint8_t* out, int panelFrom, int panelTo) {
  for (int panel = panelFrom; panel < panelTo; panel++) {
    uint8_t* to = out + w.panelBytes * (size_t)panel;
    if (s.scheme != w.scheme) tileDecoded(s, w, to, panel);
    else if (isDense(w.scheme)) tileDense(s, w, to, panel);
    else if (isSuperblock(w.scheme)) tileSuperblocks(s, w, to, panel);
    else tileGroups(s, w, to, panel);
  }
}

void decodeRow(const Weight& w, int row, float* out) {
  const uint8_t* panel = panelOf(w, row / PANEL_ROWS);
  float block[SUPERBLOCK * PANEL_ROWS];
  for (int k = 0; k < w.k; k += SUPERBLOCK) {
    const int to = k + SUPERBLOCK < w.k ? k + SUPERBLOCK : w.k;
    decodePanel(w, panel, k, to, block);
    for (int i = k; i < to; i++) out[i] = block[(i - k) * PANEL_ROWS + row % PANEL_ROWS];
  }
}

}  // namespace fewbit
