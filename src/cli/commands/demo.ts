// `fewbit demo`: the main job on the embedded model.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openBackend } from '../../backends/index.ts'
import { localFiles } from '../../checkpoint/node/files.ts'
import { outputStore } from '../../checkpoint/node/output.ts'
import { openCheckpoint } from '../../checkpoint/open.ts'
import { perplexity } from '../../evaluate/perplexity.ts'
import { evaluationIds } from '../../evaluate/text.ts'
import { generateIds } from '../../generate/generate.ts'
import { methodNamed } from '../../methods/index.ts'
import { type ModelSource, modelSource } from '../../models/source.ts'
import { quantizeModel } from '../../quantize/quantize.ts'
import { tokenizerFromJson } from '../../text/tokenizer.ts'
import { EMBEDDED_MODEL, EVALUATION_TEXT } from '../paths.ts'

/** Windows of 512 tokens that the demo evaluates. */
const WINDOWS = 1

async function open(path: string): Promise<ModelSource> {
  return modelSource(await openCheckpoint(await localFiles(path)))
}

export async function demo(): Promise<void> {
  const tokenizer = tokenizerFromJson(
    await readFile(join(EMBEDDED_MODEL, 'tokenizer.json'), 'utf8'),
    await readFile(join(EMBEDDED_MODEL, 'tokenizer_config.json'), 'utf8'),
  )
  const ids = evaluationIds(await readFile(EVALUATION_TEXT, 'utf8'), tokenizer, 2).slice(0, 512 * WINDOWS)
  const float = await open(EMBEDDED_MODEL)
  const method = methodNamed('bitsandbytes')
  const out = 'fewbit-demo/nf4'
  const config = method.parseConfig(method.fromFlags({ bits: 4 }))
  const result = await quantizeModel(float, method, config, await outputStore(out, { force: true }))
  console.log(
    `NF4: ${(result.sizeBytes / 1e6).toFixed(1)} MB, ${result.bitsPerWeight.toFixed(2)} bits a weight, ${result.quantized} tensors quantised`,
  )
  const backend = await openBackend('reference')
  for (const [name, source] of [
    ['float', float],
    ['nf4', await open(out)],
  ] as const) {
    const model = await backend.compile(source.graph, source.load, { precision: 'exact', threads: 1 })
    const { perplexity: ppl, tokens } = await perplexity(model, ids)
    const text: number[] = []
    for await (const id of generateIds(model, tokenizer.encode('Once upon a time'), {
      maxNewTokens: 24,
      eosIds: [0, 2],
    }))
      text.push(id)
    console.log(
      `${name}: perplexity ${ppl.toFixed(3)} on ${tokens} tokens; "Once upon a time${tokenizer.decode(text)}"`,
    )
    await source.checkpoint.close()
  }
}
