// AutoAWQ 0.2.9 (with a backup that copies): single steps bit for bit, packings byte for byte, and whole searches from the float model.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openFile } from '../../src/checkpoint/node/files.ts'
import { readSafetensorsHeader } from '../../src/checkpoint/safetensors.ts'
import { parseJsonObject } from '../../src/core/json.ts'
import { configFromStored, quantizePretrained } from '../../src/index.ts'
import { awq } from '../../src/methods/awq/index.ts'
import { clipSearch, requantize } from '../../src/methods/awq/kernels.ts'
import { type CodeSpec, gridScales, type SearchDtype } from '../../src/methods/awq/oracle.ts'
import { quantize } from '../../src/methods/awq/quantize.ts'
import { decode } from '../../src/weights/weight.ts'
import { DOORS } from '../support/doors.ts'
import { compileModel } from '../support/models.ts'
import { FIXTURES, type FixtureTensor, fixtureJson, fixtureTensors, largestDifference } from '../support/tensors.ts'

interface Units {
  readonly pseudo_quantize: readonly { key: string; group_size: number; zero_point: boolean; dtype: string }[]
  readonly pack: readonly { key: string; out: number; in: number; group_size: number }[]
  readonly clip: readonly { key: string; group_size: number; tokens: number; sample_step: number }[]
}

const DTYPES: Readonly<Record<string, SearchDtype>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' }
const units = await fixtureJson<Units>('awq/units.json')
const tensors = await fixtureTensors('awq/units.safetensors')
const kernelsOf = [['TypeScript', undefined] as const, ...DOORS]
const floats = (name: string) => tensors.get(name)!.floats()

function specOf(w: FixtureTensor, group: number, dtype: SearchDtype, symmetric = false): CodeSpec {
  return { rows: w.shape[0], columns: w.shape[1], group, bits: 4, symmetric, dtype }
}

/** Index of the first value that differs, or -1; -0 and 0 are equal, as they are for a weight. */
const firstDifference = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length)
  return Array.from(a).findIndex((value, i) => value !== b[i])
}

describe.each(kernelsOf)('%s', (_door, kernels) => {
  test.each(units.pseudo_quantize.map((unit) => [unit.key, unit] as const))('%s', async (key, unit) => {
    const w = tensors.get(`${key}.w`)!
    const spec = specOf(w, unit.group_size, DTYPES[unit.dtype], !unit.zero_point)
    expect(firstDifference(await requantize(w.floats(), undefined, spec, kernels), floats(`${key}.dequant`))).toBe(-1)
  })

  test.each(units.clip.map((unit) => [unit.key, unit] as const))('%s', async (key, unit) => {
    const w = tensors.get(`${key}.w`)!
    const dtype = DTYPES[key.split('.')[1]]
    const { columns, ...rest } = specOf(w, unit.group_size, dtype)
    const x = floats(`${key}.x`)
    const sampled: number[] = []
    for (let t = 0; t < unit.tokens; t += unit.sample_step) sampled.push(...x.subarray(t * columns, (t + 1) * columns))
    const best = await clipSearch(w.floats(), Float32Array.from(sampled), { columns, ...rest }, kernels)
    expect(firstDifference(best, floats(`${key}.max`))).toBe(-1)
  })

  test.each(units.pack.map((unit) => [unit.key, unit] as const))('%s', async (key, unit) => {
    const w = tensors.get(`${key}.w`)!
    const tensor = { dtype: 'F16', shape: w.shape, data: w.data } as const
    for (const version of ['gemm', 'gemv', 'gemv_fast', 'llm-awq'] as const) {
      const file = version === 'llm-awq' ? 'gemv_fast' : version
      if (!tensors.has(`${key}.${file}.qweight`)) continue
      const settings = { bits: 4, group: unit.group_size, version, symmetric: false } as const
      const weight = await quantize({ name: 'l.weight', tensor, settings, kernels })
      const made = await awq.stored.write('l.weight', weight, settings, kernels)
      for (const { name, tensor: part } of made) {
        const expected = tensors.get(`${key}.${file}.${name.slice(2).replace('scaled_zeros', 'qzeros')}`)!
        expect([name, part.dtype, part.shape]).toEqual([name, expected.dtype, expected.shape])
        expect(Buffer.compare(part.data, expected.data), `${key} ${version} ${name}`).toBe(0)
      }
      const byName = new Map(made.map(({ name, tensor: part }) => [name, part]))
      const reader = {
        config: awq.parseConfig(parseJsonObject(`{"group_size": ${unit.group_size}}`, 'test')),
        has: (name: string) => byName.has(name),
        dtypeOf: (name: string) => byName.get(name)?.dtype,
        shapeOf: (name: string) => byName.get(name)?.shape,
        read: async (name: string) => byName.get(name)!,
        warn: () => {},
        kernels,
      }
      const again = await awq.stored.read('l.weight', w.shape, reader)
      expect(firstDifference(again.parts.codes.data, weight.parts.codes.data)).toBe(-1)
      const restored = decode(again, 0, w.shape[0] * w.shape[1], 'F16')
      if (version !== 'gemv_fast' && version !== 'llm-awq' && tensors.has(`${key}.dequant_f16`))
        expect(firstDifference(restored, floats(`${key}.dequant_f16`))).toBe(-1)
    }
  })
})

