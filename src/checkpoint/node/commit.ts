// Files that take their final names together. One rename is whole by itself. Where it takes several (a folder that replaces another, a
// model of many files) they are written down first, in the partial folder: a process that dies among them leaves the record, and whoever
// opens the output next takes them back. When the last file has its name the record is renamed too: from then on what was replaced only
// waits to be removed.
//   OUT.fewbit-partial/commit.json      renames are under way
//   OUT.fewbit-partial/committed.json   all are done
//   NAME.fewbit-old                     what NAME was
import { open, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { FileError } from '../../core/errors.ts'
import { giveLock, takeLock } from './lock.ts'
import { exists, lockOf, oldOf, partialOf, syncFolder } from './paths.ts'

/** The folder of a partial output that holds what is written. */
export const FILES = 'files'

/** What becomes what. The first is the file that opens the model. */
export interface Move {
  /** In the partial folder: FILES, or a file in it. */
  readonly from: string
  /** Name beside the partial folder. */
  readonly to: string
}

const UNDER_WAY = 'commit.json'
const DONE = 'committed.json'

/** Renames all, or none where one fails; what was replaced is then removed. */
export async function commitMoves(partial: string, moves: readonly Move[]): Promise<void> {
  const folder = dirname(resolve(partial))
  if (moves.length === 1 && (await isOneStep(partial, moves[0]))) {
    await rename(join(partial, moves[0].from), join(folder, moves[0].to))
    await syncFolder(folder)
    return
  }
  await writeRecord(partial, moves)
  try {
    // The file that opens the model goes first and comes last: in between nothing opens, rather than a mixture.
    for (const { to } of moves) await setAside(join(folder, to))
    for (const { from, to } of [...moves].reverse()) await rename(join(partial, from), join(folder, to))
    await syncFolder(folder)
    await rename(join(partial, UNDER_WAY), join(partial, DONE))
    await syncFolder(partial)
  } catch (cause) {
    await takeBack(partial, moves).catch(() => undefined) // the first failure says more; the record is there for the next attempt
    throw cause
  }
  await removeReplaced(partial, moves)
}

/** A file replaces a file, and anything what is not there, in one step. */
async function isOneStep(partial: string, { from, to }: Move): Promise<boolean> {
  const target = await stat(join(dirname(resolve(partial)), to)).catch(() => undefined)
  return !target || (target.isFile() && (await stat(join(partial, from))).isFile())
}

async function setAside(path: string): Promise<void> {
  await rm(oldOf(path), { recursive: true, force: true })
  if (await exists(path)) await rename(path, oldOf(path))
}

/** New files go back to the partial folder, replaced ones to their names. Begun again, it goes on. */
async function takeBack(partial: string, moves: readonly Move[]): Promise<void> {
  const folder = dirname(resolve(partial))
  for (const { from, to } of moves) {
    const hasMoved = !(await exists(join(partial, from)))
    if (hasMoved && (await exists(join(folder, to)))) await rename(join(folder, to), join(partial, from))
  }
  for (const { to } of [...moves].reverse()) {
    const path = join(folder, to)
    if ((await exists(oldOf(path))) && !(await exists(path))) await rename(oldOf(path), path)
  }
  await syncFolder(folder)
  await rm(join(partial, UNDER_WAY), { force: true })
}

async function removeReplaced(partial: string, moves: readonly Move[]): Promise<void> {
  const folder = dirname(resolve(partial))
  for (const { to } of moves) await rm(oldOf(join(folder, to)), { recursive: true, force: true })
}

/**
 * Ends a commit to `path` in which a process died: the old files are back, or the new ones are all there and nothing else is. Throws
 * FileError where a live process is in the middle of it.
 */
export async function recoverCommit(path: string): Promise<void> {
  const partial = partialOf(path)
  if (!(await exists(join(partial, DONE))) && !(await exists(join(partial, UNDER_WAY)))) return
  const lock = lockOf(partial)
  await takeLock(lock, path)
  try {
    await recoverLocked(partial)
  } finally {
    await giveLock(lock)
  }
  await rmdir(partial).catch(() => undefined) // empty where the commit was done; else it holds what a later run goes on with
}

/** The same for who holds the lock. */
export async function recoverLocked(partial: string): Promise<void> {
  const underWay = await readRecord(join(partial, UNDER_WAY))
  if (underWay) await takeBack(partial, underWay)
  const done = await readRecord(join(partial, DONE))
  if (!done) return
  await removeReplaced(partial, done)
  const kept = [basename(lockOf(partial)), DONE]
  for (const name of await readdir(partial))
    if (!kept.includes(name)) await rm(join(partial, name), { recursive: true })
  await rm(join(partial, DONE))
}

/** On the disk before the first rename. */
async function writeRecord(partial: string, moves: readonly Move[]): Promise<void> {
  const draft = join(partial, `${UNDER_WAY}.draft`)
  const handle = await open(draft, 'w')
  try {
    await handle.write(JSON.stringify(moves))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(draft, join(partial, UNDER_WAY))
  await syncFolder(partial)
}

/** Undefined where there is none. Moves that lead out of the two folders are not ours. Throws FileError where it is damaged. */
async function readRecord(path: string): Promise<Move[] | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const moves = parsed(text)
  if (!moves)
    throw new FileError(`Cannot read "${path}": it is no list of renames`, {
      file: path,
      hint: `see whether a *.fewbit-old beside "${dirname(path)}" is to get its name back, then delete that folder`,
    })
  const isOurs = (from: string) => from === FILES || from === join(FILES, basename(from))
  return moves.filter(({ from, to }) => to === basename(to) && isOurs(from))
}

function parsed(text: string): Move[] | undefined {
  try {
    const moves = JSON.parse(text) as Move[]
    const isMove = (move: Move | null) => typeof move?.from === 'string' && typeof move.to === 'string'
    return Array.isArray(moves) && moves.every(isMove) ? moves : undefined
  } catch {
    return undefined // said by the caller
  }
}
