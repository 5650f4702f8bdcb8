// Before a level's kernels are used they are compared with the baseline's on a small example of everything that they do. Takes a few
// milliseconds; a level that fails is not used.
#include "../blocks/open.h"
#include "../exports.h"
#include "../memory.h"
#include "engine.h"

namespace fb {
namespace {

/** Sums in another order, FMA, digits of activations: of the largest value. */
constexpr float EXACT = 3e-5f;
/** int8 activations in groups. */
constexpr float FAST = 5e-2f;

/** A small generator: the same numbers everywhere. */
struct Random {
  uint32_t state = 12345;
  uint32_t next() {
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
  }
  float number() { return static_cast<float>(next() >> 8) / 8388608.0f - 1.0f; }
  void fill(float* out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = number();
  }
};

bool close(const float* a, const float* b, size_t count, float tolerance) {
  float largest = 0;
  for (size_t i = 0; i < count; i++) largest = max(largest, __builtin_fabsf(b[i]));
  for (size_t i = 0; i < count; i++)
    if (!(__builtin_fabsf(a[i] - b[i]) <= tolerance * largest)) return false;
  return true;
}

constexpr size_t WIDTH = 83, OPS = 11;

/** What every op of a level gives on one example, one after another. */
void run_ops(const OpKernels& ops, const float* x, const float* w, float* y) {
  ops.norm(x, w, y, 1, WIDTH, 1e-5, true);
  copy(y + WIDTH, x, WIDTH * sizeof(float));
  ops.rotate(x, y + WIDTH, 2, 40, 36, w, w + 18);
  for (int kind = 0; kind < 4; kind++) ops.activate(static_cast<Activation>(kind), x, w, y + (2 + kind) * WIDTH, WIDTH);
  ops.softcap(x, y + 6 * WIDTH, WIDTH, 0.7f);
  ops.add(x, w, y + 7 * WIDTH, WIDTH);
  ops.multiply(x, w, y + 8 * WIDTH, WIDTH);
  ops.scale(x, y + 9 * WIDTH, WIDTH, 1.7f);
  ops.layer_norm(x, w, w + 1, y + 10 * WIDTH, 1, WIDTH, 1e-5);
}

constexpr int DIM = 40, PADDED = 48, QUERIES = 7;

void run_attention(const OpKernels& ops, float* const* pages, const float* q, float* out) {
  int32_t first[QUERIES], last[QUERIES];
  float largest[QUERIES], total[QUERIES];
  for (int i = 0; i < QUERIES; i++) {
    first[i] = i * 7;
    last[i] = 60 + i * 9;
  }
  AttendBlock block = {};
  block.queries = QUERIES;
  block.dim = DIM;
  block.padded = PADDED;
  block.q = q;
  block.first = first;
  block.last = last;
  block.pages = pages;
  block.values = DIM * PAGE_POSITIONS;
  block.scale = 0.5f;
  block.softcap = 3;
  block.out = out;
  block.largest = largest;
  block.total = total;
  ops.attend(block);
}

bool ops_agree(const OpKernels& ops, float* memory) {
  const OpKernels& baseline = *op_kernels(LEVEL_SCALAR);
  Random random;
  constexpr size_t PAGE = (DIM + PADDED) * PAGE_POSITIONS;
  float* x = memory;
  float* w = x + 2 * WIDTH;
  float* pages[2] = {w + 2 * WIDTH, w + 2 * WIDTH + PAGE};
  float* q = pages[1] + PAGE;
  float* got = q + QUERIES * PADDED;
  float* wanted = got + OPS * WIDTH + QUERIES * PADDED;
  random.fill(memory, static_cast<size_t>(got - memory));
  run_ops(ops, x, w, got);
  run_ops(baseline, x, w, wanted);
  for (size_t i = 0; i < OPS; i++)
    if (!close(got + i * WIDTH, wanted + i * WIDTH, WIDTH, EXACT)) return false;
  run_attention(ops, pages, q, got);
  run_attention(baseline, pages, q, wanted);
  return close(got, wanted, QUERIES * PADDED, EXACT);
}

constexpr int N = 40, K = 512, ROWS = 3;
/** Additive: codebooks of 256 entries over groups of 8. */
constexpr int CODEBOOKS = 2, TABLE = CODEBOOKS * 256 * 8;

/** Of groups of 8, the smallest. */
constexpr int SCALES = N * K / 8;

struct Example {
  linear::Scheme scheme;
  int bits, group;
  linear::Zero zero;
  blocks::Type type = blocks::Q4_0;
};

constexpr Example EXAMPLES[] = {
    {linear::Scheme::DenseF32, 0, 0, linear::Zero::Constant},
    {linear::Scheme::DenseF16, 0, 0, linear::Zero::Constant},
    {linear::Scheme::DenseBF16, 0, 0, linear::Zero::Constant},
    {linear::Scheme::Affine, 1, 64, linear::Zero::Point},
    {linear::Scheme::Affine, 2, 64, linear::Zero::Point},
    {linear::Scheme::Affine, 2, 16, linear::Zero::Point},
    {linear::Scheme::Affine, 4, 8, linear::Zero::Shift},
    {linear::Scheme::Affine, 3, 64, linear::Zero::Point},
    {linear::Scheme::Affine, 4, 32, linear::Zero::Constant},
    {linear::Scheme::Affine, 4, 64, linear::Zero::Point},
    {linear::Scheme::Affine, 5, 32, linear::Zero::Shift},
    {linear::Scheme::Affine, 6, 128, linear::Zero::Point},
    {linear::Scheme::Affine, 8, 32, linear::Zero::Constant},
    {linear::Scheme::Affine, 8, K, linear::Zero::Constant},
    {linear::Scheme::Lookup16, 4, 64, linear::Zero::Constant},
    {linear::Scheme::Lookup16, 4, 16, linear::Zero::Constant},
    {linear::Scheme::Float8, 8, 64, linear::Zero::Constant},
    {linear::Scheme::Additive, 8, 8, linear::Zero::Constant},
    {linear::Scheme::Q2_K, 0, 0, linear::Zero::Constant},
    {linear::Scheme::Q4_K, 0, 0, linear::Zero::Constant},
    {linear::Scheme::Q5_K, 0, 0, linear::Zero::Constant},
    {linear::Scheme::Q6_K, 0, 0, linear::Zero::Constant},
    {linear::Scheme::Levels, 0, 0, linear::Zero::Constant, blocks::IQ2_XXS},
    {linear::Scheme::Levels, 0, 0, linear::Zero::Constant, blocks::IQ2_S},
    {linear::Scheme::Levels, 0, 0, linear::Zero::Constant, blocks::IQ3_XXS},
};

constexpr linear::Phase PHASES[] = {linear::Phase::Decode, linear::Phase::Prefill};

/** Where the grid of a block type lies behind its blocks: room for 1024 rows of 8. */
constexpr size_t GRID = 11 * 1024;

/** Bytes for any scheme's data: codes, small floats, or blocks whose half scales are ordinary numbers. */
void fill_data(const Example& example, uint8_t* data, Random& random) {
  if (example.scheme == linear::Scheme::DenseF32) return random.fill(reinterpret_cast<float*>(data), N * K);
  const bool half = example.scheme == linear::Scheme::DenseF16 || example.scheme == linear::Scheme::DenseBF16;
  for (size_t i = 0; half && i < N * K; i++) reinterpret_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(0x3800 | (random.next() & 0x83ff));
  if (half) return;
  const int mask = example.bits == 0 ? 255 : (1 << example.bits) - 1;
  for (size_t i = 0; i < N * K; i++) data[i] = static_cast<uint8_t>(random.next() >> 9 & static_cast<uint32_t>(mask));
  if (example.scheme == linear::Scheme::Levels) {
    const blocks::OpenLayout layout = blocks::open_layout(example.type);
    for (size_t b = 0; b < N * K / 256; b++) {
      uint8_t* d = data + b * static_cast<size_t>(blocks::layout_of(example.type).bytes);
      d[0] = 7;
      d[1] = 0x2c;
    }
    const uint32_t levels = layout.bits == 3 ? 6 : 16;
    for (size_t i = GRID; i < N * K; i++) data[i] = static_cast<uint8_t>(layout.levels[random.next() % levels]);
    return;
  }
  const bool q2 = example.scheme == linear::Scheme::Q2_K, q6 = example.scheme == linear::Scheme::Q6_K;
  const size_t bytes = q2 ? 84 : q6 ? 210 : example.scheme == linear::Scheme::Q5_K ? 176 : 144;
  for (size_t b = 0; example.bits == 0 && b < N * K / 256; b++) {
    uint8_t* d = data + b * bytes + (q2 ? 80 : q6 ? 208 : 0);
    d[0] = d[2] = 7;
    d[1] = 0x2c;
    if (!q6) d[3] = 0x2c;
  }
}

void multiply(const linear::Kernels& kernels, linear::Call call, uint8_t* scratch, uint8_t* local) {
  call.scratch = scratch;
  if (kernels.form(call) != 0) kernels.prepare(call, 0, call.rows);
  kernels.compute(call, 0, call.weight->panels, local);
}

/** Memory of the linear tests, cut into its parts. */
struct Room {
  uint8_t* data;
  float *scale, *zeros, *table, *x, *got, *wanted;
  uint8_t *tile, *scratch, *local;
};

bool call_agrees(const linear::Kernels& kernels, linear::Call call, const Room& room, float tolerance) {
  call.y = room.got;
  multiply(kernels, call, room.scratch, room.local);
  call.y = room.wanted;
  multiply(*linear::kernels_of(LEVEL_SCALAR), call, room.scratch, room.local);
  return close(room.got, room.wanted, ROWS * N, tolerance);
}

bool int8_agrees(const linear::Kernels& kernels, linear::Call call, const Room& room) {
  call.x8 = reinterpret_cast<const int8_t*>(room.x);
  call.y8 = reinterpret_cast<int32_t*>(room.got);
  multiply(kernels, call, room.scratch, room.local);
  call.y8 = reinterpret_cast<int32_t*>(room.wanted);
  multiply(*linear::kernels_of(LEVEL_SCALAR), call, room.scratch, room.local);
  for (int i = 0; i < ROWS * N; i++)
    if (bits<int32_t>(room.got[i]) != bits<int32_t>(room.wanted[i])) return false;
  return true;
}

bool example_agrees(const linear::Kernels& kernels, const Example& example, const Room& room) {
  Random random;
  fill_data(example, room.data, random);
  random.fill(room.scale, SCALES);
  random.fill(room.zeros, SCALES);
  random.fill(room.table, TABLE);
  random.fill(room.x, ROWS * K);
  const float zero_point = example.bits == 8 ? 128 : 8;
  const linear::Source source = {example.scheme, N, K, example.bits, example.group, example.zero, room.data, room.scale, room.zeros, zero_point, room.table, CODEBOOKS, 1,
                                 example.type, reinterpret_cast<const int8_t*>(room.data) + GRID, 3, 7};
  linear::Weight weight = linear::describe(source);
  weight.tile = room.tile;
  linear::tile(source, weight, room.tile, 0, weight.panels);
  linear::Call call = {};
  call.weight = &weight;
  call.rows = ROWS;
  call.x = room.x;
  call.ldx = K;
  call.ldy = N;
  for (linear::Phase phase : PHASES) {
    call.phase = phase;
    call.mode = linear::Mode::Exact;
    if (!call_agrees(kernels, call, room, EXACT)) return false;
    call.mode = linear::Mode::Fast;
    if (!call_agrees(kernels, call, room, FAST)) return false;
    call.mode = linear::Mode::Fastest;
    if (!call_agrees(kernels, call, room, FAST)) return false;
  }
  return example.group != K || int8_agrees(kernels, call, room);
}

/** Place of the first example that a level gets wrong, from 1; 0 where all are right. */
int wrong_linear(const linear::Kernels& kernels, uint8_t* memory) {
  Room room = {};
  const auto take = [&](size_t bytes) {
    uint8_t* at = memory;
    memory += (bytes + 63) / 64 * 64;
    return at;
  };
  room.local = take(linear::LOCAL_BYTES);
  room.data = take(N * K * sizeof(float));
  room.tile = take(64 * K * sizeof(float) + 4096);
  room.scratch = take(ROWS * K / 8 * CODEBOOKS * 256 * sizeof(float));
  room.scale = reinterpret_cast<float*>(take(SCALES * sizeof(float)));
  room.zeros = reinterpret_cast<float*>(take(SCALES * sizeof(float)));
  room.table = reinterpret_cast<float*>(take(TABLE * sizeof(float)));
  room.x = reinterpret_cast<float*>(take(ROWS * K * sizeof(float)));
  room.got = reinterpret_cast<float*>(take(ROWS * N * sizeof(float)));
  room.wanted = reinterpret_cast<float*>(take(ROWS * N * sizeof(float)));
  int place = 0;
  for (const Example& example : EXAMPLES) {
    place++;
    if (!example_agrees(kernels, example, room)) return place;
  }
  return 0;
}

constexpr size_t ROOM_BYTES = 2 << 20;
constexpr double OPS_WRONG = 1000;

}  // namespace
}  // namespace fb

/** (level) -> 0 where its kernels agree with the baseline's; 1000: norms, activations or attention differ; else the linear example. */
FB_EXPORT double fb_self_test(const double* args) {
  using namespace fb;
  const Level level = static_cast<Level>(static_cast<int>(args[0]));
  void* memory = allocate(ROOM_BYTES);
  if (!memory) return -1;
  double wrong = ops_agree(*op_kernels(level), static_cast<float*>(memory)) ? 0 : OPS_WRONG;
  if (wrong == 0) wrong = wrong_linear(*best_linear(level), static_cast<uint8_t*>(memory));
  release(memory);
  return wrong;
}
