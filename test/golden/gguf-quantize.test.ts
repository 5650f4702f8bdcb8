// Whole files of llama-quantize: a float GGUF file goes through the engine and comes out with the reference's sha256.
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type GgufValue,
  ggufBool,
  ggufF32s,
  ggufI32s,
  ggufString,
  ggufStrings,
  ggufU32,
} from '../../src/checkpoint/gguf/metadata.ts'
import { localFiles, openFile } from '../../src/checkpoint/node/files.ts'
import { outputStore } from '../../src/checkpoint/node/output.ts'
import { openCheckpoint } from '../../src/checkpoint/open.ts'
import { gguf } from '../../src/methods/gguf/index.ts'
import { methodNamed } from '../../src/methods/index.ts'
import { MODEL_FAMILIES } from '../../src/models/auto.ts'
import { modelSource } from '../../src/models/source.ts'
import { quantizeModel } from '../../src/quantize/quantize.ts'
import { fixture } from '../support/fixtures.ts'

const FOLDER = fixture('gguf/models')
let out: string
beforeAll(async () => {
  out = await mkdtemp(join(tmpdir(), 'fewbit-gguf-'))
})
afterAll(() => rm(out, { recursive: true, force: true }))

const source = async (file: string) => modelSource(await openCheckpoint(await localFiles(join(FOLDER, file))))

const { models } = JSON.parse(await readFile(join(FOLDER, 'models.json'), 'utf8')) as {
  models: Record<string, { files: Record<string, { sha256: string; options: string[] | null }> }>
}
/** Names of models.json that are plain file types of this release. */
const TYPES = ['Q4_0', 'Q8_0', 'Q4_K_M', 'Q5_0', 'Q5_K_M', 'Q6_K', 'Q4_1', 'Q5_1', 'Q4_K_S', 'Q5_K_S']
const cases = Object.entries(models).flatMap(([model, { files }]) =>
  TYPES.filter((type) => files[type]).map((type) => [model, type, files[type].sha256] as const),
)

describe('quantising a float file', () => {
  test.each(cases)('%s as %s', async (model, type, sha256) => {
    const path = join(out, `${model}-${type}.gguf`)
    const flags = gguf.fromFlags({ type: type.toLowerCase() })
    const method = methodNamed('gguf')
    const float = await source(`${model}-f16.gguf`)
    const store = await outputStore(path, { force: false, single: true })
    const result = await quantizeModel(float, method, method.parseConfig(flags), store)
    expect(
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    ).toBe(sha256)
    const file = await openFile(path)
    expect(result).toMatchObject({ out: path, sizeBytes: file.size, resumed: 0 })
    await file.close()
    await float.checkpoint.close()
  })
})

interface Key {
  key: string
  types: string[]
  value?: unknown
}
const VALUES: Record<string, (value: never) => GgufValue> = {
  STRING: ggufString,
  UINT32: ggufU32,
  BOOL: ggufBool,
  'ARRAY STRING': ggufStrings,
  'ARRAY INT32': ggufI32s,
  'ARRAY FLOAT32': (value: (number | { value: number })[]) =>
    ggufF32s(value.map((v) => (typeof v === 'number' ? v : v.value))),
}

/** The tokenizer's key-values as the reference wrote them. */
function tokenizerKeys(keys: readonly Key[]): Map<string, GgufValue> {
  return new Map(
    keys
      .filter(({ key }) => key.startsWith('tokenizer.'))
      .map(({ key, types, value }) => [key, VALUES[types.join(' ')](value as never)]),
  )
}

const { hf } = JSON.parse(await readFile(join(FOLDER, 'models.json'), 'utf8')) as {
  hf: Record<string, { arch: string; outtypes: Record<string, { sha256: string; kv: Key[] }> }>
}
const families = MODEL_FAMILIES.flatMap((f) => f.modelTypes)
const conversions = Object.entries(hf)
  .filter(([, { arch }]) => families.includes(arch))
  .flatMap(([name, { outtypes }]) =>
    Object.entries(outtypes).map(([type, { sha256 }]) => [name, type, sha256] as const),
  )

describe('a model folder becomes the file of the reference converter', () => {
  test.each(conversions)('%s as %s', async (name, type, sha256) => {
    const path = join(out, `${name}-${type}.gguf`)
    const method = methodNamed('gguf')
    const model = await source(`hf/${name}`)
    const store = await outputStore(path, { force: false, single: true })
    const config = method.parseConfig(method.fromFlags({ type }))
    await quantizeModel(model, method, config, store, { ggufTokenizer: tokenizerKeys(hf[name].outtypes.f16.kv) })
    expect(
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    ).toBe(sha256)
    await model.checkpoint.close()
  })
})
