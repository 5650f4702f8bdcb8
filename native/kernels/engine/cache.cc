// Pages of keys and values: [layer: keys [kv heads][4][dim][16 positions], values [kv heads][64 positions][padded dim]]. A sequence owns whole
// pages; growing never moves what is there.
#include "../memory.h"
#include "engine.h"

namespace fb {
namespace {

/** Makes room in an array of `count` items for at least `wanted`; null without memory. */
template <class Item>
Item* grown(Item* items, int count, int wanted) {
  Item* next = static_cast<Item*>(allocate(sizeof(Item) * static_cast<size_t>(wanted)));
  if (!next) return nullptr;
  zero(next, sizeof(Item) * static_cast<size_t>(wanted));
  if (count > 0) copy(next, items, sizeof(Item) * static_cast<size_t>(count));
  release(items);
  return next;
}

bool extend(Engine& e, Sequence& sequence, int pages) {
  if (pages > sequence.capacity) {
    const int capacity = max(pages, max(8, 2 * sequence.capacity));
    float** table = grown(sequence.pages, sequence.count, capacity);
    if (!table) return false;
    sequence.pages = table;
    sequence.capacity = capacity;
  }
  while (sequence.count < pages) {
    float* page = static_cast<float*>(allocate(e.page_floats * sizeof(float)));
    if (!page) return false;
    sequence.pages[sequence.count++] = page;
  }
  return true;
}

}  // namespace

bool extend_sequences(Engine& e) {
  const Batch& b = e.batch;
  for (int r = 0; r < b.rows; r++) {
    const int slot = b.slots[r];
    if (slot >= e.sequence_count) {
      const int count = max(slot + 1, 2 * e.sequence_count);
      Sequence* table = grown(e.sequences, e.sequence_count, count);
      if (!table) return false;
      e.sequences = table;
      e.sequence_count = count;
    }
    if (!extend(e, e.sequences[slot], b.positions[r] / PAGE_POSITIONS + 1)) return false;
  }
  return true;
}

void truncate(Engine& e, int slot, int length) {
  if (slot >= e.sequence_count) return;
  Sequence& sequence = e.sequences[slot];
  const int keep = (length + PAGE_POSITIONS - 1) / PAGE_POSITIONS;
  while (sequence.count > keep) release(sequence.pages[--sequence.count]);
}

void free_sequences(Engine& e) {
  for (int slot = 0; slot < e.sequence_count; slot++) {
    truncate(e, slot, 0);
    release(e.sequences[slot].pages);
  }
  release(e.sequences);
}

size_t cache_bytes(const Engine& e) {
  size_t pages = 0;
  for (int slot = 0; slot < e.sequence_count; slot++) pages += static_cast<size_t>(e.sequences[slot].count);
  return pages * e.page_floats * sizeof(float);
}

}  // namespace fb
