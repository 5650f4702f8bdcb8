// bitsandbytes, HQQ, Quanto and EETQ quantise the same models as fewbit: files must have equal bytes, the package must open ours with equal
// logits, and perplexity and KL divergence of both must agree.
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fixed, scientific } from './report.mjs'
import { drawing, idsOf, logitDifferences, packages, quality, quantized, theirQuality, work } from './tools.mjs'

const bnb = (options, flags) => ({ options, flags: ['--method', 'bitsandbytes', ...flags] })
const four = (type, nested) => {
  const options = { load_in_4bit: true, bnb_4bit_quant_type: type, bnb_4bit_use_double_quant: nested }
  return bnb(options, ['--config', JSON.stringify({ quant_method: 'bitsandbytes', ...options })])
}
const hqq = (bits, axis = 1) => ({
  options: { nbits: bits, group_size: 64, axis },
  flags: ['--method', 'hqq', '--bits', String(bits), '--group-size', '64', '--axis', String(axis)],
})
const quanto = (type, optimizer = 'max') => ({
  options: { type, optimizer },
  flags: ['--method', 'quanto', '--type', type, '--optimizer', optimizer, '--exclude', 'lm_head'],
})

/** Files and logits only: neighbours of what is measured, whose quality equal files and logits imply. */
const unmeasured = (variant) => ({ ...variant, measured: false })

/**
 * `gate` of the logits' span. `floatInputs`: logits are compared of models in float32 only, where the package's products are float32.
 * bitsandbytes rounds restored weights to the model's dtype, which fewbit does not; codes of LLM.int8's activations round
 * the other way with the reference's misprinted 1/127^2. EETQ rounds restored weights to float16 in any case. `inFloat32`: all models
 * are cast first, since transformers 4.57 makes what HQQ quantises float32, whatever the model is.
 */
const SECTIONS = [
  {
    title: 'bitsandbytes',
    package: 'bitsandbytes',
    variable: 'FEWBIT_PARITY_PYTHON',
    note: 'bitsandbytes 0.50.2 in transformers 5.23.0, held to its float32 product where the CPU has one of bf16.',
    gate: 1e-4,
    floatInputs: true,
    variants: {
      NF4: four('nf4', false),
      'NF4, double quantisation': four('nf4', true),
      FP4: four('fp4', false),
      'FP4, double quantisation': unmeasured(four('fp4', true)),
      'LLM.int8': { ...bnb({ load_in_8bit: true }, ['--bits', '8']), gate: 4e-2 },
    },
  },
  {
    title: 'HQQ',
    package: 'hqq',
    variable: 'FEWBIT_PARITY_HQQ',
    note: "hqq 0.2.8.post1 in transformers 4.57.3, groups of 64, with torch's scalar powf: its vector one moves a few zeros of 1 bit by a step.",
    env: { ATEN_CPU_CAPABILITY: 'default' },
    inFloat32: true,
    gate: 1e-4,
    floatInputs: true,
    variants: {
      '8 bits': unmeasured(hqq(8)),
      '4 bits': hqq(4),
      '3 bits': unmeasured(hqq(3)),
      '2 bits': hqq(2),
      '1 bit': unmeasured(hqq(1)),
      '4 bits, axis 0': unmeasured(hqq(4, 0)),
    },
  },
  {
    title: 'Quanto',
    package: 'quanto',
    variable: 'FEWBIT_PARITY_PYTHON',
    note: 'optimum-quanto 0.2.7 in transformers 5.23.0.',
    gate: 1e-4,
    floatInputs: true,
    variants: {
      'qint2, max': quanto('qint2'),
      'qint4, max': quanto('qint4'),
      'qint8, max': quanto('qint8'),
      'qfloat8_e4m3fn, max': quanto('qfloat8_e4m3fn'),
      'qfloat8_e5m2, max': unmeasured(quanto('qfloat8_e5m2')),
      'qint2, hqq': unmeasured(quanto('qint2', 'hqq')),
      'qint4, hqq': unmeasured(quanto('qint4', 'hqq')),
    },
  },
  {
    title: 'EETQ',
    package: 'eetq',
    variable: 'FEWBIT_PARITY_PYTHON',
    note: "The integration of transformers 5.23.0 quantises, saves and loads; its kernels, which run on a GPU only, are replaced by a second implementation of the format's arithmetic (`test/parity/eetq.py`).",
    gate: 4e-3,
    castsItself: true,
    variants: { int8: { options: { weights: 'int8' }, flags: ['--method', 'eetq'] } },
  },
]

