// Attention on paged caches: rows are first rotated into the cache, then blocks of queries that share keys are computed.
#include "../memory.h"
#include "engine.h"

namespace fb {
namespace {

/** Queries of a block at most; fewer where heads are so large that they would not fit a worker's local memory. */
constexpr int MAX_QUERIES = 32;
/** Multiply-adds below which attention is not shared. */
constexpr size_t SHORTEST_REGION = 200'000;

struct Shape {
  int heads, kv_heads, dim, padded, group;
  int heads_per_block, rows_per_block, head_blocks;

  explicit Shape(const AttendStep& s)
      : heads(static_cast<int>(s.heads)),
        kv_heads(static_cast<int>(s.kv_heads)),
        dim(static_cast<int>(s.dim)),
        padded((dim + HEAD_ALIGN - 1) / HEAD_ALIGN * HEAD_ALIGN),
        group(heads / kv_heads) {
    const int fits = static_cast<int>(linear::LOCAL_BYTES * 3 / 4 / sizeof(float)) / (2 * padded);
    const int queries = max(min(MAX_QUERIES, fits), 1);
    heads_per_block = min(group, queries);
    head_blocks = (group + heads_per_block - 1) / heads_per_block;
    rows_per_block = max(queries / heads_per_block, 1);
  }
};

/** Rows [first, first + count) of one sequence, at neighbouring positions. */
struct RowBlock {
  int32_t first, count;
};

int make_blocks(const Batch& b, int largest, RowBlock* out) {
  int blocks = 0;
  for (int r = 0; r < b.rows;) {
    int count = 1;
    while (count < largest && r + count < b.rows && b.slots[r + count] == b.slots[r] && b.positions[r + count] == b.positions[r] + count)
      count++;
    out[blocks++] = {r, count};
    r += count;
  }
  return blocks;
}

/** Writes keys (rotated, transposed) and values of rows [from, from + count) into their pages. */
void append(const Engine& e, const AttendStep& s, const Shape& shape, int from, int count) {
  const size_t width = static_cast<size_t>(shape.kv_heads * shape.dim);
  float rotated[1024];
  for (int r = from; r < from + count; r++) {
    const int position = e.batch.positions[r];
    float* page = e.sequences[e.batch.slots[r]].pages[position / PAGE_POSITIONS];
    const int column = position % PAGE_POSITIONS;
    const int rope = static_cast<int>(s.k_rope);
    for (int h = 0; h < shape.kv_heads; h++) {
      const size_t at = static_cast<size_t>(r) * width + static_cast<size_t>(h * shape.dim);
      const float* k = e.value(s.k, s) + at;
      if (rope >= 0) {
        const size_t half = static_cast<size_t>(e.rope_half[rope]);
        e.ops->rotate(k, rotated, 1, static_cast<size_t>(shape.dim), 2 * half, e.batch.cos[rope] + static_cast<size_t>(r) * half,
                      e.batch.sin[rope] + static_cast<size_t>(r) * half);
        k = rotated;
      }
      float* keys = page + static_cast<size_t>(s.keys) + static_cast<size_t>(h * shape.dim) * PAGE_POSITIONS;
      keys += column / KEY_BLOCK * KEY_BLOCK * shape.dim + column % KEY_BLOCK;
      for (int d = 0; d < shape.dim; d++) keys[d * KEY_BLOCK] = k[d];
      float* values = page + static_cast<size_t>(s.values) + static_cast<size_t>((h * PAGE_POSITIONS + column) * shape.padded);
      copy(values, e.value(s.v, s) + at, static_cast<size_t>(shape.dim) * sizeof(float));
      zero(values + shape.dim, static_cast<size_t>(shape.padded - shape.dim) * sizeof(float));
    }
  }
}

/** Rotated copy of one query, padded with zeros. */
void load_query(const Engine& e, const AttendStep& s, const Shape& shape, int row, int head, float* q) {
  const size_t dim = static_cast<size_t>(shape.dim);
  const float* from = e.value(s.q, s) + static_cast<size_t>(row) * static_cast<size_t>(shape.heads) * dim + static_cast<size_t>(head) * dim;
  const int rope = static_cast<int>(s.q_rope);
  if (rope < 0) {
    copy(q, from, dim * sizeof(float));
  } else {
    const size_t half = static_cast<size_t>(e.rope_half[rope]);
    e.ops->rotate(from, q, 1, dim, 2 * half, e.batch.cos[rope] + static_cast<size_t>(row) * half,
                  e.batch.sin[rope] + static_cast<size_t>(row) * half);
  }
  zero(q + dim, (static_cast<size_t>(shape.padded) - dim) * sizeof(float));
}

void attend_block(const Engine& e, const AttendStep& s, const Shape& shape, RowBlock rows, int kv_head, int head_block, int worker) {
  const int first_head = kv_head * shape.group + head_block * shape.heads_per_block;
  const int heads = min(shape.heads_per_block, (kv_head + 1) * shape.group - first_head);
  const int queries = rows.count * heads;
  int32_t first[MAX_QUERIES], last[MAX_QUERIES];
  float largest[MAX_QUERIES], total[MAX_QUERIES];
  float* q = reinterpret_cast<float*>(e.local_of(worker));
  float* out = q + queries * shape.padded;
  for (int i = 0; i < queries; i++) {
    const int row = rows.first + i / heads;
    load_query(e, s, shape, row, first_head + i % heads, q + i * shape.padded);
    last[i] = e.batch.positions[row];
    first[i] = s.window > 0 ? max(0, last[i] - static_cast<int>(s.window) + 1) : 0;
  }
  AttendBlock block = {};
  block.queries = queries;
  block.dim = shape.dim;
  block.padded = shape.padded;
  block.q = q;
  block.first = first;
  block.last = last;
  block.pages = e.sequences[e.batch.slots[rows.first]].pages;
  block.keys = static_cast<size_t>(s.keys) + static_cast<size_t>(kv_head * shape.dim) * PAGE_POSITIONS;
  block.values = static_cast<size_t>(s.values) + static_cast<size_t>(kv_head * PAGE_POSITIONS * shape.padded);
  if (kv_head + 1 < shape.kv_heads) {
    block.next_keys = block.keys + static_cast<size_t>(shape.dim * PAGE_POSITIONS);
    block.next_values = block.values + static_cast<size_t>(PAGE_POSITIONS * shape.padded);
  }
  block.scale = static_cast<float>(s.scale);
  block.softcap = static_cast<float>(s.softcap);
  block.out = out;
  block.largest = largest;
  block.total = total;
  e.ops->attend(block);
  for (int i = 0; i < queries; i++) {
    const size_t row = static_cast<size_t>(rows.first + i / heads), head = static_cast<size_t>(first_head + i % heads);
    copy(e.value(s.y, s) + (row * static_cast<size_t>(shape.heads) + head) * static_cast<size_t>(shape.dim), out + i * shape.padded,
         static_cast<size_t>(shape.dim) * sizeof(float));
  }
}

size_t multiply_adds(const Engine& e, const AttendStep& s, const Shape& shape) {
  size_t keys = 0;
  for (int r = 0; r < e.batch.rows; r++) {
    const int seen = e.batch.positions[r] + 1;
    keys += static_cast<size_t>(s.window > 0 ? min(seen, static_cast<int>(s.window)) : seen);
  }
  return 2 * keys * static_cast<size_t>(shape.heads * shape.dim);
}

}  // namespace

bool run_attend(Engine& e, const AttendStep& s) {
  const Shape shape(s);
  by_rows(e.batch.rows, 16, [&](int from, int count) { append(e, s, shape, from, count); });
  if (!e.blocks.reserve(static_cast<size_t>(e.batch.rows) * sizeof(RowBlock))) return false;
  RowBlock* blocks = reinterpret_cast<RowBlock*>(e.blocks.data);
  const int count = make_blocks(e.batch, shape.rows_per_block, blocks);
  const int per_block = shape.kv_heads * shape.head_blocks;
  const auto run = [&](size_t task, int worker) {
    const int part = static_cast<int>(task) % per_block;
    // Later blocks see more keys: they go first, so that no thread is left with the longest one.
    const RowBlock rows = blocks[count - 1 - static_cast<int>(task) / per_block];
    attend_block(e, s, shape, rows, part / shape.head_blocks, part % shape.head_blocks, worker);
  };
  const size_t tasks = static_cast<size_t>(count * per_block);
  if (multiply_adds(e, s, shape) >= SHORTEST_REGION) {
    parallel(tasks, run, Chunks::uneven);
    return true;
  }
  for (size_t task = 0; task < tasks; task++) run(task, 0);
  return true;
}

}  // namespace fb
