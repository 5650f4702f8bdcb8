// Runs `npm test` (the README's command), shows the runner's own output, and closes with `N passed, N failed`.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'fewbit-test-'))
const report = join(folder, 'report.json')
const run = spawnSync('npm', ['test', '--', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`], {
  stdio: 'inherit',
})
try {
  const { numPassedTests, numFailedTests, numFailedTestSuites } = JSON.parse(readFileSync(report, 'utf8'))
  const failed = numFailedTests || (run.status === 0 ? 0 : Math.max(1, numFailedTestSuites))
  console.log(`${numPassedTests} passed, ${failed} failed`)
} catch {
  console.log('0 passed, 1 failed')
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(run.status ?? 1)
