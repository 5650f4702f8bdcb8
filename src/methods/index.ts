// The registry: one line a method.
import { UsageError } from '../core/errors.ts'
import { aqlm } from './aqlm/index.ts'
import { awq } from './awq/index.ts'
import { bitsandbytes } from './bitsandbytes/index.ts'
import { eetq } from './eetq/index.ts'
import { gguf } from './gguf/index.ts'
import { hqq } from './hqq/index.ts'
import { quanto } from './quanto/index.ts'
import type { Method } from './types.ts'

const METHODS = new Map<string, Method>()

/** Adds a method, built in or one's own. A second one of the same name is an error. */
export function registerMethod<C, S>(method: Method<C, S>): void {
  if (METHODS.has(method.name))
    throw new UsageError(`Method "${method.name}" is registered already`, { method: method.name })
  METHODS.set(method.name, method as unknown as Method)
}

registerMethod(aqlm)
registerMethod(awq)
registerMethod(bitsandbytes)
registerMethod(eetq)
registerMethod(gguf)
registerMethod(hqq)
registerMethod(quanto)

/** All methods in the order of registration. */
export function methods(): readonly Method[] {
  return [...METHODS.values()]
}

/** The method called `name`. Throws UsageError listing what is registered. */
export function methodNamed(name: string): Method {
  const found = METHODS.get(name)
  if (!found)
    throw new UsageError(`Unknown method "${name}": registered are ${[...METHODS.keys()].join(', ')}`, {
      method: name,
      hint: 'fewbit methods',
    })
  return found
}
