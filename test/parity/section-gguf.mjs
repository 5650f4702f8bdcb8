// GGUF: files of every type against llama-quantize, with and without an importance matrix; their quality as fewbit runs them beside the gguf
// package's decoding of llama-quantize's own; logits in transformers and in llama.cpp.
import { spawnSync } from 'node:child_process'
import { readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fixed, scientific } from './report.mjs'
import { idSamples } from './section-aqlm.mjs'
import {
  drawing,
  fewbit,
  idsOf,
  logitDifferences,
  ourLogits,
  quality,
  quantized,
  run,
  TEXT,
  theirQuality,
  work,
} from './tools.mjs'

const LLAMA = 'llama.cpp (of llama-cpp-python 0.3.36)'
const TYPES = (
  'q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q2_k_s q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq2_m ' +
  'iq3_xxs iq3_xs iq3_s iq3_m iq4_nl iq4_xs tq1_0 tq2_0 mxfp4_moe q1_0 q2_0'
).split(' ')
/** Those whose quality is measured: of every family of blocks. */
const MEASURED = {
  without: ['q4_0', 'q4_k_m'],
  with: ['q2_k', 'q4_k_m', 'iq2_xxs'],
}
/** Architectures that transformers reads from a GGUF file. */
const READ = ['embedded', 'llama', 'qwen2', 'mistral']
/** Those whose file gives the size of the vocabulary only by its tokenizer, which a random model has not. */
const SIZELESS = ['qwen2']
const IN_TRANSFORMERS = ['q8_0', 'q4_0', 'q5_1', 'q4_k_m', 'q2_k', 'iq4_xs', 'iq3_s', 'f16']
const IN_LLAMA = ['f16', 'q8_0', 'q4_k_m', 'q2_k', 'iq4_xs']
/** Both decode blocks to float32: sums in another order. */
const EXACT = 1e-5
/** Root mean square, of the logits' deviation: ggml's products take activations of 8 bits and f16 sums of keys and values. */
const ROUNDED = 4e-2

const theirs = join(work, 'theirs.gguf')
const file = (model, name) => join(work, `gguf-${model.name}-${name}`)

/** The bf16 file and the importance matrix of a model, given to both sides: a file holds the matrix' path. */
function prepare(model, llama, draw) {
  const [source, matrix] = [file(model, 'source.gguf'), file(model, 'imatrix.gguf')]
  fewbit('quantize', model.path, '--method', 'gguf', '--type', 'bf16', '-o', source)
  if (model.name === 'embedded') {
    const chunks = ['-c', '512', '--chunks', '20', '-t', '1']
    run(join(llama, 'llama-imatrix'), ['-m', source, '-f', TEXT, '-o', matrix, ...chunks])
  } else {
    const data = ['--calibration', idSamples(model, draw), '--calibration-length', '64']
    fewbit('imatrix', model.path, ...data, '-o', matrix)
  }
  return { model, source, matrix }
}

const imatrixFlags = (matrix) => (matrix ? ['--imatrix', matrix] : [])

/** llama-quantize's file, or undefined where it refuses. */
function quantizedByLlama(llama, source, type, matrix) {
  rmSync(theirs, { force: true })
  const { status } = spawnSync(join(llama, 'llama-quantize'), [...imatrixFlags(matrix), source, theirs, type, '1'])
  return status === 0 ? theirs : undefined
}

function quantizedByUs({ source, model }, type, matrix) {
  const flags = ['--method', 'gguf', '--type', type, ...imatrixFlags(matrix)]
  try {
    return quantized({ path: source }, flags, `gguf-${model.name}.gguf`)
  } catch {
    return undefined
  }
}

/** The verdict on all models of a type: [ok, said]. */
function compareType(prepared, llama, type, withMatrix) {
  const verdicts = prepared.map((entry) => {
    const matrix = withMatrix ? entry.matrix : undefined
    const [ours, expected] = [quantizedByUs(entry, type, matrix), quantizedByLlama(llama, entry.source, type, matrix)]
    if (!ours && !expected) return 'refused by both'
    if (!ours) return 'refused by fewbit'
    if (!expected) return 'refused by llama-quantize'
    return readFileSync(ours).equals(readFileSync(expected)) ? 'equal' : 'differs'
  })
  const ok = verdicts.every((verdict) => verdict === 'equal' || verdict === 'refused by both')
  if (new Set(verdicts).size === 1)
    return [ok, verdicts.length > 1 ? verdicts[0].replace('equal', `${verdicts.length} equal`) : verdicts[0]]
  return [ok, verdicts.map((verdict, i) => `${prepared[i].model.name}: ${verdict}`).join('; ')]
}

function compareFiles({ report }, prepared, llama) {
  const models = prepared.map(({ model }) => model.name).join(', ')
  report.section('GGUF: files', `llama-quantize of ${LLAMA}, whole files byte for byte, of ${models}.`, [
    'type',
    'without importance matrix',
    'with one',
  ])
  for (const type of TYPES) {
    report.attempt(type, () => {
      const found = [false, true].map((withMatrix) => compareType(prepared, llama, type, withMatrix))
      report.row(
        found.every(([ok]) => ok),
        [type, ...found.map(([, said]) => said)],
      )
    })
  }
}

