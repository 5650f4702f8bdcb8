import type { ModelFamily } from '../types.ts'
import { parseLlamaConfig } from './config.ts'
import { buildLlama } from './graph.ts'
import { llamaNames } from './names.ts'

export const llama: ModelFamily = {
  modelTypes: ['llama'],
  ggufArchitecture: () => 'llama',
  parseConfig: parseLlamaConfig,
  build: buildLlama,
  names: (config) => llamaNames(config, true),
}
