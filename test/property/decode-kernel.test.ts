// decodeWith: the compiled decoders give exactly the values of decode(), for every scheme, grouping, arithmetic and target, on both doors.
import { expect, test } from 'vitest'
import { elementCount, type FloatDType } from '../../src/core/dtypes.ts'
import { fromFloat32 } from '../../src/core/half.ts'
import { decodeWith } from '../../src/weights/decode-kernel.ts'
import { decode } from '../../src/weights/weight.ts'
import { DOORS } from '../support/doors.ts'
import { schemeSamples } from '../support/scheme-samples.ts'

/** More elements than a unit of the kernels, in rows that no unit is a multiple of. */
const SAMPLES = schemeSamples([37, 256]).map(({ name, weight }) => [name, weight] as const)
const TARGETS: readonly FloatDType[] = ['F32', 'F16', 'BF16']

for (const [door, kernels] of DOORS)
  test.each(SAMPLES)(`${door}: %s`, async (_name, weight) => {
    for (const target of TARGETS)
      for (const arithmetic of TARGETS) {
        const found = await decodeWith(kernels, weight, target, arithmetic)
        const expected = fromFloat32(decode(weight, 0, elementCount(weight.shape), arithmetic), target)
        expect(Buffer.from(found.data).equals(expected), `${target} by ${arithmetic}`).toBe(true)
      }
  })
