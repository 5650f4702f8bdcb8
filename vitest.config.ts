import { defineConfig } from 'vitest/config'
import { kernelSources } from './scripts/kernel-sources.mjs'

const define = { FEWBIT_KERNEL_SOURCES: String(kernelSources()) }

// Two projects: `unit` runs on every commit (npm run check); `full` adds conformance, property, golden, hostile and end-to-end tests.
export default defineConfig({
  test: {
    // One fewer by default, which on two cores is one: most tests compute on one thread, in TypeScript.
    maxWorkers: '100%',
    projects: [
      { define, test: { name: 'unit', include: ['src/**/*.test.ts', 'test/*.test.ts'], testTimeout: 30_000 } },
      { define, test: { name: 'full', include: ['test/*/**/*.test.ts'], testTimeout: 120_000 } },
    ],
  },
})
