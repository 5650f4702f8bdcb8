// Builds build/fewbit.node with one direct call of the C++ compiler a file (CXX, default c++). A missing or failing compiler is one
// line and no error: the WASM kernels run then. Objects are kept in build/objects under a hash of everything that goes into them.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { kernelSources } from './kernel-sources.mjs'

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')
const NATIVE = join(ROOT, 'native')
const OBJECTS = join(ROOT, 'build', 'objects')
const OUTPUT = join(ROOT, 'build', 'fewbit.node')
const CXX = process.env.CXX || 'c++'

// No FMA appears by itself (-ffp-contract=off): quantisers are bit-exact with their references, and both doors agree.
const FLAGS = [
  '-std=c++20',
  '-O3',
  '-fPIC',
  '-ffp-contract=off',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-fno-exceptions',
  '-fno-rtti',
  '-fno-threadsafe-statics',
  '-fvisibility=hidden',
  '-Wall',
  '-Wextra',
  '-Wno-psabi',
]

/** Files NAME.<variant>.cc and <variant>.cc are compiled with these flags, on x86-64 only; a kernel chooses among them at run time. */
const VARIANTS = {
  avx2: ['-mavx2', '-mfma', '-mf16c'],
  avx512: [
    '-mavx2',
    '-mfma',
    '-mf16c',
    '-mavx512f',
    '-mavx512bw',
    '-mavx512dq',
    '-mavx512vl',
    '-mavx512vnni',
    '-mprefer-vector-width=512',
    '-Wno-maybe-uninitialized', // gcc 12 warns inside its own header
  ],
}

/** Ends quietly: the product works without the addon. */
function giveUp(reason) {
  rmSync(OUTPUT, { force: true })
  console.log(`fewbit: no native addon (${reason}); the WASM kernels are used instead`)
  process.exit(0)
}

function filesUnder(folder, ending) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((e) => e.isFile() && e.name.endsWith(ending))
    .map((e) => join(e.parentPath, e.name))
    .sort()
}

/** What to compile, with the flags of each file. */
function sources() {
  const include = createRequire(import.meta.url)('node-api-headers').include_dir
  const jobs = []
  for (const file of [...filesUnder(join(NATIVE, 'kernels'), '.cc'), ...filesUnder(join(NATIVE, 'napi'), '.cc')]) {
    const variant = /[./](avx2|avx512|wasm)\.cc$/.exec(file)?.[1]
    if (variant === 'wasm' || (variant && process.arch !== 'x64')) continue
    const flags = [...FLAGS, ...(variant ? VARIANTS[variant] : [])]
    if (file.endsWith('sources.cc')) flags.push(`-DFB_SOURCES=${kernelSources()}`)
    if (file.includes('napi')) flags.push('-DNAPI_VERSION=8', `-I${include}`)
    jobs.push({ file, flags })
  }
  return jobs
}

function headersHash() {
  const hash = createHash('sha256')
  for (const file of [...filesUnder(NATIVE, '.h'), ...filesUnder(NATIVE, '.inc')])
    hash.update(file.slice(ROOT.length)).update(readFileSync(file))
  return hash.digest('hex')
}

function compile({ file, flags }, object) {
  const temporary = `${object}.${process.pid}`
  return new Promise((done) => {
    const child = spawn(CXX, [...flags, '-c', file, '-o', temporary], { stdio: ['ignore', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr.on('data', (text) => (errors += text))
    child.on('error', (error) => done(error.message))
    child.on('close', (status) => {
      if (status === 0) renameSync(temporary, object)
      if (errors && (status !== 0 || process.env.FEWBIT_BUILD_STRICT)) console.error(errors)
      done(status === 0 ? undefined : `${CXX} failed on ${file.slice(ROOT.length + 1)}`)
    })
  })
}

/** Compiles what is not there yet, as many files at once as there are CPUs; returns the objects or the first failure. */
async function compileAll(jobs, version) {
  const headers = headersHash()
  const queue = jobs.map((job) => {
    const hash = createHash('sha256')
      .update(`${version}\n${headers}\n${job.flags.join(' ')}\n`)
      .update(readFileSync(job.file))
    return { job, object: join(OBJECTS, `${hash.digest('hex').slice(0, 24)}.o`) }
  })
  const objects = queue.map(({ object }) => object)
  let failure
  const lane = async () => {
    for (let next = queue.shift(); next && !failure; next = queue.shift()) {
      const problem = existsSync(next.object) ? undefined : await compile(next.job, next.object)
      if (problem) failure = problem
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, lane))
  for (const old of readdirSync(OBJECTS))
    if (!objects.includes(join(OBJECTS, old))) rmSync(join(OBJECTS, old), { force: true })
  return { objects, failure }
}

function link(objects) {
  const system =
    process.platform === 'darwin'
      ? ['-undefined', 'dynamic_lookup']
      : ['-Wl,--as-needed', '-Wl,-z,nodelete', '-pthread', '-ldl']
  const temporary = `${OUTPUT}.${process.pid}`
  const linked = spawnSync(CXX, ['-shared', '-o', temporary, ...objects, ...system], { encoding: 'utf8' })
  if (linked.status !== 0) {
    console.error(linked.stderr)
    return false
  }
  renameSync(temporary, OUTPUT)
  return true
}

if (process.platform === 'win32') giveUp('not built on Windows')
const version = spawnSync(CXX, ['--version'], { encoding: 'utf8' })
if (version.status !== 0) giveUp(`no C++ compiler answers to "${CXX}"`)
mkdirSync(OBJECTS, { recursive: true })
const { objects, failure } = await compileAll(sources(), version.stdout)
if (failure) giveUp(failure)
if (!link(objects)) giveUp(`${CXX} failed to link`)
