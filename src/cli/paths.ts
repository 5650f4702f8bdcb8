// Where the package lies, and the embedded model and its data in it: from the source tree and from the built package alike.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'models', 'stories-7m')) && folder !== dirname(folder)) folder = dirname(folder)
  return folder
}

export const PACKAGE_ROOT: string = packageRoot()
export const EMBEDDED_MODEL: string = join(PACKAGE_ROOT, 'models', 'stories-7m')
export const EVALUATION_TEXT: string = join(PACKAGE_ROOT, 'models', 'data', 'eval.txt')

export const CALIBRATION_CHATS: string = join(PACKAGE_ROOT, 'models', 'data', 'calibration.json')

/** What the user typed for MODEL as a path: `embedded` is the model that comes with fewbit. */
export function modelPath(name: string): string {
  return name === 'embedded' ? EMBEDDED_MODEL : name
}

/** Version of this package. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as { version: string }).version
}
