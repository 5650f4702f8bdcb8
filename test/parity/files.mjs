// What the parity scripts read out of files, and how far two lists of logits are apart.
import { readFileSync } from 'node:fs'

/** The float32 values of the one tensor of a safetensors file. */
export function tensorOf(file) {
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  return new Float32Array(new Uint8Array(bytes.subarray(8 + length)).buffer)
}

/** The bytes of every tensor of a safetensors file, by name. */
export function tensorsOf(file) {
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const { __metadata__: _, ...header } = JSON.parse(bytes.subarray(8, 8 + length).toString('utf8'))
  const data = bytes.subarray(8 + length)
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          data_offsets: [from, to],
        },
      ]) => [name, data.subarray(from, to)],
    ),
  )
}

/** Largest difference relative to the span of the expected values. */
export function difference(ours, theirs) {
  if (ours.length !== theirs.length) throw new Error(`${ours.length} logits against ${theirs.length}`)
  let [largest, low, high] = [0, Infinity, -Infinity]
  theirs.forEach((v, i) => {
    largest = Math.max(largest, Math.abs(v - ours[i]))
    low = Math.min(low, v)
    high = Math.max(high, v)
  })
  return largest / (high - low)
}
