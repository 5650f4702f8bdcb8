// A quantised folder seen as a GGUF file that keeps its codes: the float view of the model, in which every weight that can be written as
// `type` without quantising it again is already there in that type.
import type { Checkpoint, StoredTensor } from '../../checkpoint/types.ts'
import { fromGraph } from '../../convert/ops.ts'
import { elementCount } from '../../core/dtypes.ts'
import { UnsupportedError } from '../../core/errors.ts'
import type { QuantizerKernels } from '../../core/kernels.ts'
import { blockBytes } from '../../methods/gguf/stored.ts'
import { AFFINE_BLOCK_SIZE, affineBlockBytes } from '../../weights/affine-blocks.ts'
import { canReExpress, type KeptType, reExpress } from '../../weights/re-express.ts'
import { ggufNameOf } from '../parameters.ts'
import { ViewRanges } from '../ranges.ts'
import type { ModelSource } from '../source.ts'

export interface KeptCodes {
  readonly view: Checkpoint
  /** Names of the tensors that keep their codes. */
  readonly kept: readonly string[]
}

/** `view` is the GGUF view of the restored `source`. */
export async function withKeptCodes(
  view: Checkpoint,
  source: ModelSource,
  type: KeptType,
  kernels?: QuantizerKernels,
): Promise<KeptCodes> {
  const tensors = new Map(view.tensors)
  const ranges = new ViewRanges(view.read)
  const kept: string[] = []
  for (const [index, { parameter, names }] of source.parameters.entries()) {
    const scheme = await source.schemeOf(index)
    const name = ggufNameOf(names)
    const tensor = tensors.get(name)
    if (!scheme || !tensor || !canReExpress(scheme, parameter.shape, type)) continue
    const blocks = blocksOf(tensor, type)
    tensors.set(name, blocks)
    const compute = async () => {
      const stored = await source.load(index, kernels)
      const found = reExpress(fromGraph(names.ggufOp, stored), type)
      if (!found)
        throw new UnsupportedError(`Cannot write "${name}" as ${type}: a scale leaves the range of float16`, {
          tensor: name,
          hint: 'convert to float first, and quantise that',
        })
      return blockBytes(type, found.weight, kernels)
    }
    ranges.set(name, ranges.whole(blocks, compute))
    kept.push(name)
  }
  return { kept, view: { ...view, tensors, read: ranges.read } }
}

function blocksOf(tensor: StoredTensor, type: KeptType): StoredTensor {
  const byteLength = (elementCount(tensor.shape) / AFFINE_BLOCK_SIZE) * affineBlockBytes(type)
  return { ...tensor, dtype: type, byteLength }
}
