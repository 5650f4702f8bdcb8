// The fixture models of every family on the compiled backends: the same cases and the same tolerances as on the reference.
import { describe } from 'vitest'
import { familySuite } from '../support/family-suite.ts'

describe.each(['cpu', 'wasm'])('%s', (device) => {
  familySuite(device)
})
