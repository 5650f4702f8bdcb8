// Which files of a hub repository make a model: one kind of weights, and what lies beside them.
import { FileError } from '../core/errors.ts'

/** A model on the hub: `owner/name`, perhaps `@revision`, perhaps `:part of a GGUF file's name`. */
export interface HubModel {
  readonly id: string
  readonly revision: string
  /** Chooses among the GGUF files of a repository, e.g. `q4_k_m`. */
  readonly gguf?: string
}

const ID = /^(?:hub:)?([A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?(?::([\w.-]+))?$/

/** `owner/name`, where a local path is not meant by its form; `hub:owner/name` always is one. */
export function parseHubModel(location: string): HubModel | undefined {
  const match = ID.exec(location)
  return match ? { id: match[1], revision: match[2] ?? 'main', gguf: match[3] } : undefined
}

/** Weights of other frameworks, and what nobody needs to run a model. */
const OTHER = /\.(h5|msgpack|onnx|onnx_data|ot|tflite|npz|pth|ckpt|md|png|jpe?g|gif|svg|pdf|zip)$|^\.git/i
const TEMPLATES = 'additional_chat_templates/'

/** The paths to fetch. Throws FileError where the repository holds no weights, or several GGUF files and none is chosen. */
export function filesOfModel(paths: readonly string[], model: HubModel): string[] {
  const root = paths.filter((path) => !path.includes('/') || path.startsWith(TEMPLATES))
  const side = root.filter((path) => !OTHER.test(path) && !/\.(safetensors|bin|pt|gguf)(\.index\.json)?$/.test(path))
  const kinds = [/\.safetensors(\.index\.json)?$/, /^pytorch_model.*\.bin(\.index\.json)?$/, /\.pt$/]
  const weights = kinds.map((kind) => root.filter((path) => kind.test(path))).find((found) => found.length > 0)
  if (weights && !model.gguf) return [...side, ...weights.filter((path) => !/adapter/.test(path))]
  return [...side, ...ggufFiles(paths, model)]
}

function ggufFiles(paths: readonly string[], { id, gguf }: HubModel): string[] {
  const all = paths.filter((path) => path.endsWith('.gguf') && !path.includes('/'))
  const wanted = gguf === undefined ? all : all.filter((path) => path.toLowerCase().includes(gguf.toLowerCase()))
  const models = new Set(wanted.map((path) => path.replace(/-\d{5}-of-\d{5}\.gguf$/, '')))
  if (models.size === 1) return wanted
  const problem = wanted.length === 0 ? 'it holds no weights that fewbit reads' : `it holds ${models.size} GGUF models`
  throw new FileError(`Cannot load "${id}" from the hub: ${problem}`, {
    file: id,
    found: (all.length > 0 ? all : paths).slice(0, 20),
    hint:
      all.length > 0
        ? `name one, e.g. ${id}:${quantOf(all[0])}`
        : 'fewbit reads safetensors, GGUF and files of torch.save',
  })
}

/** `model-Q4_K_M.gguf` -> `Q4_K_M`. */
function quantOf(path: string): string {
  return (
    path
      .replace(/\.gguf$/, '')
      .split(/[.-]/)
      .at(-1) ?? path
  )
}
