// torch's typed storages, by which a pickle tells the dtype of a tensor.

/** Global name -> dtype. */
export const STORAGES: Readonly<Record<string, string>> = {
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.DoubleStorage': 'F64',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
}

/** Dtype -> global name. */
export const STORAGE_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries(STORAGES).map(([name, dtype]) => [dtype, name]),
)
