// `fewbit explain MODEL [--method M]`: what would be quantised, what not and why, before any tensor is read; `--plan` prints the steps.

import { describeJob, type Job, outputsOf } from '../../convert/plan.ts'
import { toPlain } from '../../core/json.ts'
import { compilePlan, printPlan } from '../../graph/plan.ts'
import { planQuantize } from '../../quantize/quantize.ts'
import { command } from '../command.ts'
import { formatBytes } from '../progress.ts'
import { openSource } from '../session.ts'
import { table } from '../table.ts'
import { METHOD_OPTIONS, parsedMethod, quantizeOptions } from './quantize.ts'

/** Types of the stored tensors that a job writes. */
function becomes(job: Job | undefined): string {
  const outputs = job && outputsOf(job)
  return outputs ? [...new Set(outputs.map((o) => o.dtype))].join(' + ') : ''
}

export default command({
  summary: 'what quantising or running would do, before a byte is read',
  arguments: [{ name: '<model>', description: 'a folder in Hugging Face form, a .gguf file, or "embedded"' }],
  options: [...METHOD_OPTIONS, { flags: '--plan', description: 'the steps of one run, as the backends get them' }],
  passUnknown: true,
  examples: ['fewbit explain embedded --method bitsandbytes --bits 4', 'fewbit explain embedded --plan'],
  async run({ args, options, output, unknown }) {
    const source = await openSource(args[0]!, output)
    const plan = compilePlan(source.graph)
    if (options.plan || !(options.method || options.config)) {
      const { config, graph } = source
      const text = options.plan
        ? printPlan(plan)
        : `${config.modelType}: ${config.layers} layers, hidden ${config.hiddenSize}, ${config.heads} heads (${config.kvHeads} key/value), vocabulary ${config.vocabSize}; ${graph.parameters.length} parameters, ${plan.steps.length} steps, ${formatBytes(plan.rowFloats * 4)} a row`
      output.result(
        {
          modelType: config.modelType,
          parameters: graph.parameters.length,
          steps: plan.steps.length,
          rowBytes: plan.rowFloats * 4,
        },
        text,
      )
    } else {
      const { method, stored, config } = await parsedMethod(options, unknown)
      const work = await planQuantize(source, method, config, await quantizeOptions(source, method, options))
      for (const message of work.warnings) output.event({ event: 'warning', message })
      const jobs = new Map(work.jobs.map((job) => [job.name, job]))
      const tensors = work.infos.map((info, i) => {
        const step = work.plan.tensors[i]
        const note = step.action === 'quantize' ? (step.note ?? '') : (step.reason ?? '')
        return {
          name: info.name,
          shape: info.shape,
          dtype: info.dtype,
          action: step.action,
          becomes: becomes(jobs.get(info.name)),
          note,
        }
      })
      const rows = tensors.map((t) => [t.name, `[${t.shape.join(', ')}]`, t.dtype, t.action, t.becomes, t.note])
      output.result(
        { method: method.name, config: toPlain(stored), tensors, jobs: work.jobs.map(describeJob) },
        table(['tensor', 'shape', 'dtype', 'action', 'becomes', ''], rows),
      )
    }
    await source.checkpoint.close()
  },
})
