import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { kernelSources } from './scripts/kernel-sources.mjs'

const define = { FEWBIT_KERNEL_SOURCES: String(kernelSources()) }

/** The walks take longest: they begin first, so that no core waits for one at the end. */
class WalksFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => WALKS.findIndex((name) => moduleId.endsWith(name)) + 1 || Infinity
    const sorted = await super.sort(files)
    return sorted.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)))
  }
}
const WALKS = ['methods-gguf.test.ts', 'conformance/methods.test.ts', 'conformance/families.test.ts', 'schemes.test.ts']

// Two projects: `unit` runs on every commit (npm run check); `full` adds conformance, property, golden, hostile and end-to-end tests.
export default defineConfig({
  test: {
    // One fewer by default, which on two cores is one: most tests compute on one thread, in TypeScript.
    maxWorkers: '100%',
    sequence: { sequencer: WalksFirst },
    projects: [
      { define, test: { name: 'unit', include: ['src/**/*.test.ts', 'test/*.test.ts'], testTimeout: 30_000 } },
      { define, test: { name: 'full', include: ['test/*/**/*.test.ts'], testTimeout: 120_000 } },
    ],
  },
})
