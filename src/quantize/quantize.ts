// The verb: a float checkpoint in, a quantised one out, tensor by tensor. Results are written to a spool and assembled at the end,
// because a stored tensor's length may be known only after quantising (the quant_state of bitsandbytes).

import { type SafetensorsEntry, safetensorsHeader, safetensorsOrder } from '../checkpoint/safetensors.ts'
import type { OutputStore } from '../checkpoint/types.ts'
import { elementCount } from '../core/dtypes.ts'
import type { WorkOptions } from '../core/events.ts'
import { type JsonObject, writeJson } from '../core/json.ts'
import type { Method, NamedTensor, QuantizerKernels } from '../methods/types.ts'
import { type ModelSource, modelInfo, readTensor, tensorInfos } from '../models/source.ts'

export interface QuantizeResult {
  readonly sizeBytes: number
  readonly bitsPerWeight: number
  readonly quantized: number
  readonly skipped: readonly { name: string; reason: string }[]
  readonly warnings: readonly string[]
  readonly elapsedMs: number
}

export interface QuantizeOptions extends WorkOptions {
  readonly kernels?: QuantizerKernels
}

/** Files of the source that are copied as they are. */
const NOT_COPIED = /\.(safetensors|bin|pt|pth|gguf|ckpt)$|^config\.json$|\.index\.json$/

/** Quantises `source` with `method` into `output` (Hugging Face form, one shard). */
export async function quantizeModel(
  source: ModelSource,
  method: Method,
  config: unknown,
  output: OutputStore,
  options: QuantizeOptions = {},
): Promise<QuantizeResult> {
  const started = performance.now()
  const { infos, stored } = tensorInfos(source)
  const plan = method.plan(infos, modelInfo(source), config)
  for (const message of plan.warnings) options.onEvent?.({ event: 'warning', message })
  const spool = await output.create('spool')
  const entries: (SafetensorsEntry & { at: number; bytes: number })[] = []
  let at = 0
  let quantized = 0
  const total = stored.reduce((sum, t) => sum + t.byteLength, 0)
  let done = 0
  for (const [i, info] of infos.entries()) {
    options.signal?.throwIfAborted()
    const step = plan.tensors[i]
    let tensors: NamedTensor[]
    const tensor = await readTensor(source.checkpoint, info.name)
    if (step.action === 'quantize') {
      const weight = await method.quantize({
        name: info.name,
        tensor,
        settings: step.settings,
        kernels: options.kernels,
        warn: (message) => options.onEvent?.({ event: 'warning', message }),
      })
      tensors = await method.stored.write(info.name, weight, step.settings, options.kernels)
      quantized++
    } else tensors = [{ name: info.name, tensor }]
    for (const { name, tensor } of tensors) {
      await spool.write(tensor.data)
      entries.push({ name, dtype: tensor.dtype, shape: tensor.shape, at, bytes: tensor.data.byteLength })
      at += tensor.data.byteLength
    }
    done += stored[i].byteLength
    options.onEvent?.({ event: 'progress', name: 'quantize', done, total, unit: 'bytes', tensor: info.name })
  }
  await spool.close()
  const sizeBytes = await assemble(output, entries)
  await writeConfig(source, plan.storedConfig, output)
  await copyOthers(source, output)
  await output.commit()
  const weights = infos.reduce((sum, t) => sum + elementCount(t.shape), 0)
  const skipped = infos.flatMap((info, i) => {
    const step = plan.tensors[i]
    return step.action === 'keep' && step.reason ? [{ name: info.name, reason: step.reason }] : []
  })
  return {
    sizeBytes,
    bitsPerWeight: (at * 8) / weights,
    quantized,
    skipped,
    warnings: plan.warnings,
    elapsedMs: performance.now() - started,
  }
}

async function assemble(
  output: OutputStore,
  entries: (SafetensorsEntry & { at: number; bytes: number })[],
): Promise<number> {
  entries.sort(safetensorsOrder)
  const { header, total } = safetensorsHeader(entries, new Map([['format', 'pt']]))
  const spool = await output.reopen('spool')
  const file = await output.create('model.safetensors')
  await file.write(header)
  for (const entry of entries) await file.write(await spool.read(entry.at, entry.bytes))
  await file.close()
  await spool.close()
  await output.remove('spool')
  return total
}

async function writeConfig(
  source: ModelSource,
  quantizationConfig: JsonObject | null,
  output: OutputStore,
): Promise<void> {
  const config: JsonObject = { ...source.configJson }
  if (quantizationConfig) config.quantization_config = quantizationConfig
  const file = await output.create('config.json')
  await file.write(new TextEncoder().encode(`${writeJson(config)}\n`))
  await file.close()
}

async function copyOthers(source: ModelSource, output: OutputStore): Promise<void> {
  const { files } = source.checkpoint
  for (const name of await files.list()) {
    if (NOT_COPIED.test(name)) continue
    const from = await files.open(name)
    const to = await output.create(name)
    await to.write(await from.read(0, from.size))
    await to.close()
    await from.close()
  }
}
