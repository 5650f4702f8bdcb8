import { defineConfig } from 'tsdown'
import { kernelSources } from './scripts/kernel-sources.mjs'

export default defineConfig({
  entry: { index: 'src/index.ts', models: 'src/models/index.ts', cli: 'src/cli/main.ts' },
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  dts: { entry: ['src/index.ts', 'src/models/index.ts'] },
  clean: true,
  outDir: 'dist',
  define: { FEWBIT_KERNEL_SOURCES: String(kernelSources()) },
})
