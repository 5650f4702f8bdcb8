// `fewbit run MODEL TEXT`: continues a text, streaming; with --chat the text is a user's turn and the model's template is applied.
import { stream } from '../../generate/generate.ts'
import { command } from '../command.ts'
import { streamOptions, textModel } from '../generation.ts'
import { PRECISION_OPTIONS, RUN_OPTIONS, SAMPLING_OPTIONS } from '../options.ts'

export default command({
  summary: 'continue a text',
  arguments: [
    { name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' },
    { name: '<text>', description: 'the prompt' },
  ],
  options: [
    { flags: '--chat', description: "take the text as a user's turn: apply the model's chat template" },
    { flags: '--system <text>', description: 'a system message before it (with --chat)' },
    ...SAMPLING_OPTIONS,
    ...PRECISION_OPTIONS,
    ...RUN_OPTIONS,
  ],
  examples: [
    'fewbit run embedded "Once upon a time" --max-new-tokens 40',
    'fewbit run embedded "Tell me a story about a cat." --chat --temperature 0 --max-new-tokens 40',
  ],
  async run({ args, options, output, signal }) {
    const model = await textModel(args[0]!, options, output, signal)
    const { tokenizer } = model
    const messages = [
      ...(options.system ? [{ role: 'system', content: options.system }] : []),
      { role: 'user', content: args[1]! },
    ]
    const ids = options.chat
      ? tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })
      : tokenizer.encode(args[1]!)
    if (!options.chat) output.text(args[1]!)
    const started = performance.now()
    let text = ''
    let tokens = 0
    let finish: string | undefined
    for await (const piece of stream(model, ids, { ...streamOptions(options), signal })) {
      output.text(piece.text)
      text += piece.text
      tokens++
      finish = piece.finish ?? finish
    }
    output.text('\n')
    if (finish === 'context')
      output.event({
        event: 'warning',
        message: `stopped at the end of the model's context of ${model.contextLength} tokens`,
      })
    const elapsedMs = performance.now() - started
    output.result(
      { text, tokens, promptTokens: ids.length, finish, elapsedMs, tokensPerSecond: (tokens * 1000) / elapsedMs },
      '',
    )
    model.executable.dispose()
  },
})
