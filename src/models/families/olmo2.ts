import { UnsupportedError } from '../../core/errors.ts'
import type { PlainObject } from '../../core/json.ts'
import { decoderFamily } from '../decoder/index.ts'
import type { GgufHeader } from '../gguf/profile.ts'

/** Files with windows are OLMo 3's, whose ropes differ by layer. */
function refuseWindows({ number, checkpoint, architecture }: GgufHeader): PlainObject {
  if (!number('attention.sliding_window')) return {}
  throw new UnsupportedError(`Cannot run "${checkpoint.files.name}": an ${architecture} file with windows is OLMo 3`, {
    file: checkpoint.files.name,
    key: `${architecture}.attention.sliding_window`,
  })
}

/** OLMo 2: norms come after each branch, and q and k are normed over the whole projection. */
export const olmo2 = decoderFamily({
  modelTypes: ['olmo2'],
  className: 'Olmo2ForCausalLM',
  gguf: { architecture: 'olmo2', read: refuseWindows },
  traits: {
    vocabSize: 50304,
    intermediateSize: 11008,
    maxPositions: 2048,
    normEps: 1e-5,
    attentionBias: 'config',
    placement: 'after',
    qkNorm: 'full',
  },
})
