// The files of a model that are not its weights: config.json edited without loss, everything else copied.
import { TORCH_INDEX } from '../checkpoint/pickle/torch.ts'
import { INDEX_FILE, SINGLE_FILE } from '../checkpoint/shards.ts'
import type { ByteSink, FileSet, OutputStore } from '../checkpoint/types.ts'
import { type JsonObject, writeJson } from '../core/json.ts'
import { Conveyor, type Route } from './conveyor.ts'

/** Weights of any framework, and what belongs to them. */
const WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt|pkl|gguf|h5|msgpack|onnx|onnx_data|ot|tflite|npz)$|\.index\.json$/

/** Creates a file, lets `fill` write it, and closes it, also where that fails. */
export async function writeFile(
  output: OutputStore,
  name: string,
  fill: (sink: ByteSink) => Promise<void>,
): Promise<void> {
  const sink = await output.create(name)
  try {
    await fill(sink)
  } catch (e) {
    await sink.close().catch(() => undefined) // the first error is the one to report
    throw e
  }
  await sink.close()
}

/** Writes a file of text. */
export async function writeText(output: OutputStore, name: string, text: string): Promise<void> {
  await writeFile(output, name, (sink) => sink.write(new TextEncoder().encode(text)))
}

/** config.json as the reference writes it: sorted keys, indent 2, final newline; numbers keep their spelling. */
export async function writeConfig(output: OutputStore, config: JsonObject): Promise<void> {
  await writeText(output, 'config.json', `${writeJson(config)}\n`)
}

/** Copies one file in pieces, under another name if `to` says so. */
export async function copyFile(files: FileSet, name: string, output: OutputStore, to = name): Promise<void> {
  const from = await files.open(name)
  try {
    await writeFile(output, to, (sink) => {
      const route: Route = {
        bytes: from.size,
        read: (at, end, into) => from.read(at, end - at, into),
        write: (at, piece) => sink.writeAt(at, piece),
      }
      return new Conveyor().move([route])
    })
  } finally {
    await from.close()
  }
}

/** The one folder that belongs to a model in Hugging Face form: templates by name. */
const TEMPLATES = 'additional_chat_templates'

/** Copies generation_config.json, the tokenizer and whatever else lies beside the weights, except config.json and `others`. */
export async function copyOtherFiles(
  files: FileSet,
  output: OutputStore,
  others: readonly string[] = [],
): Promise<void> {
  for (const name of await files.list())
    if (name !== 'config.json' && !others.includes(name) && !WEIGHTS.test(name)) await copyFile(files, name, output)
  const templates = await files.folder?.(TEMPLATES)
  if (!templates) return
  for (const name of await templates.list()) await copyFile(templates, name, output, `${TEMPLATES}/${name}`)
}

/** Copies a folder in Hugging Face form as it is: its shards, index, config.json and all other files. */
export async function copyFolder(files: FileSet, weights: readonly string[], output: OutputStore): Promise<void> {
  const own = [...weights, 'config.json']
  if (!weights.includes(SINGLE_FILE)) own.push(INDEX_FILE, TORCH_INDEX)
  for (const name of own) if (await files.has(name)) await copyFile(files, name, output)
  await copyOtherFiles(files, output)
}
