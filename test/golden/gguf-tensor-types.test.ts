// The type rules against llama-quantize's dry runs: 10 model shapes, every file type that fewbit writes, with and without an imatrix.
import { expect, test } from 'vitest'
import { fromPlain, type JsonObject } from '../../src/core/json.ts'
import { parseConfig } from '../../src/methods/gguf/config.ts'
import { FILE_TYPE_NAMES, type FileTypeName } from '../../src/methods/gguf/file-types.ts'
import { tensorTypes } from '../../src/methods/gguf/type-rules.ts'
import type { ModelInfo, TensorInfo } from '../../src/methods/types.ts'
import { fixtureJson } from '../support/tensors.ts'

interface Shape {
  readonly arch: string
  readonly layers: number
  readonly hidden: number
  readonly ffn: number
  readonly heads: number
  readonly kv_heads: number
  readonly vocab: number
  readonly tied: boolean
  readonly experts: number
  readonly fused_qkv: boolean
  /** File type (`+imatrix`) -> role -> type, or a list by layer where it varies. */
  readonly ftypes: Readonly<Record<string, Readonly<Record<string, string | string[]>>>>
}

/** The tensors that the dry run saw, shapes slowest dimension first. */
function tensorsOf(s: Shape): TensorInfo[] {
  const headDim = Math.floor(s.hidden / s.heads)
  const qWidth = headDim * s.heads
  const kvWidth = headDim * s.kv_heads
  const tensors: TensorInfo[] = []
  const add = (name: string, ...shape: number[]) =>
    tensors.push({ name: `${name}.weight`, shape, dtype: shape.length > 1 ? 'F16' : 'F32', role: 'linear' })
  add('token_embd', s.vocab, s.hidden)
  add('output_norm', s.hidden)
  if (!s.tied) add('output', s.vocab, s.hidden)
  for (let l = 0; l < s.layers; l++) {
    const layer = (name: string, ...shape: number[]) => add(`blk.${l}.${name}`, ...shape)
    layer('attn_norm', s.hidden)
    layer('attn_output', s.hidden, qWidth)
    if (s.fused_qkv) layer('attn_qkv', qWidth + 2 * kvWidth, s.hidden)
    else {
      layer('attn_q', qWidth, s.hidden)
      layer('attn_k', kvWidth, s.hidden)
      layer('attn_v', kvWidth, s.hidden)
    }
    if (s.experts) {
      layer('ffn_gate_inp', s.experts, s.hidden)
      layer('ffn_gate_exps', s.experts, s.ffn, s.hidden)
      layer('ffn_up_exps', s.experts, s.ffn, s.hidden)
      layer('ffn_down_exps', s.experts, s.hidden, s.ffn)
      continue
    }
    layer('ffn_up', s.arch === 'phi3' ? 2 * s.ffn : s.ffn, s.hidden)
    layer('ffn_down', s.hidden, s.ffn)
    if (s.arch === 'llama' || s.arch === 'qwen2') layer('ffn_gate', s.ffn, s.hidden)
  }
  return tensors
}

function modelOf(s: Shape): ModelInfo {
  return {
    modelType: s.arch,
    tied: s.tied,
    lastModule: 'lm_head',
    layers: s.layers,
    heads: s.heads,
    kvHeads: s.kv_heads,
    dtype: 'F16',
    container: 'gguf',
    ggufArchitecture: s.arch,
    experts: s.experts,
  }
}

/** Name -> type in lower case, as the fixture spells it. */
function planned(shape: Shape, label: string): Map<string, string> {
  const [type, imatrix] = label.split('+')
  const config = {
    ...parseConfig(fromPlain({ quant_method: 'gguf', imatrix: imatrix ? 'im.gguf' : null }) as JsonObject),
    type: type.toLowerCase() as FileTypeName,
  }
  const tensors = tensorsOf(shape)
  const types = tensorTypes(tensors, modelOf(shape), config)
  return new Map(
    tensors.map((t, i) => {
      const choice = types[i]
      return [t.name, ('type' in choice ? choice.type : t.dtype).toLowerCase()]
    }),
  )
}

const shapes = await fixtureJson<Record<string, Shape>>('gguf/tensor_types.json')
const labels = Object.keys(shapes['llama-8b'].ftypes)

/** Newer than the fixture; NVFP4 and Q1_0 have no rule of their own. */
const WITHOUT_FIXTURE = ['f32', 'nvfp4', 'q1_0', 'q2_0']

test('the fixture covers every file type but four', () => {
  const covered = new Set(labels.map((label) => label.split('+')[0].toLowerCase()))
  expect(FILE_TYPE_NAMES.filter((name) => !covered.has(name)).sort()).toEqual(WITHOUT_FIXTURE)
})

test.each(Object.keys(shapes))('%s: every tensor gets the type that llama-quantize gives it', (name) => {
  const shape = shapes[name]
  for (const label of labels) {
    const types = planned(shape, label)
    const actual: Record<string, unknown> = {}
    for (const [role, wanted] of Object.entries(shape.ftypes[label])) {
      const layers = Array.from({ length: shape.layers }, (_, l) => types.get(`blk.${l}.${role}.weight`))
      actual[role] =
        types.get(`${role}.weight`) ?? (Array.isArray(wanted) || new Set(layers).size > 1 ? layers : layers[0])
    }
    expect({ label, ...actual }).toEqual({ label, ...shape.ftypes[label] })
  }
})
