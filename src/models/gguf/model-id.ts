// What a folder's name says about a model, as llama.cpp's converter guesses it for `general.name`, `basename`, `finetune`, `version`
// and `size_label`. Rules: gguf-py 0.19 metadata.py, get_model_id_components and id_to_title.

export interface ModelId {
  /** Words with capitals, for `general.name`. */
  readonly title: string
  readonly organization?: string
  readonly basename?: string
  readonly finetune?: string
  readonly version?: string
  readonly sizeLabel?: string
}

type Kind = 'basename' | 'size' | 'finetune' | 'version' | 'type'

interface Part {
  text: string
  readonly kinds: Set<Kind>
}

const VERSION = /^(?:v|iter)?\d+(?:[.]\d+)*$/i
const TYPE = /^(?:i?q\d(?:_\w)*|b?fp?(?:16|32))$/i
const SIZE = /^(?:(?:A|\d+x)?\d+(?:[._]\d+)?[KMBT]\d?|small|mini|medium|large|x?xl)$/i
const FINETUNE = /^(?:chat|instruct|vision|lora)$/i
const UNITS = ' KMBT'

/** Splits a name (`Qwen2.5-0.5B-Instruct`, `owner/name`) into its parts. `parameters` tells a size from a context length. */
export function parseModelId(id: string, parameters: number): ModelId {
  if (id.includes(' ')) return { title: title(id) }
  const slash = id.indexOf('/')
  const organization = slash > 0 && !id.startsWith('.') ? id.slice(0, slash) : undefined
  const name = id.slice(slash + 1)
  const parts = name
    .split('-')
    .filter((text) => text.length > 0)
    .map((text): Part => ({ text, kinds: new Set() }))
  parts.forEach((part, i) => {
    classify(part, i, parameters)
  })
  dropSizeWords(parts)
  markBasename(parts)
  const join = (kind: Kind, but?: Kind) => {
    const texts = parts.filter((p) => p.kinds.has(kind) && !(but && p.kinds.has(but))).map((p) => p.text)
    return [...(kind === 'size' ? new Set(texts) : texts)].join('-') || undefined
  }
  const found = { finetune: join('finetune'), version: join('version', 'basename'), sizeLabel: join('size') }
  const isClear = Object.values(found).some((text) => text !== undefined)
  return {
    title: title(name),
    organization: organization && title(organization),
    basename: isClear ? join('basename') : undefined,
    ...found,
  }
}

function classify(part: Part, index: number, parameters: number): void {
  const { text, kinds } = part
  if (VERSION.test(text)) kinds.add('version')
  else if (TYPE.test(text)) {
    kinds.add('type')
    part.text = text.toUpperCase()
  } else if (index > 0 && SIZE.test(text)) {
    part.text = normalSize(text)
    const claimed = Number(part.text.slice(0, -1)) * 1000 ** UNITS.indexOf(part.text.at(-1)!)
    // A number far from the model's size is a context length: `128k`.
    if (Number.isFinite(claimed) && Math.abs(claimed - parameters) > Math.floor((7 * parameters) / 8)) {
      kinds.add('finetune')
      part.text = part.text.slice(0, -1) + part.text.slice(-1).toLowerCase()
    } else kinds.add('size')
  } else if (index > 0 && FINETUNE.test(text)) kinds.add('finetune')
}

/** `7b1` -> `7.1B`, `1_5b` -> `1.5B`. */
function normalSize(text: string): string {
  let size = text.replaceAll('_', '.')
  if (/\d$/.test(size)) size = `${size.slice(0, -2)}.${size.slice(-1)}${size.slice(-2, -1)}`
  return /\d[kmbt]$/.test(size) ? size.slice(0, -1) + size.slice(-1).toUpperCase() : size
}

/** Words such as `small` are no sizes beside a number. */
function dropSizeWords(parts: readonly Part[]): void {
  const sizes = parts.filter((p) => p.kinds.has('size'))
  if (!sizes.some((p) => /\d/.test(p.text))) return
  for (const part of sizes) if (/^[a-z]+$/i.test(part.text)) part.kinds.delete('size')
}

/** The basename is the run of plain words (and versions) at the start; a version at the end of all is not part of it. */
function markBasename(parts: readonly Part[]): void {
  let atStart = true
  for (const { text, kinds } of parts) {
    if (atStart && ((kinds.size === 0 && /^\p{L}/u.test(text)) || kinds.has('version'))) kinds.add('basename')
    else {
      atStart = false
      if (kinds.size === 0) kinds.add('finetune')
    }
  }
  for (const { kinds } of [...parts].reverse()) {
    if (!kinds.has('basename') || kinds.size === 1) break
    kinds.delete('basename')
  }
}

/** Hyphens become spaces; words without capitals get one, except versions and numbers. */
function title(name: string): string {
  const words = name.trim().replaceAll('-', ' ').split(/\s+/).filter(Boolean)
  return words.map((word) => (isPlain(word) ? capitals(word) : word)).join(' ')
}

function isPlain(word: string): boolean {
  return word === word.toLowerCase() && /\p{Ll}/u.test(word) && !/^(?:v\d+(?:\.\d+)*|\d.*)$/.test(word)
}

/** Python's str.title: every run of letters begins with a capital. */
function capitals(word: string): string {
  return word.replace(/\p{L}+/gu, (run) => run[0].toUpperCase() + run.slice(1))
}

/** `31K`, `7.3M`, `8.0B`: at least two digits. */
export function sizeLabel(parameters: number): string {
  const [scale, unit] = SCALES.find(([from]) => parameters >= from) ?? SCALES[SCALES.length - 1]
  const scaled = parameters / scale
  const digits = String(Math.round(scaled)).replace(/^0+/, '').length
  return `${scaled.toFixed(Math.max(2 - digits, 0))}${unit}`
}

const SCALES: readonly (readonly [number, string])[] = [
  [1e12, 'T'],
  [1e9, 'B'],
  [1e6, 'M'],
  [1e3, 'K'],
]
