// One writer an output: a lock file with the process id. A dead process does not block; a number that another process got since is told
// apart by the time it started (where /proc tells it).
import { constants, copyFile, link, readFile, rename, rm, writeFile } from 'node:fs/promises'
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
  const own = `${path}.${crypto.randomUUID()}`
  await writeFile(own, JSON.stringify({ pid: process.pid, started: await startTime(process.pid) }))
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      if (await place(own, path)) {
        held.add(path)
        return
      }
      const holder = await readHolder(path)
      if (holder && (await isAlive(holder, path))) {
        throw new FileError(`Cannot write "${output}": process ${holder.pid} is writing it now`, {
          file: output,
          pid: holder.pid,
          hint: 'wait for it, end it, or choose another output',
        })
      }
      await removeDead(path, `${own}.dead`)
    }
  } finally {
    await rm(own, { force: true })
  }
  throw new FileError(`Cannot write "${output}": another process took its lock`, { file: output })
}

/** The lock appears with its content, for nobody may find it empty; false where there is one. */
async function place(own: string, path: string): Promise<boolean> {
  const taken = (e: NodeJS.ErrnoException) => {
    if (e.code === 'EEXIST') return false
    throw e
  }
  const made = () => true
  return link(own, path).then(made, (e) =>
    // Some file systems have no links.
    e.code === 'EEXIST' ? false : copyFile(own, path, constants.COPYFILE_EXCL).then(made, taken),
  )
}

/** Of several that find a dead holder one moves its file away; who moves the lock of the one that was quicker gives it back. */
async function removeDead(path: string, aside: string): Promise<void> {
  await rename(path, aside).catch(() => undefined) // gone: another moved it
  const moved = await readHolder(aside)
  if (moved && (await isAlive(moved, path))) await link(aside, path).catch(() => undefined)
  await rm(aside, { force: true })
}

export async function giveLock(path: string): Promise<void> {
  held.delete(path)
  await rm(path, { force: true })
}
