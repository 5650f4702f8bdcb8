// GGUF: whole files against llama-quantize (gguf-files.mjs), quality against llama-perplexity (gguf-quality.mjs). Equal files have equal quality.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { given } from './tools.mjs'

function script(name, args) {
  const { stdout, stderr, error } = spawnSync(process.execPath, [join(import.meta.dirname, name), ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
  if (error || !stdout) throw new Error(`${name}: ${error ?? stderr.slice(-600)}`)
  return stdout
}

function compareFiles({ report, model }) {
  report.section(
    'GGUF: files',
    'llama-quantize of llama.cpp (llama-cpp-python 0.3.36). Equal files have equal perplexity and KL divergence.',
    ['type', 'without importance matrix', 'with one'],
  )
  const found = new Map()
  for (const line of script('gguf-files.mjs', ['--model', model]).split('\n')) {
    const [, type, matrix, verdict] = /^(\S+)( \+imatrix)?\s+(equal|DIFFERS|refused by both|FAILED)/.exec(line) ?? []
    if (!type) continue
    const cells = found.get(type) ?? ['', '']
    cells[matrix ? 1 : 0] = verdict
    found.set(type, cells)
  }
  for (const [type, cells] of found) {
    report.row(!cells.includes('DIFFERS') && !cells.includes('FAILED'), [type, ...cells])
  }
}

function compareQuality({ report }) {
  report.section(
    'GGUF: quality',
    'The same files measured by `fewbit eval --recipe llama` and by llama-perplexity, with an importance matrix; every block in the type.',
    ['type', 'perplexity, fewbit', 'perplexity, llama.cpp', 'KL, fewbit', 'KL, llama.cpp'],
  )
  const pattern = /^(ok {2}|FAIL) (\S+): perplexity ([\d.]+) against ([\d.]+) .*kl ([\d.]+) against ([\d.]+)/
  for (const line of script('gguf-quality.mjs', []).split('\n')) {
    const [, verdict, ...cells] = pattern.exec(line) ?? []
    if (verdict) report.row(verdict !== 'FAIL', cells)
  }
}

export function compareGguf(context) {
  if (!given('FEWBIT_PARITY_LLAMA', 'GGUF')) return
  context.report.attempt('GGUF: files', () => compareFiles(context))
  context.report.attempt('GGUF: quality', () => compareQuality(context))
}