const bytesOf = (folder) => readFileSync(join(folder, 'model.safetensors'))

/** Every variant of every model, to be quantised by both. */
function casesOf(section, models) {
  return Object.entries(section.variants).flatMap(([variant, settings], i) =>
    models.map((model) => ({ variant, model, ...settings, name: `${section.package}-${i}-${model.name}` })),
  )
}

/** Adds to each case the folders of both sides. */
function quantisedByBoth(python, section, cases) {
  const jobs = cases.map(({ model, options, name }) => {
    const dtype = section.inFloat32 ? 'float32' : model.dtype
    return { model: model.path, dtype, options, out: join(work, `theirs-${name}`) }
  })
  packages(python, { do: 'make', package: section.package, variants: jobs }, section.env)
  return cases.map(({ model, flags, ...rest }, i) => {
    const cast = section.castsItself ? [] : section.inFloat32 ? ['--dtype', 'float32'] : model.dtypeFlags
    return { ...rest, model, theirs: jobs[i].out, ours: quantized(model, [...flags, ...cast], `ours-${rest.name}`) }
  })
}

/** Adds to each case how far the logits of fewbit's file are from the package's, where they can be compared. */
function withLogits(python, section, cases, seed) {
  const compared = cases.filter(({ model }) => !section.floatInputs || model.dtype === 'float32')
  const files = compared.map(({ model, ours }) => ({ path: ours, ids: idsOf(model, drawing(seed)) }))
  const far = logitDifferences(python, section.package, files)
  return cases.map((result) => ({ ...result, far: compared.includes(result) ? far[compared.indexOf(result)] : 0 }))
}

function reportVariant(context, section, variant, results, expected) {
  const { gate = section.gate } = section.variants[variant]
  const unequal = results
    .filter(({ ours, theirs }) => !bytesOf(ours).equals(bytesOf(theirs)))
    .map(({ model }) => model.name)
  const far = Math.max(...results.map(({ far }) => far))
  const found = expected && quality(results[0].ours, context)
  const asGood = !expected || (found.kl <= 1.03 * expected.kl && found.perplexity <= 1.005 * expected.perplexity)
  context.report.row(unequal.length === 0 && far <= gate && asGood, [
    variant,
    `${results.length - unequal.length} of ${results.length} equal${unequal.length ? ` (not ${unequal.join(', ')})` : ''}`,
    scientific(far),
    ...(expected ? [found.kl, expected.kl, found.perplexity, expected.perplexity].map(fixed) : []),
  ])
}

/** The section of the package that `context.name` names. */
export function comparePackages(context) {
  const { report, models, seed } = context
  const section = SECTIONS.find(({ package: name }) => name === context.name)
  const python = report.given(section.variable, section.title)
  if (!python) return
  const columns = [
    'variant',
    'files',
    'logits differ by',
    'KL, fewbit',
    'KL, package',
    'perplexity, fewbit',
    'perplexity, package',
  ]
  report.section(section.title, section.note, columns)
  report.attempt(section.title, () => {
    const cases = withLogits(python, section, quantisedByBoth(python, section, casesOf(section, models)), seed)
    const measured = cases.filter(({ model, measured }) => model === models[0] && measured !== false)
    const paths = measured.map(({ theirs }) => theirs)
    const expected = theirQuality(python, section.package, paths, context)
    for (const variant of Object.keys(section.variants)) {
      const results = cases.filter((result) => result.variant === variant)
      const at = measured.findIndex((result) => result.variant === variant)
      report.attempt(variant, () => reportVariant(context, section, variant, results, expected[at]))
    }
    for (const { ours, theirs } of cases) for (const folder of [ours, theirs]) rmSync(folder, { recursive: true })
  })
}
