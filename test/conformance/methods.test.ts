// Every registered method that stores safetensors. Nothing here names one.
import { registerMethod } from '../../src/methods/index.ts'
import { methodSuite } from '../support/method-suite.ts'
import { rows } from '../support/row-method.ts'

registerMethod(rows) // the example of docs/add-a-method.md is walked like the built-in ones
methodSuite('safetensors')
