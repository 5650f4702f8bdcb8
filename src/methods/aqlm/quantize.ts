// Quantises one linear on its calibration statistics.
import { UnsupportedError } from '../../core/errors.ts'
import type { AdditiveScheme } from '../../weights/scheme.ts'
import type { QuantizedWeight } from '../../weights/weight.ts'
import type { QuantizeInput } from '../types.ts'
import type { SearchSettings } from './config.ts'

/** How one linear is quantised. */
export interface AqlmSettings {
  readonly scheme: AdditiveScheme
  readonly search: SearchSettings
}

export async function quantize({ name }: QuantizeInput<AqlmSettings>): Promise<QuantizedWeight> {
  throw new UnsupportedError(`Cannot quantise "${name}" with AQLM: it needs calibration data`, { tensor: name })
}
