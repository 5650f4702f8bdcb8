// Compares a float model with its quantised variants: each is made, written, opened again from its file, and measured.
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { calibrationFor } from '../api/calibration.ts'
import { isFilePath } from '../api/location.ts'
import { prepareModel } from '../api/prepare.ts'
import { tokenizerOf } from '../api/tokenizer.ts'
import { openQuantizers } from '../backends/index.ts'
import type { Executable } from '../backends/types.ts'
import { outputStore } from '../checkpoint/node/output.ts'
import { FileError } from '../core/errors.ts'
import { evaluateDivergence } from '../evaluate/divergence.ts'
import { evaluatePerplexity } from '../evaluate/perplexity.ts'
import { planWindows, type Window } from '../evaluate/recipes.ts'
import { idsForRecipe } from '../evaluate/text.ts'
import { generate } from '../generate/generate.ts'
import { blockMethod } from '../methods/calibration.ts'
import { methodNamed } from '../methods/index.ts'
import type { MethodFlags } from '../methods/types.ts'
import type { ModelSource } from '../models/source.ts'
import { quantizeModel } from '../quantize/quantize.ts'
import type { Tokenizer } from '../text/types.ts'
import { machineName } from './machine.ts'
import { measureSpeed } from './measure.ts'
import type { Output } from './output.ts'
import { CALIBRATION_CHATS, EVALUATION_TEXT, packageVersion } from './paths.ts'
import { reportHtml } from './report/html.ts'
import type { Comparison, ComparisonRow } from './report/types.ts'
import { generationModel, openSource } from './session.ts'

export interface Variant {
  readonly name: string
  readonly method: string
  readonly flags: MethodFlags
  /** Folder, or file where it ends in .gguf. */
  readonly file: string
  /** Calibration samples at most, of a method that needs data: a comparison is to end while one waits. */
  readonly samples?: number
}

export const DEMO_VARIANTS: readonly Variant[] = [
  { name: 'GGUF Q8_0', method: 'gguf', flags: { type: 'q8_0' }, file: 'q8_0.gguf' },
  { name: 'LLM.int8', method: 'bitsandbytes', flags: { bits: 8 }, file: 'int8' },
  { name: 'GGUF Q4_K_M', method: 'gguf', flags: { type: 'q4_k_m' }, file: 'q4_k_m.gguf' },
  { name: 'GGUF Q4_0', method: 'gguf', flags: { type: 'q4_0' }, file: 'q4_0.gguf' },
  { name: 'NF4', method: 'bitsandbytes', flags: { bits: 4 }, file: 'nf4' },
  { name: 'HQQ 4 bit', method: 'hqq', flags: { bits: 4, groupSize: 64 }, file: 'hqq-4' },
  { name: 'HQQ 3 bit', method: 'hqq', flags: { bits: 3, groupSize: 64 }, file: 'hqq-3' },
  { name: 'HQQ 2 bit', method: 'hqq', flags: { bits: 2, groupSize: 16 }, file: 'hqq-2' },
  { name: 'EETQ', method: 'eetq', flags: {}, file: 'eetq' },
  { name: 'Quanto int8', method: 'quanto', flags: { bits: 8 }, file: 'quanto-int8' },
  { name: 'Quanto int4', method: 'quanto', flags: { bits: 4 }, file: 'quanto-int4' },
  { name: 'AWQ 4 bit', method: 'awq', flags: { bits: 4, groupSize: 64 }, file: 'awq', samples: 32 },
  {
    name: 'AQLM 2x8',
    method: 'aqlm',
    flags: { numCodebooks: 2, nbitsPerCodebook: 8 },
    file: 'aqlm-2x8',
    samples: 32,
  },
]

export interface ComparisonRequest {
  readonly model: string
  readonly folder: string
  readonly windows: number
  readonly variants: readonly Variant[]
  readonly device: string
  readonly threads: number
  readonly output: Output
  readonly signal: AbortSignal
}

const MARKER = '.fewbit-demo'
const PROMPT = 'Once upon a time'
const SAMPLE_TOKENS = 40

/** An empty folder of the demo's own; another folder of that name is never touched. */
async function ownFolder(folder: string): Promise<void> {
  if (existsSync(folder) && !existsSync(join(folder, MARKER))) {
    throw new FileError(`Cannot write "${folder}": it exists and was not made by the demo`, {
      file: folder,
      hint: 'choose another folder with -o',
    })
  }
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, MARKER), 'Made by "fewbit demo"; replaced by the next one.\n')
}

/** What all rows share. */
interface Bench {
  readonly tokenizer: Tokenizer
  readonly windows: readonly Window[]
  readonly float: ModelSource
  readonly baseline: Executable
  readonly request: ComparisonRequest
}

/** Sizes of a stored model: bytes of its tensors and bits a weight of the model. */
function sizeOf(source: ModelSource, weights: number): { sizeBytes: number; bitsPerWeight: number } {
  let sizeBytes = 0
  for (const tensor of source.checkpoint.tensors.values()) sizeBytes += tensor.byteLength
  return { sizeBytes, bitsPerWeight: (sizeBytes * 8) / weights }
}

