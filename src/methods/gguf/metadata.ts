// Key-values of a quantised file: those of the source, then what llama-quantize adds, in its order. A key that is set again moves to the end.
import { type GgufMetadata, type GgufValue, ggufString, ggufU32 } from '../../checkpoint/gguf/metadata.ts'
import type { Gguf } from './config.ts'
import { fileType } from './file-types.ts'

/** GGML_QNT_VERSION. */
const QUANTIZATION_VERSION = 2
/** llama-quantize keeps strings of its own in fields of 128 bytes. */
const MAX_TEXT_BYTES = 127

/** The metadata of the file that `config` makes of a file with `source`'s. */
export function quantizedMetadata(source: GgufMetadata, config: Gguf): Map<string, GgufValue> {
  const out = new Map([...source].filter(([key]) => !key.startsWith('split.')))
  const set = (key: string, value: GgufValue): void => {
    out.delete(key)
    out.set(key, value)
  }
  set('general.quantization_version', ggufU32(QUANTIZATION_VERSION))
  set('general.file_type', ggufU32(fileType(config.type).id))
  const { imatrix, importance, pre } = config
  const known = out.get('tokenizer.ggml.pre')
  if (pre !== null && !(known?.type === 'string' && known.value === pre)) set('tokenizer.ggml.pre', ggufString(pre))
  if (imatrix === null || !importance) return out
  set('quantize.imatrix.file', ggufString(cut(imatrix)))
  if (importance.dataset !== undefined) set('quantize.imatrix.dataset', ggufString(cut(importance.dataset)))
  set('quantize.imatrix.entries_count', ggufU32(importance.entries.size))
  if (importance.chunks > 0) set('quantize.imatrix.chunks_count', ggufU32(importance.chunks))
  return out
}

/** At most 127 bytes of UTF-8, whole characters. */
function cut(text: string): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(MAX_TEXT_BYTES))
  return text.slice(0, read)
}
