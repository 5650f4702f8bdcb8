// What the parity scripts read out of files, and how far two lists of logits are apart.
import { readFileSync } from 'node:fs'

/** The float32 values of the one tensor of a safetensors file. */
export function tensorOf(file) {
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  return new Float32Array(new Uint8Array(bytes.subarray(8 + length)).buffer)
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
