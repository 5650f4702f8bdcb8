// One writer an output: a lock file with the process id. A dead process does not block; a number that another process got since is told
// apart by the time it started (where /proc tells it).
import { open, readFile, rename, rm } from 'node:fs/promises'
import { FileError } from '../../core/errors.ts'

interface Holder {
  readonly pid: number
  readonly started?: string
}

/** Paths that this very process holds. */
const held = new Set<string>()

/** Field 22 of /proc/PID/stat: start time in ticks since boot. */
async function startTime(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19]
}

async function isAlive(holder: Holder, path: string): Promise<boolean> {
  if (holder.pid === process.pid) return held.has(path)
  try {
    process.kill(holder.pid, 0)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return holder.started === undefined || (await startTime(holder.pid)) === holder.started
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const holder = JSON.parse(await readFile(path, 'utf8')) as Holder
    return Number.isSafeInteger(holder?.pid) && holder.pid > 0 ? holder : undefined
  } catch {
    return undefined // written half by a process that died, or gone meanwhile
  }
}

/** Takes the lock at `path` for writing `output`. Throws FileError where a live process holds it. */
export async function takeLock(path: string, output: string): Promise<void> {
  const mine = JSON.stringify({ pid: process.pid, started: await startTime(process.pid) })
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const handle = await open(path, 'wx')
      await handle.write(mine)
      await handle.close()
      held.add(path)
      return
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e
    }
    const holder = await readHolder(path)
    if (holder && (await isAlive(holder, path))) {
      throw new FileError(`Cannot write "${output}": process ${holder.pid} is writing it now`, {
        file: output,
        pid: holder.pid,
        hint: 'wait for it, end it, or choose another output',
      })
    }
    // Renaming first: of two processes that find a dead holder only one moves this file away.
    const dead = `${path}.${process.pid}`
    await rename(path, dead).catch(() => undefined)
    await rm(dead, { force: true })
  }
  throw new FileError(`Cannot write "${output}": another process took its lock`, { file: output })
}

export async function giveLock(path: string): Promise<void> {
  held.delete(path)
  await rm(path, { force: true })
}
