// The part of the WebAssembly namespace that wasm.ts uses: TypeScript has it only in its DOM library, which this project does not load.
declare namespace WebAssembly {
  class Module {
    private readonly compiled: true
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean })
    readonly buffer: ArrayBuffer
  }
  class Instance {
    constructor(module: Module, imports?: Record<string, Record<string, unknown>>)
    readonly exports: Record<string, unknown>
  }
  function compile(bytes: ArrayBufferView | ArrayBuffer): Promise<Module>
  function instantiate(module: Module, imports?: Record<string, Record<string, unknown>>): Promise<Instance>
}
