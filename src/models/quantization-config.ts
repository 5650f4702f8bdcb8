// Which method a checkpoint is quantised with: quantization_config of config.json, or the container itself.
import { readText } from '../checkpoint/open.ts'
import type { Checkpoint, FileSet } from '../checkpoint/types.ts'
import { ConfigError, UnsupportedError } from '../core/errors.ts'
import { isJsonObject, type JsonObject, parseJsonObject } from '../core/json.ts'
import { methods } from '../methods/index.ts'
import type { Method } from '../methods/types.ts'

export interface StoredMethod {
  readonly method: Method
  /** As the method's parseConfig gives it. */
  readonly config: unknown
}

/** The method of a folder in Hugging Face form; undefined where it is float. Throws ConfigError or UnsupportedError. */
export async function methodOfFolder({ files, config, tensors }: Checkpoint): Promise<StoredMethod | undefined> {
  const given = config?.quantization_config ?? undefined
  if (given !== undefined && !isJsonObject(given))
    throw new ConfigError('Cannot read config.json: "quantization_config" is not an object', {
      key: 'quantization_config',
    })
  const found = given && registered(methodName(given))
  for (const method of methods()) {
    if (!method.marker || (found && found !== method)) continue
    const { file, parse } = method.marker
    const stored = (await files.has(file))
      ? parse(parseJsonObject(await readText(files, file), file), given)
      : undefined
    if (stored) return { method, config: method.parseConfig(stored) }
  }
  if (found) return { method: found, config: found.parseConfig(given) }
  for (const method of methods()) {
    const stored = config && method.configOfTensors?.(tensors)
    if (stored) return { method, config: method.parseConfig(stored) }
  }
  return undefined
}

/** Files that mark a folder as quantised: they belong to weights as its method stores them. */
export function markerFiles(): string[] {
  return methods().flatMap(({ marker }) => (marker ? [marker.file] : []))
}

/** The files of a folder whose weights are seen as floats: nothing marks it as quantised. */
export function withoutMarkers(files: FileSet): FileSet {
  const markers = new Set(markerFiles())
  return {
    name: files.name,
    single: files.single,
    list: async () => (await files.list()).filter((name) => !markers.has(name)),
    has: async (name) => !markers.has(name) && files.has(name),
    open: (name) => files.open(name),
    folder: files.folder && ((name) => files.folder!(name)),
  }
}

/** Files of bitsandbytes from before `quant_method` existed say only how they were loaded. */
function methodName(stored: JsonObject): string {
  if (typeof stored.quant_method === 'string') return stored.quant_method
  if (stored.load_in_4bit === true || stored.load_in_8bit === true) return 'bitsandbytes'
  throw new ConfigError('Cannot read config.json: "quantization_config" has no "quant_method"', {
    key: 'quant_method',
    expected: methods().map((m) => m.name),
  })
}

function registered(name: string): Method {
  const found = methods().find((method) => method.name === name)
  if (found) return found
  const known = methods().map((m) => m.name)
  throw new UnsupportedError(`Cannot open a model quantised with "${name}": fewbit has ${known.join(', ')}`, {
    method: name,
    known,
    hint: 'fewbit methods',
  })
}

/** The GGUF method where the file holds any block type; undefined where all tensors are float. */
export function methodOfGguf(checkpoint: Checkpoint): StoredMethod | undefined {
  const floats = ['F32', 'F16', 'BF16', 'F64']
  if ([...checkpoint.tensors.values()].every((t) => floats.includes(t.dtype))) return undefined
  const method = registered('gguf')
  return { method, config: method.parseConfig({ quant_method: 'gguf' }) }
}
