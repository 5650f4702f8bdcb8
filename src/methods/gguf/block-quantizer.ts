// What quantises one block of a GGUF type: the type of the functions behind quantize-superblocks.ts.

/** Writes the values x of one block to `block`, which is zero-filled. `importance`: one weight a value, or absent. */
export type BlockQuantizer = (x: Float32Array, block: Uint8Array, importance?: Float32Array) => void
