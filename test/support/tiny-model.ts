// A tiny float model of any registered family, made through the family's own config, graph and names: no fixture is needed.
import { safetensorsHeader, safetensorsOrder } from '../../src/checkpoint/safetensors.ts'
import type { FileSet } from '../../src/checkpoint/types.ts'
import { fromGraph } from '../../src/convert/ops.ts'
import { elementCount, type FloatDType, torchName } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import { fromPlain, type JsonObject, writeJson } from '../../src/core/json.ts'
import type { Parameter } from '../../src/graph/types.ts'
import type { ModelFamily } from '../../src/models/types.ts'
import { denseWeight } from '../../src/weights/weight.ts'
import { memoryFiles } from './memory-files.ts'
import { bellShaped, seedOf } from './random.ts'

export interface Size {
  readonly name: string
  readonly hidden: number
  readonly heads: number
  readonly kvHeads: number
  readonly intermediate: number
  readonly vocabulary: number
  readonly layers: number
}

export const SIZES = {
  /** Every block of up to 256 divides the widths; the vocabulary leaves a panel of 16 rows unfilled. */
  whole: { name: 'whole', hidden: 256, heads: 4, kvHeads: 1, intermediate: 512, vocabulary: 61, layers: 1 },
  /** The same for methods whose definition is a search: half as wide. */
  compact: { name: 'whole', hidden: 128, heads: 4, kvHeads: 1, intermediate: 256, vocabulary: 61, layers: 1 },
  /** Blocks of 64 divide the tensors, not their rows: groups cross rows, GGUF types fall back. */
  crossing: { name: 'crossing', hidden: 96, heads: 4, kvHeads: 2, intermediate: 160, vocabulary: 50, layers: 1 },
  /** Next to nothing divides: kernels end in the middle of a chunk, methods leave float what they cannot take. */
  ragged: { name: 'ragged', hidden: 66, heads: 3, kvHeads: 3, intermediate: 77, vocabulary: 41, layers: 1 },
  /** As many layers as families need to show all that they alternate. */
  deep: { name: 'deep', hidden: 64, heads: 4, kvHeads: 2, intermediate: 96, vocabulary: 80, layers: 4 },
  /** The same, with rows that hold blocks of 256. */
  wide: { name: 'wide', hidden: 256, heads: 4, kvHeads: 2, intermediate: 256, vocabulary: 80, layers: 4 },
} as const satisfies Record<string, Size>

export interface TinyOptions {
  readonly dtype?: FloatDType
  /** Whether the head is the token table; absent: as the family has it. */
  readonly tied?: boolean
}

/** A config.json of the family: sizes in every spelling that there is, all else as the family's defaults are. */
export function tinyConfig(family: ModelFamily, size: Size, { dtype = 'F32', tied }: TinyOptions): JsonObject {
  const { hidden, heads, kvHeads, intermediate, layers } = size
  return fromPlain({
    model_type: family.modelTypes[0],
    dtype: torchName(dtype),
    vocab_size: size.vocabulary,
    hidden_size: hidden,
    n_embd: hidden,
    word_embed_proj_dim: hidden,
    num_hidden_layers: layers,
    n_layer: layers,
    num_attention_heads: heads,
    n_head: heads,
    num_key_value_heads: kvHeads,
    head_dim: hidden / heads,
    query_pre_attn_scalar: hidden / heads,
    // Granite's factors as its published models have them: the default leaves scores unscaled, and a softmax that sharp makes large
    // differences of small ones.
    attention_multiplier: heads / hidden,
    embedding_multiplier: 12,
    residual_multiplier: 0.22,
    logits_scaling: 8,
    intermediate_size: intermediate,
    n_inner: intermediate,
    ffn_dim: intermediate,
    max_position_embeddings: 128,
    n_positions: 128,
    n_ctx: 128,
    sliding_window: 8,
    sliding_window_pattern: 2,
    use_sliding_window: true,
    max_window_layers: 2,
    bos_token_id: 1,
    eos_token_id: 2,
    pad_token_id: 0,
    ...(tied !== undefined && { tie_word_embeddings: tied }),
  }) as JsonObject
}

/** The same seed gives the same model in every dtype. */
export function tinyModel(family: ModelFamily, size: Size, options: TinyOptions = {}): FileSet {
  const { dtype = 'F32' } = options
  const json = tinyConfig(family, size, options)
  const config = family.parseConfig(json)
  const names = new Map(family.names(config).map((n) => [n.path, n]))
  const entries = family
    .build(config)
    .parameters.map((parameter) => {
      const { huggingFace, huggingFaceOp } = names.get(parameter.path)!
      const inGraph = denseWeight({ dtype, shape: parameter.shape, data: fromFloat32(valuesOf(parameter), dtype) })
      return { name: huggingFace, ...fromGraph(huggingFaceOp, inGraph).parts.values }
    })
    .sort(safetensorsOrder)
  const { header } = safetensorsHeader(entries, new Map([['format', 'pt']]))
  return memoryFiles({
    'config.json': `${writeJson(json)}\n`,
    'generation_config.json': '{}\n',
    'model.safetensors': Buffer.concat([header, ...entries.map((e) => e.data)]),
  })
}

/** Sizes as in trained models: norms near one, small biases, rows of a matrix of length about one. */
function valuesOf({ path, shape, kind }: Parameter): Float32Array {
  const count = elementCount(shape)
  const seed = seedOf(path)
  if (kind === 'embedding') return bellShaped(count, 0.5, seed)
  if (kind === 'linear') return bellShaped(count, 1.5 / Math.sqrt(shape[1]), seed)
  const values = bellShaped(count, 0.1, seed)
  return path.endsWith('norm.weight') ? values.map((x) => 1 + x) : values
}
