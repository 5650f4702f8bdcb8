// `fewbit chat MODEL`: a conversation in the terminal. Lines come from stdin where it is no terminal, so that it can be scripted.
import { createInterface } from 'node:readline/promises'
import pc from 'picocolors'
import { stream } from '../../generate/generate.ts'
import { Sequences } from '../../generate/sequences.ts'
import type { ChatMessage } from '../../text/types.ts'
import { command } from '../command.ts'
import { streamOptions, textModel } from '../generation.ts'
import { PRECISION_OPTIONS, RUN_OPTIONS, SAMPLING_OPTIONS } from '../options.ts'

const HELP = '/reset forgets the conversation, /exit (or Ctrl-D) leaves'

export default command({
  summary: 'talk with a model',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [
    { flags: '--system <text>', description: 'a system message' },
    ...SAMPLING_OPTIONS,
    ...PRECISION_OPTIONS,
    ...RUN_OPTIONS,
  ],
  examples: ['echo "Tell me about a dog." | fewbit chat embedded --max-new-tokens 30'],
  async run({ args, options, output, signal }) {
    const model = await textModel(args[0]!, options, output, signal)
    const start: ChatMessage[] = options.system ? [{ role: 'system', content: options.system }] : []
    let messages = [...start]
    const sequences = new Sequences(model.executable, model.recomputeFrom)
    const terminal = process.stdin.isTTY
    const lines = createInterface({
      input: process.stdin,
      output: terminal ? process.stdout : undefined,
      terminal,
      signal,
    })
    if (terminal) output.text(`${pc.dim(HELP)}\n`)
    const prompt = () => terminal && lines.setPrompt(pc.cyan('> '))
    prompt()
    if (terminal) lines.prompt()
    for await (const raw of lines) {
      const line = raw.trim()
      if (line === '/exit') break
      if (line === '/reset') messages = [...start]
      else if (line === '/help') output.text(`${HELP}\n`)
      else if (line) {
        messages.push({ role: 'user', content: line })
        const ids = model.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })
        let reply = ''
        for await (const piece of stream(model, ids, { ...streamOptions(options), signal, sequences })) {
          output.text(piece.text)
          reply += piece.text
          if (piece.finish === 'context')
            output.event({ event: 'warning', message: "the model's context is full: /reset starts anew" })
        }
        output.text('\n')
        messages.push({ role: 'assistant', content: reply })
      }
      if (terminal) lines.prompt()
    }
    lines.close()
    output.result({ messages }, '')
    model.executable.dispose()
  },
})
