// What a suite has walked, to be compared with what the records claim, and what it skipped, to be printed.
import type { Method } from '../../src/methods/types.ts'
import type { Scheme } from '../../src/weights/scheme.ts'

/** Bits of a weight's codes; what scales and zeros cost is not counted. */
export function widthOf(scheme: Scheme): number {
  switch (scheme.kind) {
    case 'dense':
      return { F64: 64, F32: 32, F16: 16, BF16: 16 }[scheme.dtype]
    case 'affine':
    case 'lookup':
      return scheme.bits
    case 'superblock':
      return Number(/\d+/.exec(scheme.type)![0])
    case 'additive':
      return (scheme.bits * scheme.codebooks) / (scheme.group.out * scheme.group.in)
    default:
      return scheme satisfies never
  }
}

/** Claims of one method that a walk has shown. */
export class Walked {
  readonly bits = new Set<number>()
  readonly devices = new Set<string>()
  onTheFly = false
  serialisable = false

  /** The same fields of the record, in the same form, without the devices that could not be walked here. */
  static claims({ capabilities }: Method, missing: readonly string[]): unknown {
    const { bits, devices, onTheFly, serialisable } = capabilities
    return {
      bits: [...bits].sort(rising),
      devices: devices.filter((d) => !missing.includes(d)).sort(),
      onTheFly,
      serialisable,
    }
  }

  shown(): unknown {
    const { onTheFly, serialisable } = this
    return { bits: [...this.bits].sort(rising), devices: [...this.devices].sort(), onTheFly, serialisable }
  }
}

const rising = (a: number, b: number) => a - b

/** Reasons for what was not walked, with the cases that they stand for. */
export class Skips {
  private readonly cases = new Map<string, string[]>()

  add(reason: string, name: string): void {
    const list = this.cases.get(reason)
    if (list) list.push(name)
    else this.cases.set(reason, [name])
  }

  print(): void {
    for (const [reason, names] of this.cases) console.log(`skipped: ${names.join('; ')}: ${reason}`)
  }
}
