// Lets the event loop run between slices of long work, so that signals, timers and other requests are served.

/** Work between two breaths, in milliseconds. */
export const SLICE_MS = 40

/** Resolves after the event loop has gone round once. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') setImmediate(resolve)
    else setTimeout(resolve, 0)
  })
}
