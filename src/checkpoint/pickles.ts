// Pickles run code when they are loaded, so fewbit does not read them: it says what was found and how to get safetensors from it.
import { FileError } from '../core/errors.ts'

const PICKLE_NAME = /\.(bin|pt|pth|ckpt|pkl|pickle)$/

export function isPickleName(name: string): boolean {
  return PICKLE_NAME.test(name)
}

/** True for the first bytes of a torch archive (a zip) or of a bare pickle of protocol 2 to 5. */
export function looksLikePickle(head: Uint8Array): boolean {
  const zip = head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4
  return zip || (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5)
}

/** The refusal, with the way out that fits the file. */
export function pickleError(folder: string, name: string, found: readonly string[] = [name]): FileError {
  const fromHqq = name.endsWith('qmodel.pt')
  const hint = fromHqq
    ? "load it with the hqq package, then save the model with transformers' save_pretrained, which writes safetensors"
    : `python -c "from transformers import AutoModelForCausalLM as A; A.from_pretrained('${folder}').save_pretrained('${folder}-safetensors')"`
  return new FileError(
    `Cannot open "${folder}": "${name}" is a pickle, which can run code when it is loaded; fewbit reads safetensors and GGUF`,
    { file: name, found: found.slice(0, 20), expected: 'model.safetensors', hint },
  )
}