function weightCount(source: ModelSource): number {
  return source.graph.parameters.reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0)
}

/** Measures one model; speed with the kernels that `run` uses, quality exactly. */
async function measureRow(
  name: string,
  method: string,
  source: ModelSource,
  quantizeMs: number | null,
  bench: Bench,
): Promise<ComparisonRow> {
  const { device, threads, signal } = bench.request
  const model =
    method === 'float' ? bench.baseline : await prepareModel(source, { device, threads, precision: 'exact', signal })
  const vocabulary = source.config.vocabSize
  const work = { signal, kernels: await openQuantizers(device, { threads, signal }) }
  const quality =
    method === 'float'
      ? { ...(await evaluatePerplexity(model, bench.windows, vocabulary, work)), kl: 0, top1: 1 }
      : await evaluateDivergence(bench.baseline, model, bench.windows, vocabulary, work).then((d) => ({
          ...d.model,
          kl: d.meanDivergence,
          top1: d.topAgreement,
        }))
  if (method !== 'float') model.dispose()
  // Dense weights run the same kernels either way.
  const fast =
    method === 'float' ? bench.baseline : await prepareModel(source, { device, threads, precision: 'fast', signal })
  const speed = await measureSpeed(fast, source.config, { prompt: 128, tokens: 32, repeat: 3, signal })
  const ids = bench.tokenizer.encode(PROMPT)
  const text = { ...(await generationModel(bench.float, fast, bench.request.output)), tokenizer: bench.tokenizer }
  const [{ ids: all }] = await generate(text, [ids], { maxNewTokens: SAMPLE_TOKENS, doSample: false })
  if (method !== 'float') fast.dispose()
  const sample = bench.tokenizer.decode(all.slice(ids.length), { skipSpecialTokens: true })
  return {
    name,
    method,
    ...sizeOf(source, weightCount(source)),
    perplexity: quality.perplexity,
    kl: quality.kl,
    top1: quality.top1,
    quantizeMs,
    ...speed,
    sample,
  }
}

async function variantRow(variant: Variant, float: ModelSource, bench: Bench): Promise<ComparisonRow> {
  const { device, threads, output, signal, folder } = bench.request
  const method = methodNamed(variant.method)
  const out = join(folder, variant.file)
  const store = await outputStore(out, { force: false, single: isFilePath(out, method.container) })
  const kernels = await openQuantizers(device, { threads, signal })
  const config = method.parseConfig(method.fromFlags(variant.flags))
  const data = blockMethod(method, config) ? { file: CALIBRATION_CHATS, samples: variant.samples } : undefined
  const calibration = await calibrationFor(float, method, config, data, { device, threads, signal })
  const { elapsedMs } = await quantizeModel(float, method, config, store, { kernels, calibration, signal })
  const source = await openSource(out, output)
  try {
    return await measureRow(variant.name, variant.method, source, elapsedMs, bench)
  } finally {
    await source.checkpoint.close()
  }
}

/** Runs the whole comparison and writes `report.html` into the folder. */
export async function compareVariants(request: ComparisonRequest): Promise<{ comparison: Comparison; report: string }> {
  const { output, signal, device, threads } = request
  await ownFolder(request.folder)
  const float = await openSource(request.model, output)
  const tokenizer = await tokenizerOf(float.checkpoint.files)
  const { ids, bosId } = idsForRecipe(
    'windows',
    await readFile(EVALUATION_TEXT, 'utf8'),
    tokenizer,
    tokenizer.specialIds.eos,
  )
  const windows = planWindows('windows', ids, float.config.maxPositions, { bosId }).slice(0, request.windows)
  const baseline = await prepareModel(float, { device, threads, precision: 'exact', signal })
  const bench = { tokenizer, windows, float, baseline, request }
  const total = request.variants.length + 1
  const progress = (done: number, model: string) =>
    output.event({ event: 'progress', name: 'demo', done, total, unit: 'models', model })
  progress(0, 'float')
  const rows = [await measureRow('float', 'float', float, null, bench)]
  for (const [i, variant] of request.variants.entries()) {
    signal.throwIfAborted()
    progress(i + 1, variant.name)
    rows.push(await variantRow(variant, float, bench))
  }
  baseline.dispose()
  await float.checkpoint.close()
  const comparison: Comparison = {
    model: request.model === 'embedded' ? 'stories-7m' : request.model,
    prompt: PROMPT,
    text: 'eval.txt',
    tokens: windows.reduce((sum, w) => sum + w.counted, 0),
    machine: machineName(),
    device,
    threads,
    date: new Date().toISOString().slice(0, 10),
    version: packageVersion(),
    rows,
  }
  const report = join(request.folder, 'report.html')
  await writeFile(report, reportHtml(comparison))
  return { comparison, report }
}
