// One line on a terminal that is rewritten in place: bar, share, rate, time left.
import type { ProgressEvent } from '../core/events.ts'

/** Redraws a second at most, so that drawing never costs. */
const REDRAW_MS = 80
const WIDTH = 24

/** `1.23 GB`, `45 MB`, `3 kB`: decimal units, as disks and downloads count. */
export function formatBytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`
  return bytes >= 1e3 ? `${(bytes / 1e3).toFixed(1)} kB` : `${bytes} B`
}

export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  const minutes = Math.floor(seconds / 60)
  return minutes < 60
    ? `${minutes} min ${Math.round(seconds % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

const numberOf = (value: unknown) => (typeof value === 'number' ? value : undefined)
const formatLeft = (seconds: number | undefined) => (seconds === undefined ? '...' : formatSeconds(seconds))

export class ProgressLine {
  private shown = false
  private name = ''
  private startedAt = 0
  private drawnAt = 0
  private readonly stream: NodeJS.WriteStream
  constructor(stream: NodeJS.WriteStream) {
    this.stream = stream
  }

  step(name: string): void {
    this.clear()
    this.name = ''
    this.stream.write(`${name}\n`)
  }

  update(event: ProgressEvent): void {
    const now = performance.now()
    if (event.name !== this.name) {
      this.name = event.name
      this.startedAt = now
      this.drawnAt = 0
    }
    if (now - this.drawnAt < REDRAW_MS && event.done < event.total) return
    this.drawnAt = now
    const share = event.total > 0 ? Math.min(1, event.done / event.total) : 0
    const seconds = (now - this.startedAt) / 1000
    const rate = seconds > 0.2 ? event.done / seconds : 0
    // Calibration knows better than the rate: its blocks differ, and it can tell before it starts.
    const known = numberOf(event.secondsLeft) ?? numberOf(event.estimatedSeconds)
    const left = formatLeft(known ?? (rate > 0 ? (event.total - event.done) / rate : undefined))
    const error = numberOf(event.relativeError)
    const quality = error === undefined ? '' : `  error ${(100 * error).toFixed(1)}%`
    const speed =
      rate === 0 ? '' : event.unit === 'bytes' ? `${formatBytes(rate)}/s` : `${rate.toFixed(1)} ${event.unit}/s`
    const bar = '█'.repeat(Math.round(share * WIDTH)).padEnd(WIDTH, '░')
    this.stream.write(`\r\x1b[2K${event.name} ${bar} ${Math.floor(share * 100)}%  ${speed}  ${left} left${quality}`)
    this.shown = true
  }

  clear(): void {
    if (this.shown) this.stream.write('\r\x1b[2K')
    this.shown = false
  }
}
