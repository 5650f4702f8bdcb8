// Every registered method whose container is GGUF. Nothing here names one.
import { methodSuite } from '../support/method-suite.ts'

methodSuite('gguf')
