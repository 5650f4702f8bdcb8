// The proximal step of HQQ's optimiser: sign(d) * max(|d| - |d|^(p - 1) / beta, 0) with p = 0.7 and beta = 10.
// The power is computed in float64 with additions, multiplications and divisions only, so that C++ on every machine gives the same bits;
// rounded to float32 it is the nearest float but for about one value in 10^8, as in a good libm.

const { fround } = Math
/** p - 1, a float64 that was rounded to float32. */
const EXPONENT = fround(0.7 - 1)
const TENTH = fround(0.1)
/** Below this the step gives 0: a - 0.1 a^-0.3 is negative up to 0.17013, with a margin far above any rounding. */
export const SHRINK_FROM: number = fround(0.17)

/** ln 2 in two parts; the first has 20 zero bits at its end, so that j times it is exact. */
const LN2_HIGH = 0.6931471803691238
const LN2_LOW = 1.9082149292705877e-10

/** 1.5 * 2^52: adding and subtracting it rounds to the nearest integer, ties to even. */
const ROUND = 6755399441055744
const LOG_TERMS = 13
const EXP_TERMS = 14

const float = new Float32Array(1)
const word = new Int32Array(float.buffer)

/** a^(p - 1) for a normal float32 a > 0.17, rounded to float32. */
export function shrinkPower(a: number): number {
  // a = m * 2^k with m in [0.75, 1.5)
  float[0] = a
  const k = (word[0] - 0x3f400000) >> 23
  word[0] -= k << 23
  const m = float[0]
  // ln m = 2 (t + t^3/3 + t^5/5 ...), |t| <= 0.2
  const t = (m - 1) / (m + 1)
  const t2 = t * t
  let series = 1 / (2 * LOG_TERMS + 1)
  for (let n = LOG_TERMS - 1; n >= 0; n--) series = series * t2 + 1 / (2 * n + 1)
  const y = EXPONENT * (k * LN2_HIGH + (k * LN2_LOW + 2 * t * series))
  // e^y = 2^j e^f, |f| <= 0.35
  const j = y * Math.LOG2E + ROUND - ROUND
  const f = y - j * LN2_HIGH - j * LN2_LOW
  let power = 1
  for (let n = EXP_TERMS; n >= 1; n--) power = power * f * (1 / n) + 1
  word[0] = (j + 127) << 23
  return fround(power * float[0])
}

/** The shrunk difference. */
export function shrink(d: number): number {
  const a = Math.abs(d)
  if (!(a > SHRINK_FROM)) return 0
  const rest = fround(a - fround(TENTH * shrinkPower(a)))
  return rest > 0 ? (d < 0 ? -rest : rest) : 0
}
