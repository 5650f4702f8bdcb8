// Chat templates: the Jinja dialect of transformers (trim_blocks, lstrip_blocks, tojson, raise_exception, strftime_now, generation blocks).
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { ConfigError, FewbitError, UnsupportedError } from '../core/errors.ts'
import type { ChatMessage, ChatOptions } from './types.ts'

/** The largest known template has about 20,000 characters. */
const MAX_TEMPLATE_LENGTH = 1 << 20
/** Python's sandbox has the same limit. */
const MAX_RANGE = 100_000

/** Templates of a tokenizer: the default one and named ones. */
export type ChatTemplates = ReadonlyMap<string, string>

const MONTHS = 'January February March April May June July August September October November December'.split(' ')
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')

/** Python's strftime in the C locale, for the codes that templates use. */
export function strftime(date: Date, format: string): string {
  const two = (n: number) => String(n).padStart(2, '0')
  const month = MONTHS[date.getMonth()]
  const day = DAYS[date.getDay()]
  const codes: Readonly<Record<string, () => string>> = {
    Y: () => String(date.getFullYear()),
    y: () => two(date.getFullYear() % 100),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    B: () => month,
    b: () => month.slice(0, 3),
    A: () => day,
    a: () => day.slice(0, 3),
    H: () => two(date.getHours()),
    I: () => two(date.getHours() % 12 || 12),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    p: () => (date.getHours() < 12 ? 'AM' : 'PM'),
    '%': () => '%',
  }
  return format.replace(/%(-?)([a-zA-Z%])/g, (whole, dash, code) => {
    const text = codes[code]?.()
    if (text === undefined) return whole
    return dash ? text.replace(/^0(?=\d)/, '') : text
  })
}

function range(first: number, second?: number, step = 1): number[] {
  if (step === 0) throw new Error('range() step must not be zero')
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  const count = Math.max(0, Math.ceil((stop - start) / step))
  if (!(count <= MAX_RANGE)) throw new Error(`range() of ${count} elements, the limit is ${MAX_RANGE}`)
  return Array.from({ length: count }, (_, i) => start + i * step)
}

/** Python's globals of a template; `now` is fixed so that one rendering sees one time. */
function globals(now: Date): Record<string, unknown> {
  const constants = { true: true, false: false, none: null, True: true, False: false, None: null }
  return {
    ...constants,
    raise_exception: (message: string) => {
      throw new ConfigError(`Cannot render the conversation: the chat template says "${message}"`, { message })
    },
    range,
    strftime_now: (format: string) => strftime(now, format),
  }
}

/** The template to use. Throws UnsupportedError where there is none. */
function choose(templates: ChatTemplates, options: ChatOptions): string {
  const { chatTemplate, tools } = options
  if (chatTemplate !== undefined) return templates.get(chatTemplate) ?? chatTemplate
  const named = tools ? templates.get('tool_use') : undefined
  const template = named ?? templates.get('default')
  if (template !== undefined) return template
  throw new UnsupportedError(
    'Cannot render a conversation: this tokenizer has no chat template (neither chat_template.jinja nor chat_template in tokenizer_config.json)',
    {
      templates: [...templates.keys()],
      hint: 'use plain text, or give a template of your own as chatTemplate',
    },
  )
}

/** Renders a conversation; `specials` are the special token strings, as variables. */
export function renderChatTemplate(
  templates: ChatTemplates,
  specials: Readonly<Record<string, string>>,
  messages: readonly ChatMessage[],
  options: ChatOptions,
  now: Date = new Date(),
): string {
  const template = choose(templates, options)
  if (template.length > MAX_TEMPLATE_LENGTH)
    throw new ConfigError(`Cannot render the conversation: the chat template has ${template.length} characters`, {
      actual: template.length,
      expected: MAX_TEMPLATE_LENGTH,
    })
  const variables: Record<string, unknown> = {
    ...globals(now),
    ...specials,
    messages,
    tools: options.tools ?? null,
    documents: options.documents ?? null,
    add_generation_prompt: options.addGenerationPrompt ?? false,
    ...options.variables,
  }
  try {
    const environment = new Environment()
    for (const [name, value] of Object.entries(variables)) environment.set(name, value)
    const program = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }))
    return String(new Interpreter(environment).run(program).value)
  } catch (cause) {
    if (cause instanceof FewbitError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ConfigError(`Cannot render the conversation with the chat template: ${reason}`, { cause })
  }
}
