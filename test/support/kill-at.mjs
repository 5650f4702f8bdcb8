// Preloaded (`node --import`) into a command: kills it with SIGKILL before change number KILL_AT of names in the file system, or, without
// KILL_AT, writes into KILL_COUNT how many there were.
import { writeFileSync } from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

const { KILL_AT, KILL_COUNT } = process.env
let changes = 0
for (const name of ['rename', 'rm', 'rmdir', 'mkdir']) {
  const change = promises[name]
  promises[name] = (...args) => {
    if (++changes === Number(KILL_AT)) process.kill(process.pid, 'SIGKILL')
    return change(...args)
  }
}
syncBuiltinESMExports()
if (KILL_COUNT) process.on('exit', () => writeFileSync(KILL_COUNT, String(changes)))