interface Trace {
  readonly search_dtype: string
  readonly quant_config: { q_group_size: number; version: string }
  readonly calibration: readonly (readonly number[])[]
  readonly max_calib_seq_len: number
  readonly duo_scaling: boolean
  readonly searches: readonly { tag: string; best_step: number; losses: readonly number[] }[]
}

const folder = await mkdtemp(join(tmpdir(), 'fewbit-awq-'))
afterAll(() => rm(folder, { recursive: true, force: true }))
const MODELS = ['llama_g32_f32_gemm', 'qwen2_g64_bf16_gemv', 'gemma_g128_f16_gemv_fast']

describe.each(MODELS)('%s', (name) => {
  test('factors of every candidate from the recorded statistics', async () => {
    const trace = await fixtureJson<Trace>(`awq/${name}/trace.json`)
    const recorded = await fixtureTensors(`awq/${name}/trace.safetensors`)
    const dtype = DTYPES[trace.search_dtype]
    for (const { tag, best_step } of trace.searches) {
      const of = (part: string) => recorded.get(`${tag}.${part}`)!.floats()
      const scales = gridScales(best_step, of('x_mean'), trace.duo_scaling ? of('w_mean') : undefined, dtype)
      const worst = scales.reduce((most, s, i) => Math.max(most, Math.abs(s / of('scales')[i] - 1)), 0)
      // float32 powers differ between libraries by their last bit
      expect(worst, tag).toBeLessThanOrEqual(dtype === 'F32' ? 3e-7 : 0)
    }
  })

  test("a search from the float model ends in the reference's checkpoint but for near ties", async () => {
    const trace = await fixtureJson<Trace>(`awq/${name}/trace.json`)
    const made = await searched(name, trace)
    const expected = await fixtureTensors(`awq/${name}/checkpoint/model.safetensors`)
    expect([...made.keys()].sort()).toEqual([...expected.keys()].sort())
    expect(await metadataOf(join(folder, name))).toEqual(await metadataOf(join(FIXTURES, 'awq', name, 'checkpoint')))
    const share = { codes: new Share(), scales: new Share() }
    for (const [key, tensor] of expected) {
      const mine = made.get(key)!
      expect([key, mine.dtype, mine.shape]).toEqual([key, tensor.dtype, tensor.shape])
      if (key.endsWith('.qweight')) share.codes.add(nibbles(tensor), nibbles(mine))
      else if (key.endsWith('.scales')) share.scales.add(tensor.floats(), mine.floats())
      else if (!key.endsWith('.qzeros')) {
        // Norms hold the chosen factors: another choice of the grid would change them by more than a rounding. Gemma's stand for 1 + weight.
        const one = name.startsWith('gemma') && key.includes('norm') ? 1 : 0
        const [a, b] = [tensor.floats(), mine.floats()]
        const worst = a.reduce(
          (most, v, i) => Math.max(most, v === b[i] ? 0 : Math.abs(v - b[i]) / Math.abs(v + one)),
          0,
        )
        expect(worst, key).toBeLessThanOrEqual(
          trace.search_dtype === 'f32' ? 5e-7 : one ? ONE_F16_STEP : key.includes('norm') ? 0 : ONE_BF16_STEP,
        )
      }
    }
    expect(share.codes.equal).toBeGreaterThanOrEqual(0.995)
    expect(share.scales.equal).toBeGreaterThanOrEqual(0.98)
  })

  test('without memory for second moments the search chooses the same', async () => {
    const trace = await fixtureJson<Trace>(`awq/${name}/trace.json`)
    const [made, expected] = [await searched(name, trace, 1 << 16), await searched(name, trace)]
    for (const [key, { data }] of expected) expect(Buffer.compare(made.get(key)!.data, data), key).toBe(0)
  })

  test.each(['reference', 'cpu', 'wasm'])("logits of the reference's checkpoint (%s)", async (device) => {
    const recorded = await fixtureTensors(`awq/${name}/trace.safetensors`)
    const model = await compileModel(`awq/${name}/checkpoint`, device)
    const { shape } = recorded.get('input_ids')!
    const ids = Int32Array.from(recorded.get('input_ids')!.ints())
    const logits = await model.run({
      ids,
      positions: ids.map((_, r) => r % shape[1]),
      slots: ids.map((_, r) => Math.floor(r / shape[1])),
      outputs: ids.map((_, r) => r),
      phase: 'prefill',
    })
    const expected = recorded.get('logits_dequant_f32')!.floats()
    const largest = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 0)
    expect(largestDifference(logits, expected).difference).toBeLessThanOrEqual(1e-4 * largest)
    model.dispose()
  })
})

