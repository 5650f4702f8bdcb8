// docs/parity-methods.md: what a run found. A whole run writes it anew; one of some sections replaces those, the others stay.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { ROOT } from './tools.mjs'

const PAGE = join(ROOT, 'docs', 'parity-methods.md')
const INTRODUCTION = `# Parity with the reference packages

Each method beside the package whose files it reads and writes, on data that no fixture holds; \`npm run test:parity -- --write\`
writes the tables, all of them or those of \`--only SECTION\`: each says when it was run, and with which seed.
\`test/parity/\` has the scripts; they need the packages and are no part of \`npm test\`.

Models: the embedded one, and random ones of four families whose values and widths come from the seed: Llama with shared heads (float16),
Qwen 2 with biases and a tied head (float32), Mistral (bfloat16), Gemma (float32). **Files**: \`model.safetensors\` of both, byte for byte.
**Logits**: the package opens the files that fewbit has written; the largest difference, as a part of the logits' span. **KL** and **perplexity**, of the
embedded model: \`eval.txt\`, windows of 512 tokens, all 56,721 predictions (with \`--limit\`: of the first tokens only, as a table then
says), KL(float, quantised) in nats, float32 (float model: perplexity 6.562). Gates: the package's KL + 3%, its perplexity + 0.5%, or as a
table says. Files of equal bytes are equal models: what then differs is the package's own arithmetic, and a row without figures of quality has
equal files and logits beside a neighbour that was measured. The exit status says whether all gates
hold; a section whose package is not there is skipped by name.
`

function sectionOf(title, { note, columns, rows }) {
  const line = (cells) => `| ${columns.map((_, i) => cells[i] ?? '').join(' | ')} |`
  const table = [line(columns), `|${'---|'.repeat(columns.length)}`, ...rows.map(line)].join('\n')
  return `## ${title}\n\n${note}\n\n${table}\n`
}

function sectionsOf(page) {
  const parts = page.split(/^(?=## )/m).slice(1)
  return new Map(parts.map((part) => [/^## (.*)/.exec(part)[1], `${part.trim()}\n`]))
}

/** `only`: not all sections were run; `seed` of the random models; `limit` of the tokens that were measured. */
export function writePage(report, { only, seed, limit }) {
  const sections = only && existsSync(PAGE) ? sectionsOf(readFileSync(PAGE, 'utf8')) : new Map()
  const date = new Date().toISOString().slice(0, 10)
  const measured = `${date}, ${cpus().length} cores of an ${cpus()[0].model}, seed ${seed}${limit ? `; the first ${limit} tokens` : ''}.`
  for (const [title, section] of report.sections) {
    sections.set(title, sectionOf(title, { ...section, note: `${section.note} ${measured}` }))
  }
  const ordered = [...sections].sort(([a], [b]) => a.localeCompare(b)).map(([, text]) => text)
  writeFileSync(PAGE, [INTRODUCTION, ...ordered].join('\n'))
}
