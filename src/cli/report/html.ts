// The report: one self-contained page (no script needed, no network), readable on a phone, in print, dark and light.
import { counted } from '../../core/counted.ts'
import { formatBytes, formatSeconds } from '../progress.ts'
import { bars, escapeHtml, scatter } from './charts.ts'
import type { Comparison, ComparisonRow } from './types.ts'

const STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5b6570;--line:#d9dee3;--card:#f6f8fa;--c0:#5b6570;--c1:#0b6bcb;--c2:#b3500b;--c3:#1a7f4b;--c4:#8b3fb8;--c5:#b8336a;--c6:#0f7b8a;--c7:#8a6d00}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--soft:#9aa4ae;--line:#333a41;--card:#1c2126;--c0:#9aa4ae;--c1:#5aa9f5;--c2:#f0954a;--c3:#4fc487;--c4:#c78be8;--c5:#f07aa8;--c6:#4fc3d4;--c7:#d9b93a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1rem 4rem;max-width:60rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}p{margin:.3rem 0}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.7rem;margin:1.2rem 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}.facts b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}.facts span{color:var(--soft);font-size:.85rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.4rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal}th:first-child,td:first-child{text-align:left;font-weight:600}
svg{width:100%;max-width:46rem;height:auto;display:block}svg text{font:13px system-ui,sans-serif;fill:var(--soft)}svg .label{fill:var(--fg)}svg .axis{font-weight:600}.grid{stroke:var(--line)}.lead{stroke:var(--soft);stroke-width:.7}
.s0{fill:var(--c0)}.s1{fill:var(--c1)}.s2{fill:var(--c2)}.s3{fill:var(--c3)}.s4{fill:var(--c4)}.s5{fill:var(--c5)}.s6{fill:var(--c6)}.s7{fill:var(--c7)}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.88rem;color:var(--soft)}.key i{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.4em}
.sample{border-left:3px solid var(--line);padding:.1rem 0 .1rem .8rem;margin:.7rem 0}.sample b{font-size:.88rem}.sample p{margin:.1rem 0;white-space:pre-wrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;font-size:.92rem}dt{font-weight:600}dd{margin:0;color:var(--soft)}
@media (max-width:40rem){body{padding:1.2rem .8rem 3rem}h1{font-size:1.35rem}th,td{padding:.35rem .4rem}dl{grid-template-columns:1fr}svg text{font-size:14px}}
@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--card:#fff}body{padding:0;max-width:none}section{break-inside:avoid}}
`

/** Series colour of each method, in order of first appearance; the float model is 0. */
function seriesOf(rows: readonly ComparisonRow[]): ReadonlyMap<string, number> {
  const series = new Map<string, number>([['float', 0]])
  for (const row of rows) if (!series.has(row.method)) series.set(row.method, series.size)
  return series
}

const COLUMNS: readonly (readonly [string, (row: ComparisonRow) => string])[] = [
  ['model', (r) => r.name],
  ['size', (r) => formatBytes(r.sizeBytes)],
  ['bits a weight', (r) => r.bitsPerWeight.toFixed(2)],
  ['perplexity', (r) => r.perplexity.toFixed(3)],
  ['KL', (r) => (r.kl === 0 ? '0' : r.kl.toPrecision(3))],
  ['top-1', (r) => `${(r.top1 * 100).toFixed(1)}%`],
  ['quantise', (r) => (r.quantizeMs === null ? '' : formatSeconds(r.quantizeMs / 1000))],
  ['prompt tok/s', (r) => r.prefillTokensPerSecond.toFixed(0)],
  ['decode tok/s', (r) => r.decodeTokensPerSecond.toFixed(0)],
]

/** The table's head and cells as text, for the terminal and the page alike. */
export function comparisonTable(comparison: Comparison): { head: string[]; rows: string[][] } {
  return {
    head: COLUMNS.map(([title]) => title),
    rows: comparison.rows.map((row) => COLUMNS.map(([, cell]) => cell(row))),
  }
}

function htmlTable(comparison: Comparison): string {
  const { head, rows } = comparisonTable(comparison)
  const line = (cells: string[], tag: string) =>
    `<tr>${cells.map((c) => `<${tag}>${escapeHtml(c)}</${tag}>`).join('')}</tr>`
  return `<div class="wide"><table><thead>${line(head, 'th')}</thead><tbody>${rows.map((r) => line(r, 'td')).join('')}</tbody></table></div>`
}

function facts(comparison: Comparison): string {
  const float = comparison.rows.find((r) => r.method === 'float') ?? comparison.rows[0]
  const others = comparison.rows.filter((r) => r !== float)
  if (others.length === 0) return ''
  const smallest = others.reduce((a, b) => (a.sizeBytes <= b.sizeBytes ? a : b))
  const closest = others.reduce((a, b) => (a.kl <= b.kl ? a : b))
  const fastest = others.reduce((a, b) => (a.decodeTokensPerSecond >= b.decodeTokensPerSecond ? a : b))
  const fact = (value: string, text: string) => `<div><b>${escapeHtml(value)}</b><span>${escapeHtml(text)}</span></div>`
  return `<div class="facts">${[
    fact(
      `${(float.sizeBytes / smallest.sizeBytes).toFixed(1)}x smaller`,
      `smallest: ${smallest.name}, ${formatBytes(smallest.sizeBytes)}`,
    ),
    fact(`KL ${closest.kl.toPrecision(2)}`, `closest to the float model: ${closest.name}`),
    fact(
      `${fastest.decodeTokensPerSecond.toFixed(0)} tok/s`,
      `fastest decode: ${fastest.name} (float: ${float.decodeTokensPerSecond.toFixed(0)})`,
    ),
  ].join('')}</div>`
}

const MEANING: readonly (readonly [string, string])[] = [
  ['bits a weight', 'stored bits of all weights, embeddings and scales included, divided by the number of weights'],
  [
    'perplexity',
    'how surprised the model is by the held-out text; lower is better; windows of 512 tokens, every prediction counts',
  ],
  [
    'KL',
    "mean Kullback-Leibler divergence of the next-token probabilities to the float model's, in nats; 0 is identical",
  ],
  ['top-1', 'share of positions where the likeliest token is the one that the float model finds likeliest'],
  ['prompt, decode', 'tokens a second reading a prompt of 128 tokens, and writing one token after another'],
]

/** The whole page as text. */
export function reportHtml(comparison: Comparison): string {
  const series = seriesOf(comparison.rows)
  const at = (row: ComparisonRow) => series.get(row.method) ?? 0
  const points = comparison.rows
    .filter((r) => r.kl > 0)
    .map((r) => ({ label: r.name, x: r.sizeBytes / 1e6, y: r.kl, series: at(r) }))
  const key = [...series]
    .map(([name, i]) => `<span><i class="s${i}" style="background:var(--c${i})"></i>${escapeHtml(name)}</span>`)
    .join('')
  const speed = (value: (row: ComparisonRow) => number, title: string) =>
    bars(
      comparison.rows.map((r) => ({ label: r.name, value: value(r), series: at(r) })),
      (v) => v.toFixed(0),
      title,
    )
  const samples = comparison.rows.map(
    (r) =>
      `<div class="sample"><b>${escapeHtml(r.name)}</b><p><span class="soft">${escapeHtml(comparison.prompt)}</span>${escapeHtml(r.sample)}</p></div>`,
  )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escapeHtml(comparison.model)}: quantisation compared</title><style>${STYLE}</style></head>
<body><header><h1>${escapeHtml(comparison.model)}, quantised ${comparison.rows.length - 1} ways</h1>
<p class="soft">Measured ${escapeHtml(comparison.date)} on ${escapeHtml(comparison.machine)}; ${escapeHtml(comparison.device)}, ${counted(comparison.threads, 'thread')}; ${comparison.tokens.toLocaleString('en')} predictions on ${escapeHtml(comparison.text)}.</p></header>
${facts(comparison)}
<section><h2>All figures</h2>${htmlTable(comparison)}</section>
${points.length > 0 ? `<section><h2>Size against quality</h2><p class="soft">Lower left is better: smaller, and closer to the float model.</p><div class="key">${key}</div>${scatter(points, { title: 'size, MB', format: (v) => String(v) }, { title: 'KL to float, nats', format: (v) => (v >= 0.001 ? String(Number(v.toPrecision(1))) : v.toExponential(0)) }, 'Size against KL divergence')}</section>` : ''}
<section><h2>Decode speed</h2><p class="soft">Tokens a second, one after another.</p>${speed((r) => r.decodeTokensPerSecond, 'Decode tokens a second')}</section>
<section><h2>Prompt speed</h2><p class="soft">Tokens a second of a 128-token prompt.</p>${speed((r) => r.prefillTokensPerSecond, 'Prompt tokens a second')}</section>
<section><h2>The same prompt, continued by each</h2>${samples.join('')}</section>
<section><h2>What the columns mean</h2><dl>${MEANING.map(([t, d]) => `<dt>${t}</dt><dd>${escapeHtml(d)}</dd>`).join('')}</dl></section>
<script type="application/json" id="data">${JSON.stringify(comparison).replace(/</g, '\\u003c')}</script>
<footer class="soft"><p>fewbit ${escapeHtml(comparison.version)}</p></footer></body></html>
`
}