/** Means over inputs that the reference rounded on the way (inside the attention) may differ by a last bit. */
const ONE_BF16_STEP = 2 ** -6
const ONE_F16_STEP = 2 ** -9

/** How many of two lists of values are equal. */
class Share {
  private same = 0
  private all = 0
  add(a: ArrayLike<number>, b: ArrayLike<number>): void {
    this.all += a.length
    for (let i = 0; i < a.length; i++) this.same += Number(a[i] === b[i])
  }
  get equal(): number {
    return this.same / this.all
  }
}

const nibbles = ({ data }: FixtureTensor) => Array.from(data).flatMap((byte) => [byte & 15, byte >> 4])

/** What the header says besides the tensors: AutoAWQ names a head that is tied. */
async function metadataOf(model: string): Promise<unknown> {
  const source = await openFile(join(model, 'model.safetensors'))
  const { metadata } = await readSafetensorsHeader(source).finally(() => source.close())
  return Object.fromEntries(metadata)
}

/** The tensors of the model quantised with the fixture's data. */
async function searched(name: string, trace: Trace, memoryBytes?: number): Promise<ReadonlyMap<string, FixtureTensor>> {
  const out = join(folder, memoryBytes === undefined ? name : `${name}-${memoryBytes}`)
  const data = join(folder, `${name}.json`)
  await writeFile(data, JSON.stringify(trace.calibration))
  const { duo_scaling } = trace
  const config = JSON.stringify({ quant_method: 'awq', ...trace.quant_config, duo_scaling })
  await quantizePretrained(join(FIXTURES, 'awq', name, 'base'), out, configFromStored(parseJsonObject(config, name)), {
    calibration: { file: data, length: trace.max_calib_seq_len, memoryBytes },
    force: true,
    dtype: trace.search_dtype === 'f32' ? 'float32' : undefined,
  })
  return fixtureTensors(relative(FIXTURES, join(out, 'model.safetensors')))
}
