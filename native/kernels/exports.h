// Every function that TypeScript can call, in one table. Both doors (native/napi/door.cc, native/wasm/) are made from it.
//
// An export is `FB_EXPORT double fb_NAME(const double* args)`: arguments are numbers, pointers included (exact below 2^53); the result
// is a number. Memory belongs to C++ (fb_alloc, fb_free: 64-byte aligned); TypeScript copies in and out through its Door.
//
// Adding a quantiser kernel
// 1. Write native/kernels/quantize/NAME.cc (see absmax.cc, the example). Include "../base.h"; "../half.h" for f16/bf16, "../pool.h" where
//    the kernel itself splits work. No standard library; sqrt, floor, fabs, trunc as __builtin_sqrtf and so on (never a call of libm:
//    results must be equal on both doors). Everything is compiled with -ffp-contract=off: no FMA appears by itself.
// 2. Add its line below, as one of
//      FB_UNITS(fb_NAME)  the job is params[0] independent units (blocks, rows, groups). The function does units [from, to) on one thread:
//                         args = { from, to, inputs..., outputs..., params... }; the pool calls it for many ranges at once and
//                         QuantizerKernels slices long jobs so that Ctrl-C works. Its result is ignored.
//      FB_STEPS(fb_NAME)  the job is a sequence (iterations with a stop rule over the whole tensor). The function is called with
//                         args = { step, 0, inputs..., outputs..., params... }, step = 0, 1, 2 ... until it returns 0; keep a step below
//                         about 50 ms. It may split a step with fb::parallel. State between steps lies in an output used as scratch.
//    Inputs are read-only copies of the caller's arrays, outputs are zeroed; all are 64-byte aligned.
// 3. `npm run build` builds the addon; `bash native/wasm/build.sh` the committed native/wasm/fewbit.wasm (after a merge conflict: run it
//    again). Call `await kernels.run('fb_NAME', inputs, [{ bytes }], [units, ...params])`.
// A file NAME.avx2.cc or NAME.avx512.cc is compiled with that instruction set and must be reached through fb::level() only (cpu.h).
#pragma once
#include "base.h"

#define FB_EXPORTS(FB_CALL, FB_UNITS, FB_STEPS) \
  /* memory.cc */                               \
  FB_CALL(fb_alloc)                             \
  FB_CALL(fb_free)                              \
  FB_CALL(fb_allocated)                         \
  FB_CALL(fb_zero)                              \
  /* sources.cc */                              \
  FB_CALL(fb_sources)                           \
  /* cpu.cc */                                  \
  FB_CALL(fb_level)                             \
  FB_CALL(fb_set_level)                         \
  /* pool.cc */                                 \
  FB_CALL(fb_set_threads)                       \
  FB_CALL(fb_worker)                            \
  FB_CALL(fb_pool_self_test)                    \
  /* job.cc */                                  \
  FB_CALL(fb_names)                             \
  FB_CALL(fb_job_kind)                          \
  FB_CALL(fb_job)                               \
  /* decode.cc */                               \
  FB_UNITS(fb_cast)                             \
  FB_UNITS(fb_restore_scales)                   \
  FB_UNITS(fb_decode_affine)                    \
  FB_UNITS(fb_decode_int8)                      \
  FB_UNITS(fb_decode_lookup)                    \
  FB_UNITS(fb_decode_superblock)                \
  FB_UNITS(fb_open_superblock)                  \
  FB_UNITS(fb_decode_additive)                  \
  /* pack/ */                                   \
  FB_UNITS(fb_pack_u8)                          \
  FB_UNITS(fb_pack_i16)                         \
  FB_UNITS(fb_pack_i32)                         \
  FB_UNITS(fb_unpack_u8)                        \
  FB_UNITS(fb_unpack_i16)                       \
  FB_UNITS(fb_unpack_i32)                       \
  FB_UNITS(fb_pack_nested)                      \
  FB_UNITS(fb_unpack_nested)                    \
  FB_UNITS(fb_pack_stream)                      \
  FB_UNITS(fb_unpack_stream)                    \
  /* engine/ */                                 \
  FB_CALL(fb_weight_new)                        \
  FB_CALL(fb_weight_panels)                     \
  FB_CALL(fb_weight_bytes)                      \
  FB_CALL(fb_weight_tile)                       \
  FB_CALL(fb_weight_free)                       \
  FB_CALL(fb_weight_kernel)                     \
  FB_CALL(fb_engine_new)                        \
  FB_CALL(fb_engine_free)                       \
  FB_CALL(fb_engine_run)                        \
  FB_CALL(fb_engine_value)                      \
  FB_CALL(fb_engine_truncate)                   \
  FB_CALL(fb_engine_bytes)                      \
  FB_CALL(fb_self_test)                         \
  /* evaluate/ */                               \
  FB_UNITS(fb_row_sums)                         \
  FB_UNITS(fb_compare_rows)                     \
  /* quantize/ */                               \
  FB_UNITS(fb_bnb_4bit)                         \
  FB_UNITS(fb_bnb_nested)                       \
  FB_UNITS(fb_bnb_int8)                         \
  FB_STEPS(fb_aqlm)                             \
  FB_UNITS(fb_second_moment)                    \
  FB_UNITS(fb_error_moment)                     \
  FB_STEPS(fb_aqlm_target)                      \
  FB_STEPS(fb_hqq)                              \
  FB_STEPS(fb_quanto_shift)                     \
  FB_UNITS(fb_awq_requantize)                   \
  FB_UNITS(fb_awq_scale)                        \
  FB_UNITS(fb_awq_weight_sums)                  \
  FB_UNITS(fb_awq_norm)                         \
  FB_UNITS(fb_awq_clip)                         \
  FB_UNITS(fb_awq_codes)                        \
  FB_UNITS(fb_round)                            \
  FB_UNITS(fb_column_sums)                      \
  FB_UNITS(fb_squared_distance)                 \
  FB_UNITS(fb_gram)                             \
  FB_UNITS(fb_quadratic)                        \
  FB_UNITS(fb_absmax)                           \
  FB_UNITS(fb_ranges)                           \
  FB_UNITS(fb_quotients)                        \
  FB_UNITS(fb_float8)                           \
  FB_UNITS(fb_quantized_inputs)                 \
  FB_UNITS(fb_gguf_quantize)                    \
  FB_UNITS(fb_gguf_pack)                        \
  FB_UNITS(fb_gguf_unpack)                      \
  FB_UNITS(fb_gguf_convert)

#define FB_DECLARE(name) FB_EXPORT double name(const double* args);
FB_EXPORTS(FB_DECLARE, FB_DECLARE, FB_DECLARE)
#undef FB_DECLARE
