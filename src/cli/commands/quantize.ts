// `fewbit quantize MODEL --method M -o OUT`: parses the method's flags, plans, and runs the streaming engine.
import { readFile } from 'node:fs/promises'
import { calibrationFor } from '../../api/calibration.ts'
import { isFilePath, openPath } from '../../api/location.ts'
import { floatDtype } from '../../api/open.ts'
import { openQuantizers } from '../../backends/index.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { counted } from '../../core/counted.ts'
import { UsageError } from '../../core/errors.ts'
import { type JsonObject, parseJsonObject } from '../../core/json.ts'
import { methodNamed, methods } from '../../methods/index.ts'
import type { Method, MethodFlags } from '../../methods/types.ts'
import type { ModelSource } from '../../models/source.ts'
import { type QuantizeOptions, type QuantizeResult, quantizeModel } from '../../quantize/quantize.ts'
import { CALIBRATION_OPTIONS, calibrationRequest } from '../calibration.ts'
import { command, type UndeclaredFlags } from '../command.ts'
import { asUsage, byteSize, number, RUN_OPTIONS } from '../options.ts'
import { modelPath } from '../paths.ts'
import { formatBytes, formatSeconds } from '../progress.ts'
import { deviceOf, openSource } from '../session.ts'

/** Reads `--config`: a file, or JSON text. */
async function readConfig(given: string): Promise<JsonObject> {
  if (given.trimStart().startsWith('{')) return parseJsonObject(given, '--config')
  return parseJsonObject(
    await readFile(given, 'utf8').catch(() => {
      throw new UsageError(`--config "${given}" is neither a readable file nor JSON text`, { flag: 'config' })
    }),
    given,
  )
}

/** The method and its `quantization_config`, from `--config` or from the shorthand flags. */
async function methodOf(
  options: Readonly<Record<string, unknown>>,
  unknown: UndeclaredFlags,
): Promise<{ method: Method; stored: JsonObject; config: unknown }> {
  const given = options.config !== undefined ? await readConfig(String(options.config)) : undefined
  const name = options.method ?? given?.quant_method
  if (typeof name !== 'string') throw new UsageError('--method is missing', { hint: 'fewbit methods' })
  const method = methodNamed(name)
  const { bits, groupSize, type } = options
  const flags: MethodFlags = Object.fromEntries(
    Object.entries({ ...unknown, bits, groupSize: groupSizeOf(groupSize), type }).filter(([, v]) => v !== undefined),
  )
  if (given) {
    const [flag] = Object.keys(flags)
    if (flag !== undefined)
      throw new UsageError(`--config says all of the method's settings: "${flag}" cannot be given beside it`, {
        flag,
        hint: 'put it into the config, or leave --config out',
      })
    return { method, stored: given, config: method.parseConfig(given) }
  }
  return asUsage(() => {
    const stored = method.fromFlags(flags)
    return { method, stored, config: method.parseConfig(stored) }
  })
}

function groupSizeOf(given: unknown): number | null | undefined {
  if (given === undefined) return undefined
  return given === 'none' ? null : number('group-size', 1)(String(given))
}

export const METHOD_OPTIONS = [
  {
    flags: '--method <name>',
    description: `${methods()
      .map(({ name }) => name)
      .join(', ')} (fewbit methods NAME: the options of each)`,
  },
  { flags: '--bits <n>', description: 'bits a weight, where the method asks for them', parse: number('bits', 1, 16) },
  { flags: '--group-size <n>', description: 'weights that share a scale; "none" for a whole row' },
  { flags: '--type <name>', description: 'the type of the method: q4_k_m, nf4, ...' },
  { flags: '--config <file-or-json>', description: 'a quantization_config exactly as in a config.json' },
] as const

/** The method with its parsed config, and the files read that the config names (an importance matrix). */
export async function parsedMethod(
  options: Readonly<Record<string, unknown>>,
  unknown: UndeclaredFlags,
): Promise<{ method: Method; stored: JsonObject; config: unknown }> {
  const { method, stored, config } = await methodOf(options, unknown)
  return { method, stored, config: method.loadFiles ? await method.loadFiles(config, openPath) : config }
}

export const OUTPUT_OPTIONS = [
  { flags: '-o, --out <path>', description: 'where to write: a folder, a file ending in .gguf, or (llm-awq) in .pt' },
  { flags: '--force', description: 'replace what is there' },
  {
    flags: '--max-shard-size <size>',
    description: 'split the weights into files of this size',
    parse: byteSize('max-shard-size'),
  },
] as const

/** What the flags say about the work besides the method. */
export async function quantizeOptions(
  _source: ModelSource,
  _method: Method,
  options: Readonly<Record<string, unknown>>,
): Promise<QuantizeOptions> {
  return {
    dtype: options.dtype === undefined ? undefined : floatDtype(String(options.dtype)),
    maxShardBytes: options.maxShardSize as number | undefined,
  }
}

/** What a result says to people; `quantizes`: what is kept is worth a word. */
export function describeResult(result: QuantizeResult, out: string, quantizes = true): string {
  const reasons = new Map<string, string[]>()
  for (const { name, reason } of result.skipped) reasons.set(reason, [...(reasons.get(reason) ?? []), name])
  const seconds = formatSeconds(result.elapsedMs / 1000)
  if (!quantizes) return `${out}: ${formatBytes(result.sizeBytes)}, written in ${seconds}`
  const skipped = [...reasons].map(
    ([reason, names]) =>
      `  kept as it is: ${names.length === 1 ? names[0] : counted(names.length, 'tensor')} (${reason})`,
  )
  return [
    `${out}: ${formatBytes(result.sizeBytes)}, ${result.bitsPerWeight.toFixed(2)} bits a weight, ${counted(result.quantized, 'tensor')} quantised in ${seconds}`,
    ...skipped,
  ].join('\n')
}

export default command({
  summary: "make a model smaller, in the files of the method's own ecosystem",
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [
    ...METHOD_OPTIONS,
    ...OUTPUT_OPTIONS,
    { flags: '--dtype <name>', description: 'cast floats first: float32, float16, bfloat16' },
    ...CALIBRATION_OPTIONS,
    ...RUN_OPTIONS,
  ],
  passUnknown: true,
  examples: [
    'fewbit quantize embedded --method bitsandbytes --bits 4 -o out-nf4',
    'fewbit quantize embedded --method hqq --bits 4 --group-size 64 -o out-hqq',
    'fewbit quantize embedded --method gguf --type q4_k_m -o out.gguf',
  ],
  async run({ args, options, output, signal, unknown }) {
    const out = options.out as string | undefined
    if (!out)
      throw new UsageError('-o OUT is missing: where to write the quantised model', { hint: 'fewbit quantize --help' })
    const { method, config } = await parsedMethod(options, unknown)
    const single = isFilePath(out, method.container)
    const source = await openSource(args[0]!, output)
    try {
      const { device, threads } = deviceOf(options)
      const work = { device, threads, signal, onEvent: output.event }
      const request = await calibrationRequest(source, method, config, options, output)
      const store = await outputStore(out, { force: Boolean(options.force), single, source: modelPath(args[0]!) })
      const result = await quantizeModel(source, method, config, store, {
        ...(await quantizeOptions(source, method, options)),
        calibration: await calibrationFor(source, method, config, request, work),
        kernels: await openQuantizers(device, work),
        ...work,
      })
      output.result({ ...result }, describeResult(result, result.out))
    } finally {
      await source.checkpoint.close()
    }
  },
})
