// `fewbit logits MODEL --ids 5,7,9 -o FILE`: logits f32 [B, T, V] as a safetensors file.
import { prepareModel } from '../../api/prepare.ts'
import { rowsOf } from '../../backends/batch.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { safetensorsHeader } from '../../checkpoint/safetensors.ts'
import { UsageError } from '../../core/errors.ts'
import { command } from '../command.ts'
import { idList, PRECISION_OPTIONS, precisionOf, RUN_OPTIONS, repeated } from '../options.ts'
import { deviceOf, openSource } from '../session.ts'

/** Checks ids against the vocabulary and the lengths against each other. */
export function checkIds(lists: readonly (readonly number[])[], vocabSize: number): void {
  for (const ids of lists) {
    if (ids.length !== lists[0].length) {
      throw new UsageError(`--ids lists have ${lists[0].length} and ${ids.length} ids, expected equal lengths`, {
        expected: lists[0].length,
        actual: ids.length,
      })
    }
    const wrong = ids.find((id) => id >= vocabSize)
    if (wrong !== undefined)
      throw new UsageError(`Id ${wrong} is outside the vocabulary of ${vocabSize}`, {
        actual: wrong,
        expected: `0 to ${vocabSize - 1}`,
      })
  }
}

export default command({
  summary: 'logits of token ids, as a safetensors file',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [
    {
      flags: '--ids <list>',
      description: 'token ids, comma-separated; repeatable, equal lengths',
      parse: repeated(idList),
    },
    { flags: '-o, --out <file>', description: 'the safetensors file to write: tensor "logits", f32 [B, T, V]' },
    { flags: '--force', description: 'replace what is there' },
    ...PRECISION_OPTIONS,
    ...RUN_OPTIONS,
  ],
  examples: ['fewbit logits embedded --ids 5,7,9 --exact -o logits.safetensors'],
  async run({ args, options, output, signal }) {
    const lists = options.ids as number[][] | undefined
    const out = options.out as string | undefined
    if (!lists?.length)
      throw new UsageError('--ids is missing: token ids separated by commas', { hint: 'fewbit logits --help' })
    if (!out) throw new UsageError('-o FILE is missing: where to write the logits', { hint: 'fewbit logits --help' })
    const source = await openSource(args[0]!, output)
    const vocabulary = source.config.vocabSize
    checkIds(lists, vocabulary)
    const store = await outputStore(out, { force: Boolean(options.force), single: true })
    const model = await prepareModel(source, {
      ...deviceOf(options),
      precision: precisionOf(options, 'exact'),
      onEvent: output.event,
      signal,
    })
    const shape = [lists.length, lists[0].length, vocabulary]
    const { header } = safetensorsHeader([{ name: 'logits', dtype: 'F32', shape }], new Map())
    const sink = await store.create(out.split(/[\\/]/).at(-1)!)
    await sink.write(header)
    for (const ids of lists) {
      signal.throwIfAborted()
      model.truncate(0, 0)
      const logits = await model.run(rowsOf(ids, 0, 'all'))
      await sink.write(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength))
    }
    await sink.close()
    await store.commit()
    model.dispose()
    await source.checkpoint.close()
    output.result({ out, shape }, `${out}: logits f32 [${shape.join(', ')}]`)
  },
})
