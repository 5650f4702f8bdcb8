// Deterministic damage to small files: the same seed gives the same mutations on every machine.

/** mulberry32: a small generator with 32 bits of state. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

type Random = () => number
const below = (next: Random, n: number) => Math.floor(next() * Math.max(1, n))

/** Words that break parsers: extremes of every width. */
const EXTREMES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff].map((n) => BigInt(n))
const WIDE = [...EXTREMES, 1n << 31n, 1n << 32n, (1n << 53n) - 1n, 1n << 53n, (1n << 63n) - 1n, (1n << 64n) - 1n]

function overwrite(bytes: Uint8Array, next: Random, limit: number): Uint8Array {
  const out = bytes.slice()
  const width = [1, 2, 4, 8][below(next, 4)]
  let value = WIDE[below(next, WIDE.length)]
  const at = below(next, limit - width)
  for (let i = 0; i < width && at + i < out.length; i++) {
    out[at + i] = Number(value & 255n)
    value >>= 8n
  }
  return out
}

function flip(bytes: Uint8Array, next: Random, limit: number): Uint8Array {
  const out = bytes.slice()
  for (let n = 1 + below(next, 4); n > 0; n--) out[below(next, limit)] ^= 1 << below(next, 8)
  return out
}

function splice(bytes: Uint8Array, next: Random, limit: number): Uint8Array {
  const from = below(next, limit)
  const length = below(next, 32)
  const to = below(next, limit)
  const piece = next() < 0.5 ? bytes.subarray(from, from + length) : new Uint8Array(0)
  return Uint8Array.from([...bytes.subarray(0, to), ...piece, ...bytes.subarray(to + below(next, length + 1))])
}

/** Damages the first `limit` bytes (the header) of a binary file. */
export function mutateBytes(bytes: Uint8Array, next: Random, limit = bytes.length): Uint8Array {
  const kind = next()
  if (kind < 0.45) return overwrite(bytes, next, limit)
  if (kind < 0.75) return flip(bytes, next, limit)
  if (kind < 0.9) return splice(bytes, next, limit)
  return bytes.slice(0, below(next, bytes.length))
}

const VALUES = [
  ...['0', '-1', '1', '3', '1e999', '-0.0', '1.5', '4294967296', '9007199254740993', '1000000000', 'NaN', 'Infinity'],
  ...[
    'null',
    'true',
    'false',
    '""',
    '"x"',
    '[]',
    '{}',
    '[[]]',
    '[0]',
    '[1, "a", null]',
    '{"a": {"b": 1}}',
    '"\\ud800"',
  ],
  ...['"__proto__"', '"../../etc/passwd"', `"${'x'.repeat(300)}"`, `${'['.repeat(200)}${']'.repeat(200)}`],
]

/** Damages text in JSON's own terms: a value for another, a key renamed, a piece removed or doubled; sometimes bytes. */
export function mutateJson(text: string, next: Random): string {
  const kind = next()
  if (kind < 0.6) {
    const values = [
      ...text.matchAll(
        /(?<=[:[,]\s*)(?:"(?:[^"\\]|\\.)*"(?!\s*:)|-?[\d.eE+-]+|true|false|null|\[[^[\]{}]*\]|\{[^[\]{}]*\})/g,
      ),
    ]
    const chosen = values[below(next, values.length)]
    if (!chosen) return text
    return (
      text.slice(0, chosen.index) + VALUES[below(next, VALUES.length)] + text.slice(chosen.index + chosen[0].length)
    )
  }
  if (kind < 0.75) {
    const keys = [...text.matchAll(/"[^"\\]*"(?=\s*:)/g)]
    const [a, b] = [keys[below(next, keys.length)], keys[below(next, keys.length)]]
    return a ? `${text.slice(0, a.index)}${next() < 0.5 ? b[0] : '"other"'}${text.slice(a.index + a[0].length)}` : text
  }
  const bytes = mutateBytes(new TextEncoder().encode(text), next)
  return new TextDecoder('latin1').decode(bytes)
}
