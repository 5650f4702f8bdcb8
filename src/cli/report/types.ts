// What a comparison knows: one row a model variant. The table, the page and --json all show this.

export interface ComparisonRow {
  /** `float (bf16)`, `GGUF Q4_K_M`, `HQQ 4 bit` ... */
  readonly name: string
  readonly method: string
  readonly sizeBytes: number
  readonly bitsPerWeight: number
  readonly perplexity: number
  /** Mean KL divergence to the float model, nats a token; 0 for the float model itself. */
  readonly kl: number
  /** Share of positions where the likeliest token is the float model's. */
  readonly top1: number
  readonly quantizeMs: number | null
  readonly prefillTokensPerSecond: number
  readonly decodeTokensPerSecond: number
  /** The prompt continued greedily. */
  readonly sample: string
}

export interface Comparison {
  readonly model: string
  readonly prompt: string
  readonly text: string
  readonly tokens: number
  readonly machine: string
  readonly device: string
  readonly threads: number
  readonly date: string
  readonly version: string
  readonly rows: readonly ComparisonRow[]
}
