// The commands by name. Summaries stand here so that `fewbit --help` loads none of them.
import type { CommandSpec } from './command.ts'

interface Entry {
  readonly summary: string
  load(): Promise<{ default: CommandSpec }>
}

export const COMMANDS: Readonly<Record<string, Entry>> = {
  demo: {
    summary: 'quantise the embedded model with every method and compare: a table and an HTML report',
    load: () => import('./commands/demo.ts'),
  },
  quantize: {
    summary: "make a model smaller, in the files of the method's own ecosystem",
    load: () => import('./commands/quantize.ts'),
  },
  convert: {
    summary: 'a float folder, or a GGUF file, of any model that fewbit reads',
    load: () => import('./commands/convert.ts'),
  },
  run: { summary: 'continue a text', load: () => import('./commands/run.ts') },
  chat: { summary: 'talk with a model', load: () => import('./commands/chat.ts') },
  eval: {
    summary: 'perplexity, and KL divergence and top-1 agreement against a baseline',
    load: () => import('./commands/eval.ts'),
  },
  imatrix: {
    summary: 'how much each input column matters, for GGUF quantisation with --imatrix',
    load: () => import('./commands/imatrix.ts'),
  },
  inspect: {
    summary: 'what is in a model or file: tensors, schemes, config, odd things',
    load: () => import('./commands/inspect.ts'),
  },
  explain: {
    summary: 'what quantising or running would do, before a byte is read',
    load: () => import('./commands/explain.ts'),
  },
  logits: { summary: 'logits of token ids, as a safetensors file', load: () => import('./commands/logits.ts') },
  bench: {
    summary: 'prompt and decode speed, load time and memory on this machine',
    load: () => import('./commands/bench.ts'),
  },
  methods: { summary: 'the registered methods and what each can do', load: () => import('./commands/methods.ts') },
  doctor: { summary: 'what this machine has, and which kernels are used', load: () => import('./commands/doctor.ts') },
}
