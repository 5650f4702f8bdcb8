// bitsandbytes, HQQ and Quanto quantise the same models: the file must have our bytes, and perplexity and KL of both must agree.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { given, packages, quality, quantized, TEXT, work } from './tools.mjs'

const bnb = (options, flags) => ({ options, flags: ['--method', 'bitsandbytes', ...flags, '--dtype', 'float32'] })
const four = (type, nested, flags = []) =>
  bnb({ load_in_4bit: true, bnb_4bit_quant_type: type, bnb_4bit_use_double_quant: nested }, [
    '--config',
    JSON.stringify({
      quant_method: 'bitsandbytes',
      load_in_4bit: true,
      bnb_4bit_quant_type: type,
      bnb_4bit_use_double_quant: nested,
    }),
    ...flags,
  ])
const hqq = (bits, group) => ({
  options: { nbits: bits, group_size: group, axis: 1 },
  flags: ['--method', 'hqq', '--bits', String(bits), '--group-size', String(group), '--dtype', 'float32'],
})
const quanto = (type, optimizer) => ({
  options: { type, optimizer },
  flags: ['--method', 'quanto', '--type', type, '--optimizer', optimizer, '--exclude', 'lm_head', '--dtype', 'float32'],
})

/** Exact: the package stores the same bytes. */
const SECTIONS = [
  {
    title: 'bitsandbytes',
    package: 'bitsandbytes',
    variable: 'FEWBIT_PARITY_PYTHON',
    note: 'bitsandbytes 0.50.2 in transformers 5.23.0, on a CPU, where its 4-bit product may round scales and activations to bf16.',
    variants: {
      NF4: four('nf4', false),
      'NF4, double quantisation': four('nf4', true),
      FP4: four('fp4', false),
      'FP4, double quantisation': four('fp4', true),
      'LLM.int8': bnb({ load_in_8bit: true }, ['--bits', '8']),
    },
  },
  {
    title: 'HQQ',
    package: 'hqq',
    variable: 'FEWBIT_PARITY_HQQ',
    note: "hqq 0.2.8.post1 in transformers 4.57.3, groups of 64, axis 1, with torch's scalar powf: its vector one moves a few zeros of 1 bit by a step.",
    env: { ATEN_CPU_CAPABILITY: 'default' },
    variants: Object.fromEntries([8, 4, 3, 2, 1].map((bits) => [`${bits} bits`, hqq(bits, 64)])),
  },
  {
    title: 'Quanto',
    package: 'quanto',
    variable: 'FEWBIT_PARITY_PYTHON',
    note: 'optimum-quanto 0.2.7.',
    variants: {
      'qint2, max': quanto('qint2', 'max'),
      'qint4, max': quanto('qint4', 'max'),
      'qint8, max': quanto('qint8', 'max'),
      'qfloat8_e4m3fn, max': quanto('qfloat8_e4m3fn', 'max'),
      'qint4, hqq': quanto('qint4', 'hqq'),
    },
  },
]

const bytesOf = (folder) => readFileSync(join(folder, 'model.safetensors'))
const fixed = (value) => value.toFixed(value < 0.01 ? 6 : 4)

function comparePackage({ report, model, randoms, limit }, section) {
  const python = given(section.variable, section.title)
  if (!python) return
  report.section(section.title, section.note, [
    'variant',
    'files',
    'KL, fewbit',
    'KL, package',
    'perplexity, fewbit',
    'perplexity, package',
  ])
  const entries = Object.entries(section.variants)
  const name = (at, side) => `${section.package}-${at}-${side}`
  const job = (path, text, tag) => ({
    package: section.package,
    model: path,
    text,
    limit,
    variants: entries.map(([, { options }], i) => ({ options, out: join(work, name(`${tag}${i}`, 'theirs')) })),
  })
  report.attempt(section.title, () => {
    const expected = packages(python, job(model, TEXT, 'model'), section.env)
    for (const { path, tag } of randoms) packages(python, job(path, undefined, tag), section.env)
    entries.forEach(([variant, { flags }], i) => {
      report.attempt(variant, () => {
        const ours = quantized(model, flags, name(i, 'ours'))
        const found = quality(ours, model, limit)
        const equal = [{ path: model, tag: 'model' }, ...randoms].filter(({ path, tag }) =>
          bytesOf(tag === 'model' ? ours : quantized(path, flags, name(i, 'random'))).equals(
            bytesOf(join(work, name(`${tag}${i}`, 'theirs'))),
          ),
        ).length
        const of = randoms.length + 1
        const ok =
          equal === of && found.kl <= 1.03 * expected[i].kl && found.perplexity <= 1.005 * expected[i].perplexity
        const figures = [found.kl, expected[i].kl, found.perplexity, expected[i].perplexity].map(fixed)
        report.row(ok, [variant, `${equal} of ${of} equal`, ...figures])
      })
    })
  })
}

export function comparePackages(context) {
  for (const section of SECTIONS) if (context.wanted(section.title)) comparePackage(context, section)
}
