// What long work reports while it runs. The CLI draws these, `--json` prints them one a line, a server streams them.

export interface StepEvent {
  event: 'step'
  name: string
  [field: string]: unknown
}
export interface ProgressEvent {
  event: 'progress'
  name: string
  done: number
  total: number
  unit: string
  [field: string]: unknown
}
export interface WarningEvent {
  event: 'warning'
  message: string
  [field: string]: unknown
}

export type WorkEvent = StepEvent | ProgressEvent | WarningEvent

/** Receives events; must not throw. */
export type Listener = (event: WorkEvent) => void

/** Long work takes this: where to report, and when to stop. */
export interface WorkOptions {
  onEvent?: Listener
  signal?: AbortSignal
}
