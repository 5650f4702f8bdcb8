// `fewbit imatrix MODEL --calibration FILE -o imatrix.gguf`: what GGUF quantisation weighs its errors with.
import { readCalibrationAt } from '../../api/calibration.ts'
import { makeImatrix } from '../../api/imatrix.ts'
import { tokenizerOf } from '../../api/tokenizer.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { UsageError } from '../../core/errors.ts'
import { CALIBRATION_OPTIONS } from '../calibration.ts'
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
  examples: ['fewbit imatrix embedded --calibration models/data/eval.txt --calibration-samples 4 -o out-imatrix.gguf'],
  async run({ args, options, output, signal }) {
    if (options.calibration === undefined)
      throw new UsageError('--calibration is missing: an importance matrix is collected from a text', {
        flag: 'calibration',
        hint: '--calibration FILE (.txt, .json, .jsonl or .parquet)',
      })
    const out = String(options.out)
    const source = await openSource(args[0]!, output)
    try {
      const dataset = String(options.calibration)
      const file = await readCalibrationAt(dataset)
      const store = await outputStore(out, { force: Boolean(options.force), single: true, source: modelPath(args[0]!) })
      const result = await makeImatrix(source, file, await tokenizerOf(source.checkpoint.files), store, {
        ...deviceOf(options),
        dataset,
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
