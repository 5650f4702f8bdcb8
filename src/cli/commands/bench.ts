// `fewbit bench MODEL`: prompt and decode speed, load time and peak memory on this machine. Makes its own ids: no tokenizer is needed.
import { prepareModel } from '../../api/prepare.ts'
import { counted } from '../../core/counted.ts'
import { command } from '../command.ts'
import { machineName } from '../machine.ts'
import { measureSpeed } from '../measure.ts'
import { PRECISION_OPTIONS, precisionOf, RUN_OPTIONS, wholeNumber } from '../options.ts'
import { formatBytes } from '../progress.ts'
import { deviceOf, openSource } from '../session.ts'

export default command({
  summary: 'prompt and decode speed, load time and memory on this machine',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [
    { flags: '--prompt <n>', description: 'tokens of the prompt', parse: wholeNumber('prompt', 1), default: 128 },
    { flags: '--tokens <n>', description: 'tokens to decode', parse: wholeNumber('tokens', 1), default: 64 },
    {
      flags: '--repeat <n>',
      description: 'measure this often; the best counts',
      parse: wholeNumber('repeat', 1),
      default: 3,
    },
    ...PRECISION_OPTIONS,
    ...RUN_OPTIONS,
  ],
  examples: ['fewbit bench embedded', 'fewbit bench embedded --threads 1 --prompt 64 --tokens 32 --json'],
  async run({ args, options, output, signal }) {
    const { device, threads } = deviceOf(options)
    const started = performance.now()
    const source = await openSource(args[0]!, output)
    const model = await prepareModel(source, {
      device,
      threads,
      precision: precisionOf(options, 'fast'),
      onEvent: output.event,
      signal,
    })
    const loadMs = performance.now() - started
    const speed = await measureSpeed(model, source.config, {
      prompt: options.prompt as number,
      tokens: options.tokens as number,
      repeat: options.repeat as number,
      signal,
    })
    await source.checkpoint.close()
    const { weightBytes, cacheBytes } = model.memory()
    const peakMemoryBytes = process.resourceUsage().maxRSS * 1024
    const fields = {
      threads,
      device,
      ...speed,
      loadMs,
      peakMemoryBytes,
      weightBytes,
      cacheBytes,
      machine: machineName(),
    }
    model.dispose()
    output.result(
      fields,
      [
        `prompt ${options.prompt}: ${speed.prefillTokensPerSecond.toFixed(1)} tok/s   decode ${options.tokens}: ${speed.decodeTokensPerSecond.toFixed(1)} tok/s`,
        `load ${(loadMs / 1000).toFixed(2)} s   weights ${formatBytes(weightBytes)}   peak memory ${formatBytes(peakMemoryBytes)}`,
        `${device}, ${counted(threads, 'thread')}; ${machineName()}`,
      ].join('\n'),
    )
  },
})
