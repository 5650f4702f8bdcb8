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

/** A place for each label beside its point, tried around it until it meets no other label or point. */
function placeLabels(
  points: readonly { x: number; y: number; label: string }[],
): { x: number; y: number; anchor: string }[] {
  const taken: Box[] = points.map((p) => ({ x: p.x - 6, y: p.y - 6, width: 12, height: 12 }))
  return points.map((p) => {
    const width = p.label.length * 8.6
    const tries = [
      [10, 4, 'start'],
      [-10, 4, 'end'],
      [0, -12, 'middle'],
      [0, 20, 'middle'],
      [10, -10, 'start'],
      [10, 18, 'start'],
      [-10, -10, 'end'],
      [-10, 18, 'end'],
      [10, 32, 'start'],
      [10, -26, 'start'],
    ] as const
    const boxOf = ([dx, dy, anchor]: (typeof tries)[number]): Box => {
      const x = p.x + dx - (anchor === 'end' ? width : anchor === 'middle' ? width / 2 : 0)
      return { x, y: p.y + dy - 11, width, height: 14 }
    }
    const fits = (box: Box) =>
      box.x > LEFT && box.x + box.width < WIDTH - 4 && box.y > 0 && box.y + box.height < HEIGHT - BOTTOM
    const chosen = tries.find((t) => fits(boxOf(t)) && !taken.some((other) => overlaps(boxOf(t), other))) ?? tries[0]
    taken.push(boxOf(chosen))
    return { x: p.x + chosen[0], y: p.y + chosen[1], anchor: chosen[2] }
  })
}

/** Points over a linear x and a logarithmic y axis; smaller is better on both, the corner at the lower left. */
export function scatter(points: readonly Point[], x: Axis, y: Axis, title: string): string {
  const maxX = Math.max(...points.map((p) => p.x)) * 1.08
  const yTicks = decades(points.map((p) => p.y))
  const [low, high] = [Math.log10(yTicks[0]), Math.log10(yTicks.at(-1)!)]
  const px = (v: number) => LEFT + (v / maxX) * (WIDTH - LEFT - RIGHT)
  const py = (v: number) => HEIGHT - BOTTOM - ((Math.log10(v) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)
  const placed = points.map((p) => ({ ...p, x: px(p.x), y: py(p.y) }))
  const labels = placeLabels(placed)
  const grid = [
    ...ticks(maxX).map(
      (v) =>
        `<line x1="${px(v)}" y1="${TOP}" x2="${px(v)}" y2="${HEIGHT - BOTTOM}" class="grid"/><text x="${px(v)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${x.format(v)}</text>`,
    ),
    ...yTicks.map(
      (v) =>
        `<line x1="${LEFT}" y1="${py(v)}" x2="${WIDTH - RIGHT}" y2="${py(v)}" class="grid"/><text x="${LEFT - 8}" y="${py(v) + 4}" text-anchor="end">${y.format(v)}</text>`,
    ),
  ]
  const marks = placed.map((p, i) => {
    const { x: lx, y: ly, anchor } = labels[i]
    const name = escapeHtml(p.label)
    return `<circle cx="${p.x.toFixed(1)}" cy="${p.y.toFixed(1)}" r="5.5" class="s${p.series}"/><text x="${lx.toFixed(1)}" y="${ly.toFixed(1)}" text-anchor="${anchor}" class="label">${name}</text>`
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
