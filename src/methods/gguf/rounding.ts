// The roundings of ggml's x86-64 build, as its quantisers see them. No fused multiply-add anywhere: each operation rounds once.
const f32 = new Float32Array(1)
const bits = new Int32Array(f32.buffer)

/** 1e-15 as float32: groups whose largest value is smaller count as zero. */
export const GROUP_EPSILON = Math.fround(1e-15)

/** 1.5 * 2^23: adding it leaves the nearest integer, half to even, in the low bits of the mantissa. */
const MAGIC = 12582912

/** Nearest integer, half to even; beyond 2^22 the reference's wrapped result (NaN: 0, infinities: -2^22). */
export function nearestInt(value: number): number {
  f32[0] = value + MAGIC
  return (bits[0] & 0x7fffff) - 0x400000
}

/** C's conversion float -> int8 on x86: truncated to int32 (0 in the low byte where that overflows), then its low byte, signed. */
export function truncateToInt8(value: number): number {
  return value > -2147483649 && value < 2147483648 ? (value << 24) >> 24 : 0
}

/** roundf: half away from zero. */
export function roundHalfAway(value: number): number {
  const whole = Math.trunc(value)
  return Math.abs(value - whole) >= 0.5 ? whole + Math.sign(value) : whole
}

export function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(high, value))
}
