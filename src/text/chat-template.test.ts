import { expect, test } from 'vitest'
import { ConfigError, UnsupportedError } from '../core/errors.ts'
import { renderChatTemplate, strftime } from './chat-template.ts'
import { chatTemplates } from './special-tokens.ts'
import type { ChatOptions } from './types.ts'

const MESSAGES = [{ role: 'user', content: 'Grüße <b>' }]

function render(template: string, options: ChatOptions = {}): string {
  return renderChatTemplate(new Map([['default', template]]), { bos_token: '<s>' }, MESSAGES, options)
}

test('a block takes its line with it: trim_blocks and lstrip_blocks', () => {
  expect(render('a\n  {% if true %}\nb\n  {% endif %}\nc')).toBe('a\nb\nc')
})

test('tojson keeps non-ASCII and HTML characters', () => {
  expect(render('{{ messages | tojson }}')).toBe('[{"role": "user", "content": "Grüße <b>"}]')
})

test('special tokens are variables', () => {
  expect(render("{{ bos_token + messages[0]['content'] }}")).toBe('<s>Grüße <b>')
})

test('generation blocks are rendered like their content', () => {
  expect(render('{% generation %}x{% endgeneration %}y')).toBe('xy')
})

test('loop controls work', () => {
  expect(
    render(
      '{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}',
    ),
  ).toBe('023')
})

test('raise_exception is a ConfigError with the message of the template', () => {
  expect(() => render("{{ raise_exception('roles must alternate') }}")).toThrow(ConfigError)
  expect(() => render("{{ raise_exception('roles must alternate') }}")).toThrow(
    'the chat template says "roles must alternate"',
  )
})

test('strftime follows the C locale', () => {
  const date = new Date(2026, 1, 3, 4, 5, 6)
  expect(strftime(date, '%d %b %Y, %A %B %H:%M:%S %% %-d %q')).toBe('03 Feb 2026, Tuesday February 04:05:06 % 3 %q')
  expect(render("{{ strftime_now('%Y') }}")).toBe(String(new Date().getFullYear()))
})

test('a broken template, an endless range and no template are told apart', () => {
  expect(() => render('{% if %}')).toThrow(ConfigError)
  expect(() => render('{% for i in range(1000000000) %}x{% endfor %}')).toThrow('the limit is 100000')
  expect(() => render('{% for i in range(9, 0, 0) %}x{% endfor %}')).toThrow(ConfigError)
  expect(() => renderChatTemplate(new Map(), {}, MESSAGES, {})).toThrow(UnsupportedError)
})

test('the .jinja file wins over tokenizer_config.json, and lists name their templates', () => {
  expect([...chatTemplates({ chat_template: 'a' }, 'b')]).toEqual([['default', 'b']])
  const list = {
    chat_template: [
      { name: 'default', template: 'a' },
      { name: 'tool_use', template: 't' },
    ],
  }
  const templates = chatTemplates(list, undefined)
  expect(renderChatTemplate(templates, {}, MESSAGES, {})).toBe('a')
  expect(renderChatTemplate(templates, {}, MESSAGES, { tools: [] })).toBe('t')
  expect(renderChatTemplate(templates, {}, MESSAGES, { chatTemplate: 'tool_use' })).toBe('t')
  expect(renderChatTemplate(templates, {}, MESSAGES, { chatTemplate: '{{ 1 }}' })).toBe('1')
  expect(() => chatTemplates({ chat_template: [7] }, undefined)).toThrow('chat_template')
})
