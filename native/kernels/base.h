// What every kernel file may use. Kernels are freestanding C++20: no standard library, no exceptions, no static constructors,
// no thread_local, so that one tree gives the N-API addon and the WASM module. Only these headers of the compiler are there:
// <stdint.h>, <stddef.h> and, in files for one instruction set, its intrinsics.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FB_EXPORT extern "C"
#define FB_INLINE inline __attribute__((always_inline))
/** On a lambda that takes vectors: it must be inlined, or its calling convention would depend on the flags. */
#define FB_LAMBDA __attribute__((always_inline))
#define FB_NOINLINE __attribute__((noinline))
#define FB_RESTRICT __restrict__
#define FB_ALIGN(n) __attribute__((aligned(n)))
#define FB_LIKELY(x) __builtin_expect(!!(x), 1)
#define FB_UNLIKELY(x) __builtin_expect(!!(x), 0)

// A file for one instruction set (NAME.avx2.cc ...) and its baseline twin include the same code: everything that is compiled more
// than once must lie in this namespace, or the linker may pick the AVX-512 copy of a function for a machine that has none.
#if defined(__AVX512F__)
#define FB_LEVEL_NAMESPACE avx512
#elif defined(__AVX2__)
#define FB_LEVEL_NAMESPACE avx2
#else
#define FB_LEVEL_NAMESPACE baseline
#endif

namespace fb {

/** A pointer that came as a number from the host (exact below 2^53). */
template <class T>
FB_INLINE T* pointer(double number) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(number));
}

FB_INLINE double number(const void* pointer) { return static_cast<double>(reinterpret_cast<uintptr_t>(pointer)); }

template <class T>
FB_INLINE constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
FB_INLINE constexpr T max(T a, T b) {
  return a < b ? b : a;
}

FB_INLINE void copy(void* to, const void* from, size_t bytes) { __builtin_memcpy(to, from, bytes); }
FB_INLINE void zero(void* to, size_t bytes) { __builtin_memset(to, 0, bytes); }

template <class To, class From>
FB_INLINE To bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  __builtin_memcpy(&out, &value, sizeof out);
  return out;
}

}  // namespace fb
