// The public API.
export * from './core/errors.ts'
export { methods, registerMethod } from './methods/index.ts'
