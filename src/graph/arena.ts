// Places values in one arena by first and last use, so that none lies over a value that is still to be read.

/** Values start at multiples of this many floats (64 bytes). */
const ALIGN = 16

interface Hole {
  readonly offset: number
  readonly size: number
}

export class Arena {
  private readonly free: Hole[] = []
  private top = 0

  /** Floats a row of the whole arena. */
  get size(): number {
    return this.top
  }

  /** Offset of a new value of `width` floats a row: the first hole that is large enough, else the top. */
  take(width: number): number {
    const size = roundedUp(width)
    const at = this.free.findIndex((hole) => hole.size >= size)
    if (at < 0) {
      this.top += size
      return this.top - size
    }
    const hole = this.free[at]
    if (hole.size === size) this.free.splice(at, 1)
    else this.free[at] = { offset: hole.offset + size, size: hole.size - size }
    return hole.offset
  }

  /** Gives a value back; its hole is joined with its neighbours. */
  release(offset: number, width: number): void {
    const { free } = this
    free.push({ offset, size: roundedUp(width) })
    free.sort((a, b) => a.offset - b.offset)
    for (let i = free.length - 1; i > 0; i--) {
      if (free[i - 1].offset + free[i - 1].size !== free[i].offset) continue
      free[i - 1] = { offset: free[i - 1].offset, size: free[i - 1].size + free[i].size }
      free.splice(i, 1)
    }
  }
}

function roundedUp(width: number): number {
  return Math.ceil(width / ALIGN) * ALIGN
}
