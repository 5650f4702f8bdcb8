// Tables for people: one place that knows how they look. Numbers are right-aligned.
import Table from 'cli-table3'

const PLAIN = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
}

/** A table without lines. A column is right-aligned where all its cells look like numbers. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const numeric = head.map(
    (_, c) => rows.length > 0 && rows.every((row) => /^[\d.,\-+%x ]*(?:[kMG]?B|s|ms|min)?$/.test(row[c])),
  )
  const made = new Table({
    head: [...head],
    chars: PLAIN,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: numeric.map((yes) => (yes ? 'right' : 'left')),
  })
  for (const row of rows) made.push([...row])
  return made.toString().replace(/ +$/gm, '')
}
