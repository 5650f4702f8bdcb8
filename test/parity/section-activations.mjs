// Quanto with activations, calibrated by optimum-quanto on the same chats: weights must be equal, scales near (sums run in another order, so some
// codes round the other way, and what follows moves with them), KL and perplexity as good.
import { join } from 'node:path'
import { tensorsOf } from './files.mjs'
import { given, quality, quantized, ROOT, run, TEXT, work } from './tools.mjs'

const CHATS = join(ROOT, 'models', 'data', 'calibration.json')
/** Conversations that activations are calibrated on. */
const SAMPLES = 64
const TYPES = [
  ['qint8', 'qint8'],
  ['qint4', 'qfloat8_e4m3fn'],
]

/** Largest relative difference of the scales of activations, and how many other tensors differ. */
function compareScales(ours, theirs) {
  const [a, b] = [tensorsOf(ours), tensorsOf(theirs)]
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

function compare(report, python, model, [weights, activations]) {
  const what = ['--type', weights, '--activations', activations, '--exclude', 'lm_head', '--dtype', 'float32']
  const data = ['--calibration', CHATS, '--calibration-samples', String(SAMPLES)]
  const ours = quantized(model, ['--method', 'quanto', ...what, ...data], `${weights}-${activations}`)
  const theirs = join(work, `theirs-${weights}-${activations}`)
  const script = join(import.meta.dirname, 'quanto.py')
  const args = [script, model, weights, activations, CHATS, String(SAMPLES), TEXT, theirs]
  const expected = JSON.parse(run(python, args).trim().split('\n').at(-1))
  const found = quality(ours, model)
  const { scales, others } = compareScales(join(ours, 'model.safetensors'), join(theirs, 'model.safetensors'))
  const ok =
    others === 0 && scales <= 0.05 && found.kl <= 1.03 * expected.kl && found.perplexity <= 1.005 * expected.perplexity
  report.row(ok, [
    `${weights}, ${activations}`,
    `${others} tensors`,
    `${(100 * scales).toFixed(1)}%`,
    `${found.kl.toFixed(4)} / ${expected.kl.toFixed(4)} / ${expected.reloaded.kl.toFixed(4)}`,
    `${found.perplexity.toFixed(4)} / ${expected.perplexity.toFixed(4)} / ${expected.reloaded.perplexity.toFixed(4)}`,
  ])
}

export function compareActivations({ report, model }) {
  const python = given('FEWBIT_PARITY_PYTHON', 'Quanto: activations')
  if (!python) return
  report.section(
    'Quanto: activations',
    `optimum-quanto 0.2.7, calibrated on ${SAMPLES} of the embedded chats; third figure: the package's model after loading its own file.`,
    ['weights, activations', 'other tensors that differ', 'scales differ by', 'KL', 'perplexity'],
  )
  for (const types of TYPES) report.attempt(types.join(', '), () => compare(report, python, model, types))
}
