// How long quantising will take, said before it starts: multiplications of all linears over what this machine does in a moment.
import type { QuantizerKernels } from '../../core/kernels.ts'
import { CG_STEPS } from './codebooks.ts'
import { goesByLeaves } from './kernels.ts'
import { SecondMoment } from './moment.ts'
import type { AqlmSettings } from './quantize.ts'

/** Epochs that a linear takes until they gain less than the usual tolerance. */
const USUAL_EPOCHS = 7

/** Entries of a codebook for one that is scored where it is searched by leaves. */
const LEAVES_SAVE = 8

/** Products of a weight with H that finding its target takes, those in float64 twice. */
const TARGET_PRODUCTS = 26

export interface LinearShape {
  readonly rows: number
  readonly columns: number
  readonly settings: AqlmSettings
}

/** Multiplications that quantising one linear takes, roughly. */
function multiplications({ rows, columns, settings: { scheme, search } }: LinearShape): number {
  const entries = 2 ** scheme.bits
  const byLeaves = goesByLeaves(scheme)
  const scored = byLeaves ? entries / LEAVES_SAVE : entries
  const searched = byLeaves && search.beamSize === 1 ? scored : entries
  const weights = rows * columns
  const epochs = Math.min(USUAL_EPOCHS, search.maxEpochs) + 1
  const start =
    scheme.codebooks *
    scored *
    (weights +
      search.initIterations *
        Math.min(weights, search.initPointsPerCentroid * entries * scheme.group.in * scheme.group.out))
  const codebooks = weights * columns * (CG_STEPS + 2)
  const codes = search.beamSize * weights * (columns + scheme.codebooks * searched)
  const target = TARGET_PRODUCTS * weights * columns
  return start + target + epochs * (codebooks + codes)
}

const [ROWS, COLUMNS] = [512, 256]

/** Multiplications a second, on an example of a few milliseconds. */
async function speed(kernels: QuantizerKernels): Promise<number> {
  const x = new Float32Array(ROWS * COLUMNS).fill(0.5)
  const moment = new SecondMoment(COLUMNS, kernels)
  await moment.add(x) // threads wake
  const started = performance.now()
  await moment.add(x)
  // The upper triangle.
  return (ROWS * COLUMNS * COLUMNS) / 2 / ((performance.now() - started) / 1000)
}

/** Seconds for all `linears`. */
export async function estimateSeconds(linears: readonly LinearShape[], kernels: QuantizerKernels): Promise<number> {
  const all = linears.reduce((sum, linear) => sum + multiplications(linear), 0)
  return all / (await speed(kernels))
}
