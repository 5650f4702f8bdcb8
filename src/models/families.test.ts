import { familySuite } from '../../test/support/family-suite.ts'

familySuite('reference')
