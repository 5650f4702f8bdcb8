// Groups read off the graphs of the families, as AutoAWQ lists them by hand.
import { expect, test } from 'vitest'
import { SIZES, tinyConfig } from '../../../test/support/tiny-model.ts'
import { blockSpans, cutGraph } from '../../graph/cut.ts'
import { MODEL_FAMILIES } from '../../models/auto.ts'
import { scaleGroups } from './groups.ts'

/** The groups of the first block: what is divided, the linears, and whether a linear is inspected alone. */
function groupsOf(modelType: string): string[] {
  const family = MODEL_FAMILIES.find((f) => f.modelTypes.includes(modelType))!
  const graph = family.build(family.parseConfig(tinyConfig(family, SIZES.whole, {})))
  const [{ input, output }] = blockSpans(graph)
  const short = (path: string) => path.replace('layers.0.', '').replace('.weight', '')
  return scaleGroups(cutGraph(graph, [input], [output]).graph).map(
    ({ previous, linears, isAlone }) =>
      `${short(previous.weight)} -> ${linears.map(short).join(', ')}${isAlone ? ' (alone)' : ''}`,
  )
}

const GATED = [
  'input_layernorm -> self_attn.q_proj, self_attn.k_proj, self_attn.v_proj',
  'post_attention_layernorm -> mlp.gate_proj, mlp.up_proj',
  'mlp.up_proj -> mlp.down_proj (alone)',
]

test.each(['llama', 'mistral', 'qwen2', 'qwen3', 'gemma', 'granite'])('%s with shared heads', (modelType) => {
  expect(groupsOf(modelType)).toEqual(GATED)
})

test('gemma2 scales by the norms before its modules, never by those behind them', () => {
  expect(groupsOf('gemma2')).toEqual([GATED[0], GATED[1].replace('post_attention', 'pre_feedforward'), GATED[2]])
})

test('olmo2 has no norm before its linears: only the MLP scales itself', () => {
  expect(groupsOf('olmo2')).toEqual([GATED[2]])
})

test('phi3: fused linears are found through their slices', () => {
  expect(groupsOf('phi3')).toEqual([
    'input_layernorm -> self_attn.qkv_proj',
    'post_attention_layernorm -> mlp.gate_up_proj',
    'mlp.gate_up_proj -> mlp.down_proj (alone)',
  ])
})

test('opt: v feeds the output, and relu lets factors through', () => {
  const groups = groupsOf('opt')
  expect(groups[0]).toContain('q_proj')
  expect(groups.some((group) => /v_proj -> .*out_proj \(alone\)/.test(group))).toBe(true)
  expect(groups.at(-1)).toMatch(/fc1 -> .*fc2 \(alone\)/)
})

test('gpt2: its activation lets no factor through', () => {
  expect(groupsOf('gpt2').some((group) => group.includes('c_fc ->'))).toBe(false)
})
