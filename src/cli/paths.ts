// Where the embedded model and its data lie, from the source tree and from the built package alike.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'models', 'stories-7m'))) folder = dirname(folder)
  return folder
}

export const EMBEDDED_MODEL: string = join(packageRoot(), 'models', 'stories-7m')
export const EVALUATION_TEXT: string = join(packageRoot(), 'models', 'data', 'eval.txt')
