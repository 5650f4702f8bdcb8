// `fewbit eval MODEL --text FILE [--baseline FLOAT]`: perplexity by a named recipe, and how far from a baseline.
import { readFile } from 'node:fs/promises'
import { UsageError } from '../../core/errors.ts'
import { command } from '../command.ts'
import { evaluateModels } from '../evaluation.ts'
import { oneOf, PRECISION_OPTIONS, precisionOf, RUN_OPTIONS, wholeNumber } from '../options.ts'
import { EVALUATION_TEXT } from '../paths.ts'
import { deviceOf } from '../session.ts'

const RECIPES = ['windows', 'transformers', 'llama'] as const

export default command({
  summary: 'perplexity, and KL divergence and top-1 agreement against a baseline',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [
    { flags: '--text <file>', description: 'the text (default: the held-out text of the embedded model)' },
    { flags: '--baseline <model>', description: 'the float model to compare with' },
    {
      flags: '--recipe <name>',
      description: `how to count: ${RECIPES.join(', ')}`,
      parse: oneOf('recipe', RECIPES),
      default: 'windows',
    },
    { flags: '--window <n>', description: 'tokens of a window', parse: wholeNumber('window', 2) },
    { flags: '--stride <n>', description: 'step of the transformers recipe', parse: wholeNumber('stride', 1) },
    { flags: '--limit <n>', description: 'use the first n tokens only', parse: wholeNumber('limit', 2) },
    ...PRECISION_OPTIONS,
    ...RUN_OPTIONS,
  ],
  examples: ['fewbit eval embedded --limit 2048', 'fewbit eval embedded --baseline embedded --limit 1024 --json'],
  async run({ args, options, output, signal }) {
    const file = String(options.text ?? EVALUATION_TEXT)
    const text = await readFile(file, 'utf8').catch(() => {
      throw new UsageError(`--text "${file}" cannot be read`, { flag: 'text', file })
    })
    const result = await evaluateModels({
      model: args[0]!,
      baseline: options.baseline as string | undefined,
      text,
      recipe: options.recipe as (typeof RECIPES)[number],
      window: options.window as number | undefined,
      stride: options.stride as number | undefined,
      limit: options.limit as number | undefined,
      precision: precisionOf(options, 'exact'),
      ...deviceOf(options),
      output,
      signal,
    })
    const against =
      result.kl === undefined
        ? ''
        : `\nKL ${result.kl.toPrecision(4)} nats, top-1 agreement ${(100 * result.top1!).toFixed(2)}% against ${options.baseline}`
    output.result(
      { ...result },
      `perplexity ${result.perplexity.toFixed(3)} (${result.tokens} predictions, recipe ${options.recipe}, nll ${result.nll.toFixed(5)})${against}`,
    )
  },
})
