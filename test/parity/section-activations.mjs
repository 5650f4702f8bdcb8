// Quanto with activations, calibrated by optimum-quanto on the same chats: weights must be equal, scales near (sums run in another order, so some
// codes round the other way, and what follows moves with them), KL and perplexity as good.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { tensorsOf } from './files.mjs'
import { fixed } from './report.mjs'
import { measuring, packages, quality, quantized, ROOT, theirQuality, work } from './tools.mjs'

const CHATS = join(ROOT, 'models', 'data', 'calibration.json')
/** Conversations that activations are calibrated on. */
const SAMPLES = 64
const LENGTH = 512
const TYPES = [
  ['qint8', 'qint8'],
  ['qint4', 'qfloat8_e4m3fn'],
]

/** The ids of the first chats, joined and cut into blocks. */
async function blocks(model) {
  const { AutoTokenizer } = await import(join(ROOT, 'dist', 'index.mjs'))
  const tokenizer = await AutoTokenizer.fromPretrained(model.path)
  const chats = JSON.parse(readFileSync(CHATS, 'utf8')).slice(0, SAMPLES)
  const ids = chats.flatMap(({ messages }) => Array.from(tokenizer.applyChatTemplate(messages)))
  return Array.from({ length: Math.floor(ids.length / LENGTH) }, (_, i) => ids.slice(i * LENGTH, (i + 1) * LENGTH))
}

/** Largest relative difference of the scales of activations, and how many other tensors differ. */
function compareScales(ours, theirs) {
  const [a, b] = [ours, theirs].map((folder) => tensorsOf(join(folder, 'model.safetensors')))
  let [scales, others] = [0, Number(a.size !== b.size)]
  for (const [name, bytes] of a) {
    const expected = b.get(name) ?? new Uint8Array()
    if (/put_scale$/.test(name)) {
      const [x, y] = [bytes, expected].map((data) => new DataView(data.buffer, data.byteOffset).getFloat32(0, true))
      scales = Math.max(scales, Math.abs(x / y - 1))
    } else if (Buffer.compare(bytes, expected) !== 0) others++
  }
  return { scales, others }
}

function compare(context, python, [weights, activations], calibration) {
  const { report, embedded } = context
  const types = ['--type', weights, '--activations', activations, '--exclude', 'lm_head', ...embedded.dtypeFlags]
  const data = ['--calibration', CHATS, '--calibration-samples', String(SAMPLES)]
  const ours = quantized(embedded, ['--method', 'quanto', ...types, ...data], `${weights}-${activations}`)
  const theirs = join(work, `theirs-${weights}-${activations}`)
  const options = { type: weights, activations, blocks: calibration }
  const variant = { model: embedded.path, dtype: 'float32', options, out: theirs }
  const [expected] = packages(python, { do: 'make', package: 'quanto', ...measuring(context), variants: [variant] })
  const [reloaded] = theirQuality(python, 'quanto', [theirs], context)
  const found = quality(ours, context)
  const { scales, others } = compareScales(ours, theirs)
  const asGood = found.kl <= 1.03 * expected.kl && found.perplexity <= 1.005 * expected.perplexity
  report.row(others === 0 && scales <= 0.05 && asGood, [
    `${weights}, ${activations}`,
    `${others} tensors`,
    `${(100 * scales).toFixed(1)}%`,
    ...[found.kl, expected.kl, reloaded.kl, found.perplexity, expected.perplexity, reloaded.perplexity].map(fixed),
  ])
}

export async function compareActivations(context) {
  const { report } = context
  const python = report.given('FEWBIT_PARITY_PYTHON', 'Quanto: activations')
  if (!python) return
  report.section(
    'Quanto: activations',
    `optimum-quanto 0.2.7, calibrated on ${SAMPLES} of the embedded chats; its model as made, and as it loads it again, when it quantises outputs too.`,
    [
      'weights, activations',
      'other tensors that differ',
      'scales differ by',
      'KL, fewbit',
      'KL, package',
      'KL, package, loaded again',
      'perplexity, fewbit',
      'perplexity, package',
      'perplexity, package, loaded again',
    ],
  )
  const calibration = await blocks(context.embedded)
  for (const types of TYPES) report.attempt(types.join(', '), () => compare(context, python, types, calibration))
}
