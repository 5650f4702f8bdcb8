// Every fixture model of the registered families on one device: logits, hidden states, padded batch, greedy tokens.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { recomputeLength } from '../../src/api/prepare.ts'
import { rowsOf } from '../../src/backends/batch.ts'
import { openBackend } from '../../src/backends/index.ts'
import type { Executable, RowBatch } from '../../src/backends/types.ts'
import { localFiles } from '../../src/checkpoint/node/files.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { argmax } from '../../src/generate/select.ts'
import { Sequences } from '../../src/generate/sequences.ts'
import { MODEL_FAMILIES } from '../../src/models/auto.ts'
import { modelSource } from '../../src/models/source.ts'
import { FIXTURES, fixtureTensors, largestDifference, span } from './tensors.ts'

const MODELS = 'transformers/models'
const index: Record<string, { family: string }> = JSON.parse(readFileSync(join(FIXTURES, MODELS, 'index.json'), 'utf8'))
const known = MODEL_FAMILIES.flatMap((f) => f.modelTypes)
const names = Object.keys(index).filter((name) => known.includes(index[name].family))

/** f32 against f32, sums in another order: of the logits' span, and of the largest hidden value. */
const RELATIVE = 1e-5

interface Opened {
  readonly model: Executable
  readonly layers: number
  readonly sequences: Sequences
  /** longrope: keys are rotated anew when a sequence passes a length. */
  readonly goesByLength: boolean
}

async function openModel(device: string, name: string, taps: readonly string[] = []): Promise<Opened> {
  const source = await modelSource(await openCheckpoint(await localFiles(join(FIXTURES, MODELS, name))))
  const backend = await openBackend(device)
  const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1, taps })
  await source.checkpoint.close()
  const length = recomputeLength(source.config)
  return {
    model,
    layers: source.config.layers,
    sequences: new Sequences(model, length),
    goesByLength: length !== undefined,
  }
}

/** Rows of several sequences, each from `position` on, whose last rows are wanted. */
function joined(parts: readonly RowBatch[]): RowBatch {
  const flat = (pick: (part: RowBatch) => Int32Array) => Int32Array.from(parts.flatMap((p) => [...pick(p)]))
  let at = 0
  const outputs = parts.map((p) => (at += p.ids.length) - 1)
  return {
    ids: flat((p) => p.ids),
    positions: flat((p) => p.positions),
    slots: flat((p) => p.slots),
    outputs: Int32Array.from(outputs),
    phase: parts[0].phase,
  }
}

/** `count` new tokens for each prompt. */
async function greedy(sequences: Sequences, prompts: readonly (readonly number[])[], count: number) {
  const rows = prompts.map((ids) => [...ids])
  for (let n = 0; n < count; n++) {
    const logits = await sequences.next(rows.map((ids, slot) => ({ slot, ids })))
    for (const [row, scores] of logits.entries()) rows[row].push(argmax(scores))
  }
  return rows.map((ids, row) => ids.slice(prompts[row].length))
}

/** What the hidden states of `layers` layers are called. */
function tapsOf(layers: number): string[] {
  return ['embedding', 'norm', ...Array.from({ length: layers }, (_, i) => `layers.${i}`)]
}

/** Declares the tests of a device. */
export function familySuite(device: string): void {
  describe.each(names)('%s', async (name) => {
    const expected = await fixtureTensors(`${MODELS}/${name}/expected.safetensors`)
    const floats = (key: string) => expected.get(key)!.floats()
    const ints = (key: string) => expected.get(key)!.ints()
    const tolerance = span(floats('logits')) * RELATIVE

    test('logits and the hidden states of every layer', async () => {
      const { model, layers } = await openModel(device, name, tapsOf(expected.get('hidden_states')!.shape[0]))
      const logits = await model.run(rowsOf(ints('input_ids'), 0, 'all'))
      expect(largestDifference(logits, floats('logits')).difference).toBeLessThan(tolerance)
      const hidden = floats('hidden_states')
      const size = hidden.length / layers
      const largest = hidden.reduce((m, x) => Math.max(m, Math.abs(x)), 0)
      for (let layer = 0; layer < layers; layer++) {
        const input = model.tap(layer === 0 ? 'embedding' : `layers.${layer - 1}`)
        const { difference } = largestDifference(input, hidden.subarray(layer * size, (layer + 1) * size))
        expect(difference, `input of layer ${layer}`).toBeLessThan(largest * RELATIVE)
      }
      expect(largestDifference(model.tap('norm'), floats('last_hidden_state')).difference).toBeLessThan(
        largest * RELATIVE,
      )
    })

    test('a left-padded batch is two sequences of their own', async () => {
      const { model } = await openModel(device, name)
      const logits = await model.run(joined(paddedPrompts().map((ids, slot) => rowsOf(ids, 0, 'last', slot))))
      expect(largestDifference(logits, floats('padded_last_logits')).difference).toBeLessThan(tolerance)
    })

    test('greedy tokens and their logits', async () => {
      const { sequences } = await openModel(device, name)
      const ids = ints('greedy_prompt')
      const wanted = ints('greedy_new_tokens')
      const steps = floats('greedy_logits')
      const vocabulary = steps.length / wanted.length
      for (const [n, id] of wanted.entries()) {
        const [logits] = await sequences.next([{ slot: 0, ids }])
        const step = steps.subarray(n * vocabulary, (n + 1) * vocabulary)
        expect(largestDifference(logits, step).difference, `step ${n}`).toBeLessThan(tolerance)
        expect(argmax(logits), `step ${n}`).toBe(id)
        ids.push(id)
      }
    })

    test('greedy tokens of the batch', async () => {
      const { sequences, goesByLength } = await openModel(device, name)
      const wanted = ints('padded_greedy_new_tokens')
      const prompts = paddedPrompts()
      const count = wanted.length / prompts.length
      const found = await greedy(sequences, prompts, count)
      // The reference lets the longest row choose everybody's frequencies; here text does not depend on the batch.
      const longest = Math.max(...prompts.map((ids) => ids.length))
      for (const [row, ids] of prompts.entries()) {
        const follows = !goesByLength || ids.length === longest
        const expected = follows ? wanted.slice(row * count, (row + 1) * count) : await alone(ids, count)
        expect(found[row], `row ${row}`).toEqual(expected)
      }
    })

    async function alone(ids: readonly number[], count: number): Promise<number[]> {
      const { sequences } = await openModel(device, name)
      return (await greedy(sequences, [ids], count))[0]
    }

    /** The real tokens of each row. */
    function paddedPrompts(): number[][] {
      const ids = ints('padded_input_ids')
      const mask = ints('padded_attention_mask')
      const [rows, width] = expected.get('padded_input_ids')!.shape
      return Array.from({ length: rows }, (_, r) =>
        ids.slice(r * width, (r + 1) * width).filter((_, i) => mask[r * width + i] === 1),
      )
    }
  })
}
