// Charts as SVG text: colours are CSS variables of the page, so that they follow dark, light and print. No script.

export interface Point {
  readonly label: string
  readonly x: number
  readonly y: number
  /** Index of the series colour. */
  readonly series: number
}

export interface Axis {
  readonly title: string
  readonly format: (value: number) => string
}

const WIDTH = 560
const HEIGHT = 370
const LEFT = 60
const RIGHT = 24
const TOP = 20
const BOTTOM = 52

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!)
}

/** Round steps 1, 2, 5 x 10^n that give about `count` ticks over [0, max]. */
export function ticks(max: number, count = 5): number[] {
  if (!(max > 0)) return [0]
  const rough = max / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough)!
  return Array.from({ length: Math.floor(max / step + 1e-9) + 1 }, (_, i) => i * step)
}

/** Powers of ten that span the values. */
function decades(values: readonly number[]): number[] {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  return Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
}

interface Box {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

const overlaps = (a: Box, b: Box) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height

interface Placed {
  readonly x: number
  readonly y: number
  readonly anchor: 'start' | 'middle' | 'end'
  /** Far from its point: a line leads there. */
  readonly isFar: boolean
}

/** Directions in which a label is looked for, to the right first, and distances from its point. */
const ANGLES = [0, 180, 270, 90, 315, 45, 225, 135].map((degrees) => (degrees * Math.PI) / 180)
const DISTANCES = [10, 24, 40, 58]
const LABEL = { height: 14, rise: 11, letter: 7.4 } as const

/** A place for each label near its point, as close as the other labels and points allow. */
function placeLabels(points: readonly { x: number; y: number; label: string }[]): Placed[] {
  const taken: Box[] = points.map((p) => ({ x: p.x - 7, y: p.y - 7, width: 14, height: 14 }))
  const crowd = (p: { x: number; y: number }) => points.filter((q) => Math.hypot(p.x - q.x, p.y - q.y) < 60).length
  const order = points.map((_, i) => i).sort((a, b) => crowd(points[b]) - crowd(points[a]))
  const placed: Placed[] = []
  for (const i of order) {
    const { label, ...point } = points[i]
    const tries = DISTANCES.flatMap((distance) => ANGLES.map((angle) => placeAt(point, distance, angle)))
    const fits = (place: Placed) => {
      const box = boxOf(place, label)
      const isInside =
        box.x > LEFT && box.x + box.width < WIDTH - 2 && box.y > 0 && box.y + box.height < HEIGHT - BOTTOM
      return isInside && !taken.some((other) => overlaps(box, other))
    }
    placed[i] = tries.find(fits) ?? tries[0]
    taken.push(boxOf(placed[i], label))
  }
  return placed
}

function placeAt(point: { x: number; y: number }, distance: number, angle: number): Placed {
  const dx = Math.cos(angle) * distance
  const dy = Math.sin(angle) * distance
  const anchor = Math.abs(dx) < 1 ? 'middle' : dx > 0 ? 'start' : 'end'
  return { x: point.x + dx, y: point.y + dy + 4, anchor, isFar: distance > DISTANCES[0] }
}

function boxOf({ x, y, anchor }: Placed, label: string): Box {
  const width = label.length * LABEL.letter
  const left = x - (anchor === 'end' ? width : anchor === 'middle' ? width / 2 : 0)
  return { x: left, y: y - LABEL.rise, width, height: LABEL.height }
}

/** Points over a linear x and a logarithmic y axis; smaller is better on both, the corner at the lower left. */
export function scatter(points: readonly Point[], x: Axis, y: Axis, title: string): string {
  const [minX, maxX] = [Math.min(...points.map((p) => p.x)) * 0.85, Math.max(...points.map((p) => p.x)) * 1.08]
  const yTicks = decades(points.map((p) => p.y))
  const [low, high] = [Math.log10(yTicks[0]), Math.log10(yTicks.at(-1)!)]
  const px = (v: number) => LEFT + ((v - minX) / (maxX - minX)) * (WIDTH - LEFT - RIGHT)
  const py = (v: number) => HEIGHT - BOTTOM - ((Math.log10(v) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)
  const placed = points.map((p) => ({ ...p, x: px(p.x), y: py(p.y) }))
  const labels = placeLabels(placed)
  const grid = [
    ...ticks(maxX, 8)
      .filter((v) => v >= minX)
      .map(
        (v) =>
          `<line x1="${px(v)}" y1="${TOP}" x2="${px(v)}" y2="${HEIGHT - BOTTOM}" class="grid"/><text x="${px(v)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${x.format(v)}</text>`,
      ),
    ...yTicks.map(
      (v) =>
        `<line x1="${LEFT}" y1="${py(v)}" x2="${WIDTH - RIGHT}" y2="${py(v)}" class="grid"/><text x="${LEFT - 8}" y="${py(v) + 4}" text-anchor="end">${y.format(v)}</text>`,
    ),
  ]
  const marks = placed.map((p, i) => {
    const { x: lx, y: ly, anchor, isFar } = labels[i]
    const name = escapeHtml(p.label)
    const end = anchor !== 'middle' ? ly - 4 : ly < p.y ? ly + 3 : ly - LABEL.rise
    const line = isFar
      ? `<path d="M${p.x.toFixed(1)} ${p.y.toFixed(1)}L${lx.toFixed(1)} ${end.toFixed(1)}" class="lead"/>`
      : ''
    return `${line}<circle cx="${p.x.toFixed(1)}" cy="${p.y.toFixed(1)}" r="5.5" class="s${p.series}"/><text x="${lx.toFixed(1)}" y="${ly.toFixed(1)}" text-anchor="${anchor}" class="label">${name}</text>`
  })
  const titles =
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle" class="axis">${escapeHtml(x.title)}</text>` +
    `<text transform="translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" class="axis">${escapeHtml(y.title)}</text>`
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">${grid.join('')}${titles}${marks.join('')}</svg>`
}

export interface Bar {
  readonly label: string
  readonly value: number
  readonly series: number
}

const BAR = 24
const NAME = 112

/** Horizontal bars from zero, each with its value at its end. */
export function bars(rows: readonly Bar[], format: (value: number) => string, title: string): string {
  const height = rows.length * BAR + 8
  const max = Math.max(...rows.map((r) => r.value), 1e-9)
  const scale = (WIDTH - NAME - 64) / max
  const marks = rows.map((row, i) => {
    const y = i * BAR + 4
    const width = Math.max(1, row.value * scale)
    return (
      `<text x="${NAME - 8}" y="${y + 14}" text-anchor="end" class="label">${escapeHtml(row.label)}</text>` +
      `<rect x="${NAME}" y="${y + 2}" width="${width.toFixed(1)}" height="${BAR - 8}" rx="2" class="s${row.series}"/>` +
      `<text x="${(NAME + width + 6).toFixed(1)}" y="${y + 14}">${format(row.value)}</text>`
    )
  })
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeHtml(title)}">${marks.join('')}</svg>`
}
