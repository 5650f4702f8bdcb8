// Opening a model: files -> checkpoint -> source, quantised on the way where that is asked for. Nothing is computed yet.
import { openCheckpoint, readText } from '../checkpoint/open.ts'
import type { ByteSource } from '../checkpoint/types.ts'
import { type FloatDType, isFloat, TORCH_DTYPES } from '../core/dtypes.ts'
import { ConfigError, UnsupportedError } from '../core/errors.ts'
import type { WorkOptions } from '../core/events.ts'
import { type PlainObject, parseJsonObject, toPlain } from '../core/json.ts'
import type { GenerationSettings } from '../generate/config.ts'
import { blockMethod } from '../methods/calibration.ts'
import type { QuantizationConfig } from '../methods/configs.ts'
import { castSource } from '../models/cast.ts'
import { ggufView } from '../models/gguf/view.ts'
import { type ModelSource, modelInfo, modelSource, quantizedOnTheFly, tensorInfos } from '../models/source.ts'
import { untiedFor } from '../models/untied.ts'
import { filesAt, type ModelLocation, openPath } from './location.ts'

export interface OpenOptions {
  /** Quantises a float model while it is loaded. */
  readonly quantizationConfig?: QuantizationConfig
  /** Casts floats first: `float32`, `float16`, `bfloat16`. */
  readonly dtype?: string
}

/** A model's source with what was found on the way. `source.checkpoint.close()` ends it. */
export interface OpenedModel {
  readonly source: ModelSource
  readonly warnings: readonly string[]
}

/** The model at a path or in files, as it is stored. Throws FileError, ConfigError or UnsupportedError. */
export async function openModel(
  location: ModelLocation,
  options: OpenOptions & WorkOptions = {},
): Promise<ModelSource> {
  const checkpoint = await openCheckpoint(await filesAt(location, options))
  try {
    const source = await modelSource(checkpoint)
    return options.dtype === undefined ? source : await castSource(source, floatDtype(options.dtype))
  } catch (e) {
    await checkpoint.close()
    throw e
  }
}

/** `float16` or `F16` -> `F16`. Throws ConfigError. */
export function floatDtype(name: string): FloatDType {
  const dtype = TORCH_DTYPES[name] ?? name
  if (isFloat(dtype)) return dtype
  const expected = ['float32', 'float16', 'bfloat16']
  throw new ConfigError(`dtype is "${name}", expected ${expected.join(', ')}`, { key: 'dtype', actual: name, expected })
}

/**
 * The source with `config` applied: a float model is quantised as it is loaded; a model that this method has quantised already keeps
 * its own config, with a warning. `open` opens the files that the config names. Throws UnsupportedError where another method has.
 */
export async function withQuantization(
  source: ModelSource,
  config: QuantizationConfig,
  open: (path: string) => Promise<ByteSource> = openPath,
): Promise<OpenedModel> {
  const { method } = config
  if (source.method) return checkSameMethod(source, source.method.name, config)
  const parsed = config.parse()
  if (blockMethod(method, parsed))
    throw new UnsupportedError(
      `${method.name} cannot quantise while loading: it works through calibration data first`,
      {
        method: method.name,
        hint: 'quantizePretrained(model, out, config, { calibration: { file } }), or fewbit quantize',
      },
    )
  const loaded = method.loadFiles ? await method.loadFiles(parsed, open) : parsed
  const isView = method.container === 'gguf' && source.checkpoint.format !== 'gguf'
  const own = method.floatDtype ? await castSource(source, method.floatDtype) : source
  const target = isView ? await modelSource(await ggufView(source)) : await untiedFor(own, method, loaded)
  const { infos } = tensorInfos(target)
  const plan = method.plan(infos, { ...modelInfo(target), container: source.checkpoint.format }, loaded)
  const warnings = [...new Set([...source.warnings, ...plan.warnings])]
  return { source: { ...quantizedOnTheFly(target, method, plan), methodConfig: loaded }, warnings }
}

function checkSameMethod(source: ModelSource, stored: string, { method }: QuantizationConfig): OpenedModel {
  const { name } = source.checkpoint.files
  if (stored !== method.name)
    throw new UnsupportedError(`"${name}" is quantised with ${stored}, but a ${method.configClass} was given`, {
      file: name,
      method: stored,
      hint: 'leave quantizationConfig out, or start from the float original',
    })
  const warning = `"${name}" is quantised already: its own config is used, the given ${method.configClass} is not`
  return { source, warnings: [...source.warnings, warning] }
}

/** generation_config.json, or what config.json or a GGUF file's key-values say, as settings; a warning for each key that cannot be followed. */
export async function generationDefaults(
  source: ModelSource,
): Promise<{ settings: GenerationSettings; warnings: string[] }> {
  const { files, format, metadata } = source.checkpoint
  const { readGenerationConfig } = await import('../generate/config.ts')
  const name = 'generation_config.json'
  const isFile = files.single?.endsWith('.gguf') ?? false // its neighbours may belong to another model
  if (!isFile && (await files.has(name)))
    return readGenerationConfig(toPlain(parseJsonObject(await readText(files, name), name)) as PlainObject)
  const found = readGenerationConfig(toPlain(source.configJson) as PlainObject)
  if (format !== 'gguf' || !metadata.has('tokenizer.ggml.tokens')) return found
  const { ggufEndIds } = await import('../text/gguf-vocabulary.ts')
  const ends = ggufEndIds(metadata, files.name)
  return ends.length > 0 ? { ...found, settings: { ...found.settings, eosTokenId: ends } } : found
}
