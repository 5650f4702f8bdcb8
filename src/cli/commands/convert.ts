// `fewbit convert MODEL --to TARGET -o OUT`: a float folder or a GGUF file of any model that fewbit reads.
import { isFilePath } from '../../api/location.ts'
import { openQuantizers } from '../../backends/index.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { UsageError } from '../../core/errors.ts'
import { convertModel, parseTarget } from '../../quantize/convert.ts'
import { command } from '../command.ts'
import { asUsage, RUN_OPTIONS } from '../options.ts'
import { modelPath } from '../paths.ts'
import { deviceOf, openSource } from '../session.ts'
import { describeResult, OUTPUT_OPTIONS } from './quantize.ts'

export default command({
  summary: 'a float folder, or a GGUF file, of any model that fewbit reads',
  arguments: [
    { name: '<model>', description: 'a folder in Hugging Face form (quantised or not), a .gguf file, or "embedded"' },
  ],
  options: [
    { flags: '--to <target>', description: 'float:bf16, float:f16, float:f32, or gguf:TYPE (f16, q8_0, q4_k_m, ...)' },
    ...OUTPUT_OPTIONS,
    ...RUN_OPTIONS,
  ],
  passUnknown: true,
  examples: [
    'fewbit convert embedded --to gguf:bf16 -o embedded.gguf',
    'fewbit convert embedded.gguf --to float:bf16 -o embedded-float',
    'fewbit convert embedded --to float:f32 -o embedded-f32',
  ],
  async run({ args, options, output, signal, unknown }) {
    if (!options.to) throw new UsageError('--to is missing: what to convert to', { hint: 'fewbit convert --help' })
    const target = asUsage(() => parseTarget(String(options.to), unknown))
    const out = options.out as string | undefined
    if (!out) throw new UsageError('-o OUT is missing: where to write', { hint: 'fewbit convert --help' })
    const source = await openSource(args[0]!, output)
    try {
      const single = isFilePath(out, target.kind === 'gguf' ? 'gguf' : 'safetensors')
      const store = await outputStore(out, { force: Boolean(options.force), single, source: modelPath(args[0]!) })
      const { device, threads } = deviceOf(options)
      const result = await convertModel(source, target, store, {
        maxShardBytes: options.maxShardSize as number | undefined,
        kernels: await openQuantizers(device, { threads, signal }),
        signal,
        onEvent: output.event,
      })
      output.result({ ...result }, describeResult(result, result.out, target.kind === 'gguf'))
    } finally {
      await source.checkpoint.close()
    }
  },
})
