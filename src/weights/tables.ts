// Values of lookup schemes, as exact float32 bits (bitsandbytes 0.50.2).
function fromBits(hex: string): Float32Array {
  return new Float32Array(Uint32Array.from(hex.split(' '), (word) => Number.parseInt(word, 16)).buffer)
}

const NF4 = fromBits(
  'bf800000 bf3239b1 bf066b30 beca32a0 be91a24d be3d353f bdba7871 00000000 ' +
    '3da2faff 3e24cae3 3e7c04dd 3ead033a 3ee1a4b8 3f1007ab 3f3913b3 3f800000',
)
const FP4 = fromBits(
  '00000000 3baaaaab 3f2aaaab 3f800000 3eaaaaab 3f000000 3e2aaaab 3e800000 ' +
    '00000000 bbaaaaab bf2aaaab bf800000 beaaaaab bf000000 be2aaaab be800000',
)

/** Table of each lookup scheme, index = code. */
export const LOOKUP_TABLES: Readonly<Record<'nf4' | 'fp4', Float32Array>> = { nf4: NF4, fp4: FP4 }
