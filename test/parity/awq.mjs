// `node test/parity/awq.mjs [--seed N] [--quality]`: AWQ files of fewbit, of fresh random models and of the embedded one, opened by AutoAWQ
// with equal logits; with --quality (long: AutoAWQ searches for a quarter of an hour) KL divergence and perplexity on eval.txt of fewbit's
// search beside AutoAWQ's, on the same calibration ids. FEWBIT_PARITY_AWQ: a Python with requirements-awq.txt.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { difference, tensorOf } from './files.mjs'

const ROOT = resolve(import.meta.dirname, '../..')
const MODEL = join(ROOT, 'models', 'stories-7m')
const TEXT = join(ROOT, 'models', 'data', 'eval.txt')
/** float32 against float32, sums in another order: of the logits' span. */
const GATE = 1e-5
/** fewbit's KL to AutoAWQ's, and perplexity likewise: its search may find other near ties. */
const KL = 1.1
const PERPLEXITY = 1.005
const LENGTH = 512

const python = process.env.FEWBIT_PARITY_AWQ
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1e6) },
    quality: { type: 'boolean', default: false },
  },
})
if (!python) {
  console.log('awq: skipped, FEWBIT_PARITY_AWQ names no Python with test/parity/requirements-awq.txt')
  process.exit()
}
const work = mkdtempSync(join(tmpdir(), 'fewbit-awq-'))
let failed = 0

function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
  if (status !== 0) throw new Error(`${command}: ${error ?? stderr.slice(-600)}`)
  return stdout
}

const cli = (...args) => run(process.execPath, [join(ROOT, 'dist', 'cli.mjs'), ...args])

/** A job of autoawq.py, and what it answers. */
function autoawq(job) {
  const file = join(work, 'job.json')
  writeFileSync(file, JSON.stringify(job))
  const lines = run(python, [join(import.meta.dirname, 'autoawq.py'), file])
  return JSON.parse(lines.trim().split('\n').at(-1))
}

function report(name, isOk, said) {
  if (!isOk) failed++
  console.log(`${isOk ? 'ok  ' : 'FAIL'} ${name}: ${said}`)
}

const SIZES = {
  vocab_size: 320,
  num_hidden_layers: 2,
  max_position_embeddings: 128,
  hidden_size: 192,
  intermediate_size: 320,
}
// [name, config, dtype, version, group]: shared heads; a head of its own each, so that v scales o; biases; a tied head; norms of 1 + w.
const MODELS = [
  ['Llama', { model_type: 'llama', num_attention_heads: 6, num_key_value_heads: 2 }, 'float32', 'gemm', '32'],
  ['Mistral', { model_type: 'mistral', num_attention_heads: 6, num_key_value_heads: 6 }, 'float16', 'gemm', '64'],
  [
    'Qwen2',
    { model_type: 'qwen2', num_attention_heads: 6, num_key_value_heads: 6, tie_word_embeddings: true },
    'bfloat16',
    'gemv',
    '64',
  ],
  [
    'Gemma',
    { model_type: 'gemma', num_attention_heads: 6, num_key_value_heads: 2, head_dim: 32 },
    'float16',
    'gemv_fast',
    '32',
  ],
]

/** A number from 0 on, below `limit`, told by a counter and the seed. */
const drawn = (i, limit) => Math.floor(((Math.sin(i * 12.9898 + Number(values.seed)) * 43758.5453) % 1) ** 2 * limit)

function sameLogits(name, folder, limit) {
  const ids = Array.from({ length: 24 }, (_, i) => 3 + drawn(i, limit - 3))
  const [ours, theirs] = [join(work, 'ours.safetensors'), join(work, 'theirs.safetensors')]
  autoawq({ do: 'logits', path: folder, ids, out: theirs })
  cli('logits', folder, '--ids', ids.join(','), '--exact', '--force', '-o', ours)
  const d = difference(tensorOf(ours), tensorOf(theirs))
  report(name, d <= GATE, `largest difference ${d.toExponential(2)} of the span (gate ${GATE})`)
}

function randomModel([name, config, dtype, version, group], number) {
  const base = join(work, `base-${number}`)
  autoawq({ do: 'random', config: { ...SIZES, ...config }, seed: Number(values.seed) + number, dtype, out: base })
  const data = join(work, 'ids.json')
  const samples = Array.from({ length: 6 }, (_, s) => Array.from({ length: 64 }, (_, i) => 3 + drawn(64 * s + i, 317)))
  writeFileSync(data, JSON.stringify(samples))
  const out = join(work, `out-${number}`)
  const calibration = ['--calibration', data, '--calibration-length', '64']
  cli('quantize', base, '--method', 'awq', '--type', version, '--group-size', group, ...calibration, '-o', out)
  sameLogits(`${name}, ${dtype}, ${version}, groups of ${group}`, out, 320)
}

/** The chats that come with fewbit as ids, in an order of the seed. */
async function calibrationIds(count) {
  const { AutoTokenizer } = await import(join(ROOT, 'dist', 'index.mjs'))
  const tokenizer = await AutoTokenizer.fromPretrained(MODEL)
  const chats = JSON.parse(readFileSync(join(ROOT, 'models', 'data', 'calibration.json'), 'utf8'))
  const order = chats.map((chat, i) => [drawn(i, 1e9), chat]).sort(([a], [b]) => a - b)
  return order.slice(0, count).map(([, chat]) => Array.from(tokenizer.applyChatTemplate(chat.messages)))
}

async function quality() {
  const ids = await calibrationIds(128)
  const data = join(work, 'chats.json')
  writeFileSync(data, JSON.stringify(ids))
  const [ours, theirs] = [join(work, 'ours'), join(work, 'theirs')]
  cli('quantize', MODEL, '--method', 'awq', '--group-size', '64', '--calibration', data, '-o', ours)
  sameLogits('embedded model, bfloat16, gemm, groups of 64', ours, 4096)
  const config = { w_bit: 4, q_group_size: 64, zero_point: true, version: 'GEMM' }
  autoawq({ do: 'quantize', model: MODEL, ids, length: LENGTH, config, dtype: 'auto', out: theirs })
  const expected = autoawq({ do: 'quality', path: theirs, base: MODEL, text: TEXT })
  const lines = cli('eval', ours, '--baseline', MODEL, '--text', TEXT, '--json').trim().split('\n')
  const found = JSON.parse(lines.at(-1))
  const isOk = found.kl <= KL * expected.kl && found.perplexity <= PERPLEXITY * expected.perplexity
  const said = (q) => `KL ${q.kl.toFixed(5)}, perplexity ${q.perplexity.toFixed(4)}`
  report('quality of the search', isOk, `${said(found)}; AutoAWQ's ${said(expected)}`)
}

try {
  console.log(`seed ${values.seed}`)
  MODELS.forEach(randomModel)
  if (values.quality) await quality()
} finally {
  rmSync(work, { recursive: true, force: true })
}
if (failed > 0) process.exit(1)
