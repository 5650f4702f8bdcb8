// Scales of activations as optimum-quanto's Calibration finds them (0.2.7): the largest magnitude of a batch, followed with a momentum.

import type { RawTensor } from '../../core/dtypes.ts'
import { fromFloat32, roundTo } from '../../core/half.ts'
import type { Arithmetic } from './oracle.ts'

const { fround } = Math

/** Momentum of input scales, whatever the user says: the reference hands its own only to those of outputs. */
export const INPUT_MOMENTUM = 0.9

/** One scale while it is calibrated; every operation is rounded to `dtype`. */
export class ScaleTrack {
  /** 1: nothing has been seen. */
  value = 1
  private readonly momentum: number
  private readonly max: number
  private readonly dtype: Arithmetic

  /** `max`: the largest value of the quantised type. */
  constructor(max: number, momentum: number, dtype: Arithmetic) {
    this.momentum = momentum
    this.max = max
    this.dtype = dtype
  }

  /** A batch whose largest magnitude is `largest`. Gives the scale that it is quantised with. */
  see(largest: number): number {
    const found = this.round(this.round(largest) / this.max)
    const { momentum, value } = this
    this.value =
      value === 1 ? found : this.round(this.round(fround(momentum) * value) + this.round(found * fround(1 - momentum)))
    return this.value
  }

  /** A batch that was quantised before, with this scale. */
  adopt(scale: number): number {
    this.value = scale
    return scale
  }

  /** As stored: a part of the weight, [1]. */
  tensor(): RawTensor {
    return { dtype: this.dtype, shape: [1], data: fromFloat32(Float32Array.of(this.value), this.dtype) }
  }

  private round(value: number): number {
    return roundTo(this.dtype, fround(value))
  }
}
