import { expect, test } from 'vitest'
import { ConfigError, WeightError } from '../../core/errors.ts'
import { fromPlain, type JsonObject, type Plain, toPlain } from '../../core/json.ts'
import type { ModelInfo, TensorInfo } from '../types.ts'
import { aqlm } from './index.ts'

const parse = (config: Record<string, Plain>) => aqlm.parseConfig(fromPlain(config) as JsonObject)
const scheme = (flags: Parameters<typeof aqlm.fromFlags>[0]) => {
  const { bits, codebooks, group } = aqlm.parseConfig(aqlm.fromFlags(flags)).scheme
  return `${codebooks}x${bits} g${group.in} og${group.out}`
}

test('an absent key has the default of the reference; flags begin with 2x8 g8', () => {
  expect(parse({ quant_method: 'aqlm' }).scheme).toMatchObject({ bits: 16, codebooks: 1, group: { in: 8, out: 1 } })
  expect(scheme({})).toBe('2x8 g8 og1')
})

test('an interrupted run goes on only with the same search, which no file stores', () => {
  const fingerprint = (flags: Parameters<typeof aqlm.fromFlags>[0]) =>
    aqlm.block!.fingerprint!(aqlm.parseConfig(aqlm.fromFlags(flags)))
  expect(fingerprint({})).toEqual(fingerprint({ seed: '0' }))
  for (const flags of [{ seed: '1' }, { beamSize: '4' }, { maxEpochs: '1' }, { relativeMseTolerance: '0.1' }])
    expect(fingerprint(flags)).not.toEqual(fingerprint({}))
})

test.each([
  [{ type: '1x16g16' }, '1x16 g16 og1'],
  [{ type: '8x8', groupSize: 32 }, '8x8 g32 og1'],
  [{ bits: 3 }, '3x8 g8 og1'],
  [{ bits: 2, groupSize: 16 }, '4x8 g16 og1'],
  [{ bits: 1, nbitsPerCodebook: '4', groupSize: 4 }, '1x4 g4 og1'],
  [{ 'out-group-size': '2' }, '2x8 g8 og2'],
])('%j is %s', (flags, expected) => {
  expect(scheme(flags)).toBe(expected)
})

test.each([
  [{ in_group_size: 0 }, /"in_group_size" is 0, expected an integer of at least 1/],
  [{ nbits_per_codebook: 17 }, /"nbits_per_codebook" is 17, expected an integer from 1 to 16/],
  [{ num_codebooks: 1.5 }, /"num_codebooks" is 1.5/],
  [{ num_codebooks: '2' }, /"num_codebooks" is "2"/],
  [{ nbits_per_codebook: 16, num_codebooks: 1024 }, /codebooks of 536870912 values, at most/],
  [
    { linear_weights_not_to_quantize: 'lm_head' },
    /"linear_weights_not_to_quantize" is "lm_head", expected null or a list/,
  ],
  [{ relative_mse_tolerance: 2 }, /"relative_mse_tolerance" is 2, expected a number from 0 to 1/],
  [{ beam_size: 0 }, /"beam_size" is 0/],
])('%j is refused by its key', (config, message) => {
  expect(() => parse(config)).toThrow(ConfigError)
  expect(() => parse(config)).toThrow(message)
})

test('block-wise tuning is refused for what it needs, 0 epochs of it are not', () => {
  expect(() => parse({ finetune_max_epochs: 5 })).toThrow(/needs gradients that fewbit does not have yet/)
  expect(() => parse({ finetune_max_epochs: 0 })).not.toThrow()
})

test('flags that name no scheme are refused with what to type', () => {
  expect(() => aqlm.fromFlags({ type: 'q4_0' })).toThrow(/expected codebooks x bits/)
  expect(() => aqlm.fromFlags({ bits: 1.5 })).toThrow(/no number of 8-bit codebooks over groups of 8 gives that/)
  expect(() => aqlm.fromFlags({ beams: 2 })).toThrow(/"beams" is no option of AQLM/)
})

test('an unknown key is said, and not stored', () => {
  const config = parse({ num_codebooks: 2, nbits_per_codebook: 8, colour: 'blue' })
  expect(config.warnings).toEqual(['"colour" is no key of AQLM: it is not stored'])
})

const model: ModelInfo = {
  modelType: 'llama',
  tied: false,
  lastModule: 'lm_head',
  layers: 1,
  heads: 4,
  kvHeads: 4,
  dtype: 'BF16',
}
const linear = (name: string, shape: readonly number[]): TensorInfo => ({ name, shape, dtype: 'BF16', role: 'linear' })
const HEAD: TensorInfo = { name: 'lm_head.weight', shape: [64, 64], dtype: 'BF16', role: 'head' }
const planOf = (tensors: readonly TensorInfo[], flags: Parameters<typeof aqlm.fromFlags>[0] = {}) =>
  aqlm.plan(tensors, model, aqlm.parseConfig(aqlm.fromFlags(flags)))

test('a scheme with more entries than a layer has groups is refused with the widest that fits', () => {
  const plan = () => planOf([linear('model.layers.0.mlp.up_proj.weight', [576, 576])], { type: '1x16g8' })
  expect(plan).toThrow(WeightError)
  expect(plan).toThrow(
    /it has 41472 groups, fewer than the 65536 entries of a codebook; codebooks of at most 15 bits fit/,
  )
  const error = (() => {
    try {
      return plan()
    } catch (e) {
      return e as WeightError
    }
  })() as WeightError
  expect(error.fields).toMatchObject({ groups: 41472, mostBits: 15 })
  expect(error.hint).toMatch(/^--type 2x8g8, or leave it float/)
})

test.each([
  [{ groupSize: 24 }, [64, 64], /its 64 columns do not divide into groups of 24/],
  [{ outGroupSize: 3 }, [64, 64], /its 64 rows do not divide into groups of 3/],
])('%j on %j is refused by the name of the tensor', (flags, shape, message) => {
  expect(() => planOf([linear('model.layers.0.mlp.up_proj.weight', shape)], flags)).toThrow(message)
})

test('the head stays float, and the list that is stored names it for old readers and new ones', () => {
  const tensors = [linear('model.layers.0.mlp.up_proj.weight', [64, 64]), linear('model.extra.weight', [7, 7]), HEAD]
  const plan = planOf(tensors, { linearWeightsNotToQuantize: ['model.extra'] })
  expect(plan.tensors.map((t) => (t.action === 'keep' ? t.reason : t.action))).toEqual([
    'quantize',
    'skipped by "model.extra" of linear_weights_not_to_quantize',
    'output head',
  ])
  expect(plan.warnings).toEqual([])
  expect(toPlain(plan.storedConfig!)).toEqual({
    in_group_size: 8,
    linear_weights_not_to_quantize: ['model.extra', 'lm_head', 'lm_head.weight', 'model.extra.weight'],
    nbits_per_codebook: 8,
    num_codebooks: 2,
    out_group_size: 1,
    quant_method: 'aqlm',
  })
})

test('an entry that protects nothing is a warning', () => {
  const plan = planOf([linear('model.layers.0.mlp.up_proj.weight', [64, 64])], {
    linearWeightsNotToQuantize: ['model.layers.0.mlp.gate_proj'],
  })
  expect(plan.warnings).toEqual(['linear_weights_not_to_quantize: "model.layers.0.mlp.gate_proj" matches no module'])
})
