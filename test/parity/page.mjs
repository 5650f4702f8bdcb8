// docs/parity-methods.md: a section is replaced by what this run found, the others stay.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { ROOT } from './tools.mjs'

const PAGE = join(ROOT, 'docs', 'parity-methods.md')
const INTRODUCTION = `# Parity with the reference packages

Each method beside the package whose files it reads and writes, on data that no fixture holds. \`test/parity/\` has the scripts; they need the
packages and are no part of \`npm test\`.

\`npm run test:parity -- --write\` quantises the embedded model, and random models of fresh seeds, with fewbit and with the packages, compares the
files byte by byte, and measures both sides: \`eval.txt\`, windows of 512 tokens, all 56,721 predictions (with \`--limit\`: of the first tokens
only, as a table then says), KL(float, quantised) in nats, float32. Gates: the package's KL + 3%, its perplexity + 0.5%. Files of equal bytes are
equal models: what then differs is the package's own arithmetic. A section whose package is not there is skipped by name.
`

function sectionOf(title, { note, columns, rows }) {
  const line = (cells) => `| ${columns.map((_, i) => cells[i] ?? '').join(' | ')} |`
  const table = [line(columns), `|${'---|'.repeat(columns.length)}`, ...rows.map(line)].join('\n')
  return `## ${title}\n\n${note}\n\n${table}\n`
}

/** `seed` of the random models, `limit` of the tokens that were measured. */
export function writePage(report, { seed, limit }) {
  const old = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : INTRODUCTION
  const [introduction, ...parts] = old.split(/^(?=## )/m)
  const sections = new Map(parts.map((part) => [/^## (.*)/.exec(part)[1], `${part.trim()}\n`]))
  const date = new Date().toISOString().slice(0, 10)
  for (const [title, section] of report.sections) {
    const measured = `${date}, ${cpus()[0].model}${seed ? `, seed ${seed}` : ''}${limit ? `; the first ${limit} tokens` : ''}`
    const note = `${section.note} ${measured}.`
    sections.set(title, sectionOf(title, { ...section, note }))
  }
  writeFileSync(PAGE, [`${introduction.trim()}\n`, ...sections.values()].join('\n'))
}
