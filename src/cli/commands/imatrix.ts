// `fewbit imatrix MODEL --calibration FILE -o imatrix.gguf`: what GGUF quantisation weighs its errors with.
import { readCalibrationAt } from '../../api/calibration.ts'
import { makeImatrix } from '../../api/imatrix.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { CALIBRATION_OPTIONS, embeddedChats } from '../calibration.ts'
import { command } from '../command.ts'
import { RUN_OPTIONS } from '../options.ts'
import { modelPath } from '../paths.ts'
import { deviceOf, openSource } from '../session.ts'

export default command({
  summary: 'how much each input column matters, for GGUF quantisation with --imatrix',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [
    ...CALIBRATION_OPTIONS.filter(({ flags }) => !flags.startsWith('--truncate')),
    { flags: '-o, --out <path>', description: 'where to write (default imatrix.gguf)', default: 'imatrix.gguf' },
    { flags: '--force', description: 'replace what is there' },
    ...RUN_OPTIONS,
  ],
  examples: ['fewbit imatrix embedded --calibration-samples 16 -o out-imatrix.gguf'],
  async run({ args, options, output, signal }) {
    const out = String(options.out)
    const source = await openSource(args[0]!, output)
    try {
      const given = options.calibration as string | undefined
      const file = await readCalibrationAt(given ?? (await embeddedChats(source, 'an importance matrix', output)))
      const store = await outputStore(out, { force: Boolean(options.force), single: true, source: modelPath(args[0]!) })
      const result = await makeImatrix(source, file, store, {
        ...deviceOf(options),
        dataset: given ?? file.name,
        length: options.calibrationLength as number | undefined,
        samples: options.calibrationSamples as number | undefined,
        memoryBytes: options.memory as number | undefined,
        onEvent: output.event,
        signal,
      })
      const { entries, chunks, chunkSize } = result
      output.result(
        { out, entries: entries.length, chunks, chunkSize },
        `${out}: ${entries.length} tensors, ${chunks} chunks of ${chunkSize} tokens`,
      )
    } finally {
      await source.checkpoint.close()
    }
  },
})
