// Files written by fewbit are opened by the references, and the logits compared.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { difference, tensorOf } from './files.mjs'
import { given, logits, quantized, run, work } from './tools.mjs'

const IDS = '5,100,7,42,900,13,77,256,31,8,1200,64'

// [name, flags, file, interpreter, gate]. bitsandbytes runs on a float32 model: on a bf16 one the reference rounds restored weights to bf16
// (6e-3 of the span here), which fewbit does not imitate. LLM.int8's activation codes round differently with the reference's misprinted 1/127^2.
const CASES = [
  ['AQLM 2x8 g8', ['--method', 'aqlm', '--max-epochs', '1'], 'aqlm', 'FEWBIT_PARITY_PYTHON', 1e-5],
  [
    'bitsandbytes NF4',
    ['--method', 'bitsandbytes', '--bits', '4', '--dtype', 'float32'],
    'nf4',
    'FEWBIT_PARITY_PYTHON',
    1e-4,
  ],
  [
    'bitsandbytes LLM.int8',
    ['--method', 'bitsandbytes', '--bits', '8', '--dtype', 'float32'],
    'int8',
    'FEWBIT_PARITY_PYTHON',
    4e-2,
  ],
  ['HQQ 4 bit', ['--method', 'hqq', '--bits', '4', '--group-size', '64'], 'hqq4', 'FEWBIT_PARITY_HQQ', 1e-4],
  ['HQQ 3 bit', ['--method', 'hqq', '--bits', '3', '--group-size', '64'], 'hqq3', 'FEWBIT_PARITY_HQQ', 1e-4],
  [
    'GGUF Q4_K_M in transformers',
    ['--method', 'gguf', '--type', 'q4_k_m'],
    'q4_k_m.gguf',
    'FEWBIT_PARITY_PYTHON',
    1e-4,
  ],
]

/** Root mean square of the differences in units of the standard deviation of the expected values. */
function deviation(ours, theirs) {
  const mean = theirs.reduce((a, b) => a + b, 0) / theirs.length
  const variance = theirs.reduce((a, b) => a + (b - mean) ** 2, 0)
  return Math.sqrt(theirs.reduce((a, b, i) => a + (b - ours[i]) ** 2, 0) / variance)
}

function inLlama(report, model, llama) {
  // ggml quantises activations too, so the gate is the noise of that: rms of the last position in units of the logits' deviation.
  for (const type of ['q8_0', 'q4_k_m']) {
    const name = `GGUF ${type} in llama.cpp`
    report.attempt(name, () => {
      const path = quantized(model, ['--method', 'gguf', '--type', type], `llama-${type}.gguf`)
      const prompt = ['-p', 'Once upon a time there was', '--save-logits', '--logits-output-dir', work, '-t', '2']
      run(join(llama, 'llama-debug'), ['-m', path, ...prompt])
      const base = join(work, `llamacpp-llama-${type}`)
      const ids = new Int32Array(new Uint8Array(readFileSync(`${base}-tokens.bin`)).buffer)
      const theirs = new Float32Array(new Uint8Array(readFileSync(`${base}.bin`)).buffer)
      const rms = deviation(logits(path, [...ids].join(',')).slice(-theirs.length), theirs)
      report.row(rms <= 4e-2, [name, `rms ${rms.toExponential(1)} of the deviation`, '4e-2'])
    })
  }
}

export function compareLogits({ report, model }) {
  report.section('Logits', 'Files of fewbit as the packages run them: the largest difference, as a part of the span.', [
    'file',
    'difference',
    'gate',
  ])
  for (const [name, flags, file, variable, gate] of CASES) {
    const python = given(variable, name)
    if (!python) continue
    report.attempt(name, () => {
      const path = quantized(model, flags, file)
      const out = join(work, 'theirs.safetensors')
      run(python, [join(import.meta.dirname, 'logits.py'), path, IDS, out])
      const d = difference(logits(path, IDS), tensorOf(out))
      report.row(d <= gate, [name, d.toExponential(1), gate.toExponential(0)])
    })
  }
  const llama = given('FEWBIT_PARITY_LLAMA', 'llama.cpp')
  if (llama) inLlama(report, model, llama)
}