/** fewbit runs its file in float32; the package decodes llama-quantize's, transformers runs it. */
function compareQuality(context, [{ model, source, matrix }], llama) {
  const { report } = context
  const python = report.given('FEWBIT_PARITY_PYTHON', 'GGUF: quality')
  if (!python) return
  report.section(
    'GGUF: quality',
    `Files of llama-quantize, decoded by gguf 0.19.0 and run by transformers 5.23.0, beside fewbit's own.`,
    ['type', 'importance matrix', 'KL, fewbit', 'KL, package', 'perplexity, fewbit', 'perplexity, package'],
  )
  const cases = Object.entries(MEASURED).flatMap(([kind, types]) => types.map((type) => ({ kind, type })))
  const files = cases.map(({ kind, type }) => {
    const kept = file(model, `${kind}-${type}.gguf`)
    renameSync(quantizedByLlama(llama, source, type, kind === 'with' ? matrix : undefined), kept)
    return kept
  })
  const expected = theirQuality(python, 'gguf', files, context)
  cases.forEach(({ kind, type }, i) => {
    report.attempt(type, () => {
      const found = quality(quantizedByUs({ source, model }, type, kind === 'with' ? matrix : undefined), context)
      const { kl, perplexity } = expected[i]
      const ok = found.kl <= 1.03 * kl && found.perplexity <= 1.005 * perplexity
      report.row(ok, [type, kind, ...[found.kl, kl, found.perplexity, perplexity].map(fixed)])
    })
  })
}

/** Root mean square of the differences in units of the standard deviation of the expected values. */
function deviation(ours, expected) {
  const mean = expected.reduce((a, b) => a + b, 0) / expected.length
  const variance = expected.reduce((a, b) => a + (b - mean) ** 2, 0)
  return Math.sqrt(expected.reduce((a, b, i) => a + (b - ours[i]) ** 2, 0) / variance)
}

function inLlama({ report, embedded }, llama, type) {
  const path = quantized(embedded, ['--method', 'gguf', '--type', type], `llama-${type}.gguf`)
  const prompt = ['-p', 'Once upon a time there was', '--save-logits', '--logits-output-dir', work, '-t', '1']
  run(join(llama, 'llama-debug'), ['-m', path, ...prompt])
  const base = join(work, `llamacpp-llama-${type}`)
  const ids = new Int32Array(new Uint8Array(readFileSync(`${base}-tokens.bin`)).buffer)
  const expected = new Float32Array(new Uint8Array(readFileSync(`${base}.bin`)).buffer)
  const rms = deviation(ourLogits(path, [...ids]).slice(-expected.length), expected)
  report.row(rms <= ROUNDED, [type, LLAMA, 'embedded', scientific(rms), `${ROUNDED} of the deviation`])
}

function inTransformers({ report, models, seed }, python) {
  const read = models.filter(({ name }) => READ.includes(name))
  const files = IN_TRANSFORMERS.flatMap((type) => {
    const draw = drawing(seed)
    return read.map((model) => {
      const path = quantized(model, ['--method', 'gguf', '--type', type], `logits-${type}-${model.name}.gguf`)
      return { path, ids: idsOf(model, draw), like: SIZELESS.includes(model.name) ? model.path : undefined }
    })
  })
  const far = logitDifferences(python, 'gguf', files)
  const names = read.map(({ name }) => name).join(', ')
  IN_TRANSFORMERS.forEach((type, i) => {
    const off = Math.max(...far.slice(i * read.length, (i + 1) * read.length))
    report.row(off <= EXACT, [type, 'transformers', names, scientific(off), `${scientific(EXACT)} of the span`])
  })
}

function compareLogits(context, _, llama) {
  const { report } = context
  report.section(
    'GGUF: logits',
    'Files made by fewbit. transformers decodes all blocks to float32: the largest difference, of the span. llama.cpp rounds activations to 8 bits: root mean square, of the deviation.',
    ['type', 'read by', 'models', 'difference', 'gate'],
  )
  const python = report.given('FEWBIT_PARITY_PYTHON', 'GGUF: logits in transformers')
  if (python) report.attempt('GGUF: logits in transformers', () => inTransformers(context, python))
  for (const type of IN_LLAMA) report.attempt(type, () => inLlama(context, llama, type))
}

/** What a part of the comparison needs of llama.cpp: its folder, and the files of some models. */
function withLlama(context, part, models, compare) {
  const { report, seed } = context
  const llama = report.given('FEWBIT_PARITY_LLAMA', part)
  if (!llama) return
  report.attempt(part, () => {
    const draw = drawing(seed)
    compare(
      context,
      models.map((model) => prepare(model, llama, draw)),
      llama,
    )
  })
}

export const compareGgufFiles = (context) => withLlama(context, 'GGUF: files', context.models, compareFiles)
export const compareGgufQuality = (context) => withLlama(context, 'GGUF: quality', [context.embedded], compareQuality)
export const compareGgufLogits = (context) => withLlama(context, 'GGUF: logits', [], compareLogits)
