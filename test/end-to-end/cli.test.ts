// The command line as a user meets it: every example of every command runs, errors have their exit codes, nothing is overwritten.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { COMMANDS } from '../../src/cli/commands.ts'
import { emptyProgramMs, ensureBuilt, events, fewbit, interrupted } from '../support/cli.ts'

const cwd = mkdtempSync(join(tmpdir(), 'fewbit-cli-'))
beforeAll(ensureBuilt, 60_000)
afterAll(() => rmSync(cwd, { recursive: true, force: true }))

/** Splits an example line as a shell would, quotes included; `echo "..." |` becomes the input. */
function parseExample(line: string): { args: string[]; input: string } {
  const [, input = '', rest] = /^(?:echo "([^"]*)" \| )?fewbit (.*)$/.exec(line) as RegExpExecArray
  const args = [...rest.matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2])
  return { args, input: `${input}\n` }
}

const specs = await Promise.all(
  Object.entries(COMMANDS).map(async ([name, entry]) => [name, entry, (await entry.load()).default] as const),
)

describe('every example runs', () => {
  for (const [, , spec] of specs) {
    for (const line of spec.examples) {
      test(line, { timeout: 600_000 }, () => {
        const { args, input } = parseExample(line)
        const { status, stderr, stdout } = fewbit(args, { cwd, input, timeoutMs: 580_000 }) // the demo on WASM, another test beside it
        expect(stderr).not.toContain('error:')
        expect(status).toBe(0)
        expect(stdout.length).toBeGreaterThan(0)
      })
    }
  }
})

test('the summary of a command is the same in the list and in its file', () => {
  for (const [name, entry, spec] of specs) expect([name, spec.summary]).toEqual([name, entry.summary])
})

test('every command has --help with its examples', () => {
  for (const [name, , spec] of specs) {
    const { status, stdout } = fewbit([name, '--help'], { cwd })
    expect(status).toBe(0)
    for (const example of spec.examples) expect(stdout).toContain(example)
  }
})

test('explain says what every tensor becomes', () => {
  const { stdout } = fewbit(['explain', 'embedded', '--method', 'gguf', '--type', 'q4_k_m', '--json'], { cwd })
  const result = events(stdout).at(-1) as unknown as { tensors: { name: string; becomes: string }[] }
  const types = new Map(result.tensors.map((t) => [t.name, t.becomes]))
  expect(types.get('token_embd.weight')).toBe('Q6_K')
  expect(types.get('blk.0.attn_norm.weight')).toBe('F32')
  expect(types.get('blk.0.attn_q.weight')).toBe('Q4_K')
})

describe('a wrong command line is exit code 2', () => {
  for (const args of [
    ['frobnicate'],
    ['run'],
    ['run', 'embedded', 'x', '--device', 'gpu'],
    ['run', 'embedded', 'x', '--frobnicate'],
    ['quantize', 'embedded', '--method', 'nope', '-o', 'x'],
    ['quantize', 'embedded', '--method', 'hqq', '--bits', 'x', '-o', 'x'],
    ['quantize', 'embedded', '--method', 'hqq', '--axis', '7', '-o', 'x'],
    ['quantize', 'embedded', '--method', 'hqq', '--frobnicate', '7', '-o', 'x'],
    ['quantize', 'embedded', '--method', 'gguf', '--bits', '7', '-o', 'x.gguf'],
    ['quantize', 'embedded', '--config', '{"quant_method": "hqq"}', '--bits', '4', '-o', 'x'],
    ['explain', 'embedded', '--method', 'awq', '--version', 'nope'],
    ['convert', 'embedded', '--to', 'gguf:q4_0', '--frobnicate', '7', '-o', 'x.gguf'],
    ['methods', 'nope'],
    ['logits', 'embedded', '--ids', '5,x', '-o', 'l.safetensors'],
    ['bench', 'embedded', '--threads', '0'],
  ]) {
    test(args.join(' '), () => {
      const { status, stderr, stdout } = fewbit(args, { cwd })
      expect([status, stdout]).toEqual([2, ''])
      expect(stderr).toMatch(/^error: /)
      expect(stderr).not.toMatch(/\n\s+at /)
    })
  }
})

test('with --json an error is the one event on stdout', () => {
  const { status, stdout } = fewbit(['inspect', 'no-such-model', '--json'], { cwd })
  expect(status).toBe(1)
  expect(events(stdout)).toMatchObject([{ event: 'error', code: 'file', hint: expect.any(String) }])
})

test('a truncated model is exit code 1 with tensor, expected and found', () => {
  const folder = mkdtempSync(join(cwd, 'cut-'))
  const model = join(import.meta.dirname, '../../models/stories-7m')
  for (const name of readdirSync(model)) {
    const bytes = readFileSync(join(model, name))
    writeFileSync(join(folder, name), name === 'model.safetensors' ? bytes.subarray(0, bytes.length - 1000) : bytes)
  }
  const { status, stdout } = fewbit(['bench', folder, '--json'], { cwd })
  expect(status).toBe(1)
  expect(events(stdout).at(-1)).toMatchObject({
    event: 'error',
    file: 'model.safetensors',
    tensor: expect.any(String),
    expected: expect.any(Number),
    actual: expect.any(Number),
  })
})

test('what exists is not overwritten without --force, and replaced whole with it', () => {
  const args = ['quantize', 'embedded', '--method', 'bitsandbytes', '--bits', '4', '-o', 'keep']
  expect(fewbit(args, { cwd }).status).toBe(0)
  const config = readFileSync(join(cwd, 'keep', 'config.json'))
  writeFileSync(join(cwd, 'keep', 'mine.txt'), 'mine')
  const refused = fewbit(args, { cwd })
  expect([refused.status, existsSync(join(cwd, 'keep', 'mine.txt'))]).toEqual([1, true])
  expect(refused.stderr).toContain('--force')
  expect(fewbit([...args, '--force'], { cwd }).status).toBe(0)
  expect(existsSync(join(cwd, 'keep', 'mine.txt'))).toBe(false)
  expect(readFileSync(join(cwd, 'keep', 'config.json'))).toEqual(config)
})

test('a quantised model is not quantised again', () => {
  fewbit(['quantize', 'embedded', '--method', 'bitsandbytes', '--bits', '4', '-o', 'twice'], { cwd })
  const { status, stderr } = fewbit(['quantize', 'twice', '--method', 'bitsandbytes', '--bits', '8', '-o', 'thrice'], {
    cwd,
  })
  expect(status).toBe(1)
  expect(stderr).toContain('hint:')
  expect(existsSync(join(cwd, 'thrice'))).toBe(false)
})

test('Ctrl-C ends within a second with 130 and leaves nothing under the final name', async () => {
  const { code, endedAfterMs } = await interrupted(['demo', '-o', 'stopped', '--windows', '100'], cwd, 1500)
  expect(code).toBe(130)
  // A second, and on a loaded machine as much longer as a program that does nothing takes there.
  expect(endedAfterMs).toBeLessThan(1000 + 5 * emptyProgramMs())
  expect(existsSync(join(cwd, 'stopped', 'report.html'))).toBe(false)
})

test('logits are the same for any number of threads', () => {
  for (const threads of ['1', '2']) {
    expect(
      fewbit(['logits', 'embedded', '--ids', '5,7,9', '--threads', threads, '-o', `l${threads}.safetensors`], { cwd })
        .status,
    ).toBe(0)
  }
  expect(readFileSync(join(cwd, 'l1.safetensors'))).toEqual(readFileSync(join(cwd, 'l2.safetensors')))
})
