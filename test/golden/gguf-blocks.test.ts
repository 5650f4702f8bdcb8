// The oracle quantisers against ggml's own bytes: every row of blocks/inputs.safetensors, hostile ones included.
import { expect, test } from 'vitest'
import { quantizeAffine } from '../../src/methods/gguf/quantize-blocks.ts'
import { BLOCK_QUANTIZERS, quantizeSuperblocks } from '../../src/methods/gguf/quantize-superblocks.ts'
import {
  AFFINE_BLOCKS,
  type AffineBlockType,
  affineBlockWeight,
  packAffineBlocks,
  unpackAffineBlocks,
} from '../../src/weights/affine-blocks.ts'
import { decodeSuperblocks, SUPERBLOCKS, type SuperblockType } from '../../src/weights/superblock/index.ts'
import { decode } from '../../src/weights/weight.ts'
import { fixtureJson, fixtureTensors } from '../support/tensors.ts'

const AFFINE = Object.keys(AFFINE_BLOCKS) as AffineBlockType[]
const SUPER = Object.keys(SUPERBLOCKS) as SuperblockType[]
const WRITTEN = SUPER.filter((type) => type in BLOCK_QUANTIZERS)
/** Types of activations only: their fixture is activations.safetensors. */
const ACTIVATIONS: readonly SuperblockType[] = ['Q8_1', 'Q8_K']
const COLUMNS = 512

async function inputs() {
  const tensors = await fixtureTensors('gguf/blocks/inputs.safetensors')
  const { rows } = await fixtureJson<{ rows: { name: string }[] }>('gguf/blocks/blocks.json')
  return { x: tensors.get('x')!.floats(), weights: tensors.get('weights')!.floats(), rows: rows.map((r) => r.name) }
}

/** What ggml did with a type: whether weights are compulsory, and the rows at which it stopped the process (zero bytes there). */
interface TypeFacts {
  readonly needs_weights: boolean
  readonly aborts?: readonly number[]
  readonly aborts_weighted: readonly number[]
}

async function typeFacts() {
  return (await fixtureJson<{ types: Record<string, TypeFacts> }>('gguf/blocks/blocks.json')).types
}

async function expected(type: string) {
  const tensors = await fixtureTensors(`gguf/blocks/${type.toLowerCase()}.safetensors`)
  return (name: string) => tensors.get(name)!.data
}

function affineBytes(type: AffineBlockType, x: Float32Array, importance?: Float32Array): Uint8Array {
  const { codes, scale, shift } = quantizeAffine(type, x, COLUMNS, importance)
  const bytes = (half: Uint16Array) => new Uint8Array(half.buffer)
  return packAffineBlocks(type, affineBlockWeight(type, [x.length], codes, bytes(scale), shift && bytes(shift)))
}

/** Row name and hex of the first differing block, so that a failure says where. Rows at which ggml aborted have no bytes to equal. */
function sameBytes(
  actual: Uint8Array,
  wanted: Uint8Array,
  rows: readonly string[],
  aborted: readonly number[] = [],
): void {
  expect(actual.length).toBe(wanted.length)
  const perRow = wanted.length / rows.length
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
  for (const [r, name] of rows.entries()) {
    if (aborted.includes(r)) continue
    const at = r * perRow
    expect(`${name} ${hex(actual.subarray(at, at + perRow))}`).toBe(`${name} ${hex(wanted.subarray(at, at + perRow))}`)
  }
}

function sameValues(actual: Float32Array, wanted: Float32Array): void {
  expect(actual.length).toBe(wanted.length)
  for (let i = 0; i < wanted.length; i++)
    if (actual[i] !== wanted[i] && !(Number.isNaN(actual[i]) && Number.isNaN(wanted[i])))
      expect(`element ${i}: ${actual[i]}`).toBe(`element ${i}: ${wanted[i]}`)
}

test.each(AFFINE)('%s: the bytes of ggml, with and without importance weights', async (type) => {
  const { x, weights, rows } = await inputs()
  const file = await expected(type)
  sameBytes(affineBytes(type, x), file('packed'), rows)
  sameBytes(affineBytes(type, x, weights), file('packed_weighted'), rows)
})

test.each(WRITTEN)('%s: the bytes of ggml, with and without importance weights', async (type) => {
  const { x, weights, rows } = await inputs()
  const file = await expected(type)
  const { needs_weights, aborts = [], aborts_weighted } = (await typeFacts())[type]
  if (!needs_weights) sameBytes(quantizeSuperblocks(type, x, COLUMNS), file('packed'), rows, aborts)
  sameBytes(quantizeSuperblocks(type, x, COLUMNS, weights), file('packed_weighted'), rows, aborts_weighted)
})

test.each(AFFINE)(
  '%s: blocks become codes and scales, decode to ggml values and go back to the same bytes',
  async (type) => {
    const file = await expected(type)
    for (const name of ['packed', 'packed_weighted', 'random']) {
      const rows = name === 'random' ? 3 : 27
      const weight = unpackAffineBlocks(type, [rows, COLUMNS], file(name))
      expect(Buffer.compare(packAffineBlocks(type, weight), file(name))).toBe(0)
      if (name === 'packed') sameValues(decode(weight), new Float32Array(file('dequant').buffer))
      if (name === 'random') sameValues(decode(weight), new Float32Array(file('random_dequant').buffer))
    }
  },
)

test.each(SUPER.filter((type) => !ACTIVATIONS.includes(type)))('%s: blocks decode to ggml values', async (type) => {
  const file = await expected(type)
  const { needs_weights } = (await typeFacts())[type]
  const packed = file(needs_weights ? 'packed_weighted' : 'packed')
  sameValues(decodeSuperblocks(type, packed, 0, 27 * COLUMNS), new Float32Array(file('dequant').buffer))
  sameValues(decodeSuperblocks(type, file('random'), 0, 3 * COLUMNS), new Float32Array(file('random_dequant').buffer))
})

test.each(ACTIVATIONS)(
  '%s: blocks of activations decode to what they were made of, within half a step',
  async (type) => {
    const blocks = (await fixtureTensors('gguf/blocks/activations.safetensors')).get(
      type.replace('Q8_K', 'q8_K').replace('Q8_1', 'q8_1'),
    )!
    const { x } = await inputs()
    const values = decodeSuperblocks(type, blocks.data, 0, 12 * COLUMNS)
    for (let at = 0; at < values.length; at += SUPERBLOCKS[type].elements) {
      const group = x.slice(at, at + SUPERBLOCKS[type].elements)
      const step = Math.max(...group.map(Math.abs)) / 127
      group.forEach((v, i) => {
        // half a step, and the rounding of the scale to half: 127 steps times 2^-11
        expect(Math.abs(v - values[at + i])).toBeLessThanOrEqual(step * 0.57)
      })
    }
  },
)
