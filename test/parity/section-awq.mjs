// AWQ: AutoAWQ opens fewbit's files with equal logits, and its search beside fewbit's on the same ids ends at equal quality.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fixed, scientific } from './report.mjs'
import { idSamples } from './section-aqlm.mjs'
import {
  drawing,
  idsOf,
  logitDifferences,
  measuring,
  packages,
  quality,
  quantized,
  ROOT,
  theirQuality,
  work,
} from './tools.mjs'

/** float32 sums in another order: of the logits' span. */
const GATE = 1e-5
/** Searches may take other ones of near ties. */
const KL = 1.1
const PERPLEXITY = 1.005
const LENGTH = 512
const SAMPLES = 128
const LAYOUTS = [
  ['gemm', '32'],
  ['gemm', '64'],
  ['gemv', '64'],
  ['gemv_fast', '32'],
]

function madeIn({ randoms, seed }, [version, group]) {
  const draw = drawing(seed)
  return randoms.map((model) => {
    const data = ['--calibration', idSamples(model, draw), '--calibration-length', '64']
    const flags = ['--method', 'awq', '--type', version, '--group-size', group, ...data]
    return { path: quantized(model, flags, `awq-${version}-${group}-${model.name}`), ids: idsOf(model, draw) }
  })
}

export function compareAwqFiles(context) {
  const { report, randoms } = context
  const python = report.given('FEWBIT_PARITY_AWQ', 'AWQ: files')
  if (!python) return
  report.section(
    'AWQ: files',
    "AutoAWQ 0.2.9 in transformers 4.51.3 opens fewbit's folders; its kernels do not run on a CPU, so the tensors of its modules are restored to float32 weights (gemm by its `dequantize_gemm`). Largest difference of the logits, of their span; gate 1e-5.",
    ['file', ...randoms.map(({ name, dtype }) => `${name}, ${dtype}`)],
  )
  report.attempt('AWQ: files', () => {
    const far = logitDifferences(
      python,
      'awq',
      LAYOUTS.flatMap((layout) => madeIn(context, layout)),
    )
    LAYOUTS.forEach(([version, group], i) => {
      const cells = far.slice(i * randoms.length, (i + 1) * randoms.length)
      report.row(Math.max(...cells) <= GATE, [`${version}, groups of ${group}`, ...cells.map(scientific)])
    })
  })
}

/** Chats of the embedded data as ids, in an order of the seed. */
async function chats(model, seed) {
  const { AutoTokenizer } = await import(join(ROOT, 'dist', 'index.mjs'))
  const tokenizer = await AutoTokenizer.fromPretrained(model.path)
  const draw = drawing(seed)
  const all = JSON.parse(readFileSync(join(ROOT, 'models', 'data', 'calibration.json'), 'utf8'))
  const order = all.map((chat) => [draw(2 ** 31), chat]).sort(([a], [b]) => a - b)
  return order.slice(0, SAMPLES).map(([, { messages }]) => Array.from(tokenizer.applyChatTemplate(messages)))
}

export async function compareAwqSearch(context) {
  const { report, embedded, seed } = context
  const python = report.given('FEWBIT_PARITY_AWQ', 'AWQ: search')
  if (!python) return
  report.section(
    'AWQ: search',
    `AutoAWQ 0.2.9 with a backup that copies, as on a GPU; ${SAMPLES} chats cut into blocks of ${LENGTH} tokens, the embedded model in bfloat16, groups of 64. Gates: KL 10%, perplexity 0.5%.`,
    ['file', 'KL, fewbit', 'KL, AutoAWQ', 'perplexity, fewbit', 'perplexity, AutoAWQ', 'its processor time'],
  )
  const ids = await chats(embedded, seed)
  report.attempt('search', () => {
    const data = join(work, 'chats.json')
    writeFileSync(data, JSON.stringify(ids))
    const flags = ['--method', 'awq', '--group-size', '64', '--calibration', data]
    const [ours, theirs] = [quantized(embedded, flags, 'awq-ours'), join(work, 'awq-theirs')]
    const config = { w_bit: 4, q_group_size: 64, zero_point: true, version: 'GEMM' }
    const options = { config, ids, length: LENGTH, samples: SAMPLES }
    const variant = { model: embedded.path, dtype: 'bfloat16', options, out: theirs }
    const { threads } = measuring(context)
    const [{ cpuSeconds }] = packages(python, { do: 'make', package: 'awq', threads, variants: [variant] })
    const [expected] = theirQuality(python, 'awq', [theirs], context)
    const found = quality(ours, context)
    const ok = found.kl <= KL * expected.kl && found.perplexity <= PERPLEXITY * expected.perplexity
    const figures = [found.kl, expected.kl, found.perplexity, expected.perplexity].map(fixed)
    report.row(ok, ['gemm, groups of 64', ...figures, `${cpuSeconds.toFixed(0)} s`])
  })
}
