// A file of torch.save as a sink: one state dictionary, each tensor at its final place.
import { type TorchLayout, torchLayout } from '../checkpoint/pickle/layout.ts'
import type { ByteSink, OutputStore } from '../checkpoint/types.ts'
import type { OutputTensor } from './plan.ts'
import { type CheckedPlace, DirectSink } from './sink.ts'

export class TorchSink extends DirectSink {
  private readonly file: string
  private readonly tensors: readonly OutputTensor[]
  private readonly planned: TorchLayout
  /** `aliases`: further names of tensors, as a tied head has one in a state dictionary. */
  constructor(
    output: OutputStore,
    file: string,
    tensors: readonly OutputTensor[],
    aliases: ReadonlyMap<string, string> = new Map(),
  ) {
    super(output)
    this.file = file
    this.tensors = tensors
    this.planned = torchLayout(tensors, aliases)
  }

  protected layout() {
    const { file, planned } = this
    const places = this.tensors.map((t, i) => ({ ...t, file, at: planned.offsets[i], bytes: planned.sizes[i] }))
    return [{ file, header: new Uint8Array(0), total: planned.total, places }]
  }

  /** Headers and directory hold the checksums of the tensors. */
  protected override async complete(all: readonly CheckedPlace[], sinkOf: (file: string) => ByteSink): Promise<void> {
    const crcs = new Map(all.map(({ name, crc }) => [name, crc]))
    const sink = sinkOf(this.file)
    const pieces = this.planned.pieces(
      this.tensors.map(({ name }) => crcs.get(name)!),
      (bytes) => this.output.checksum(bytes),
    )
    for (const { at, bytes } of pieces) await sink.writeAt(at, bytes)
  }
}
