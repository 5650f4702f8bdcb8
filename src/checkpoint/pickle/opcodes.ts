// The opcodes of a pickle that are data, as torch.save writes them; every other one is refused.
import type { Unpickler } from './unpickle.ts'

export const OPCODES: Readonly<Record<number, (u: Unpickler) => void>> = {
  128: (u) => void u.take(1), // PROTO
  149: (u) => void u.take(8), // FRAME
  40: (u) => u.mark(),
  48: (u) => void u.pop(), // POP
  49: (u) => void u.marked(), // POP_MARK
  50: (u) => u.push(u.top()), // DUP
  78: (u) => u.push(null),
  136: (u) => u.push(true),
  137: (u) => u.push(false),
  75: (u) => u.push(u.number(1)), // BININT1
  77: (u) => u.push(u.number(2)), // BININT2
  74: (u) => u.push(u.signed()), // BININT
  138: (u) => u.long(u.number(1)), // LONG1
  71: (u) => u.push(u.float()), // BINFLOAT
  88: (u) => u.push(u.text(u.number(4))), // BINUNICODE
  140: (u) => u.push(u.text(u.number(1))), // SHORT_BINUNICODE
  141: (u) => u.push(u.text(u.length8())), // BINUNICODE8
  84: (u) => u.push(u.text(u.number(4))), // BINSTRING
  85: (u) => u.push(u.text(u.number(1))), // SHORT_BINSTRING
  66: (u) => u.push(u.take(u.number(4))), // BINBYTES
  67: (u) => u.push(u.take(u.number(1))), // SHORT_BINBYTES
  125: (u) => u.push(new Map()), // EMPTY_DICT
  93: (u) => u.push([]), // EMPTY_LIST
  41: (u) => u.push([]), // EMPTY_TUPLE
  100: (u) => {
    const items = u.marked() // DICT
    u.push(new Map())
    u.setItems(items)
  },
  108: (u) => {
    const items = u.marked() // LIST
    u.push([])
    u.append(items)
  },
  116: (u) => u.tuple(u.marked()), // TUPLE
  133: (u) => u.tuple(u.last(1)), // TUPLE1
  134: (u) => u.tuple(u.last(2)), // TUPLE2
  135: (u) => u.tuple(u.last(3)), // TUPLE3
  97: (u) => u.append(u.last(1)), // APPEND
  101: (u) => u.append(u.marked()), // APPENDS
  115: (u) => u.setItems(u.last(2)), // SETITEM
  117: (u) => u.setItems(u.marked()), // SETITEMS
  113: (u) => u.put(u.number(1)), // BINPUT
  114: (u) => u.put(u.number(4)), // LONG_BINPUT
  148: (u) => u.memoize(), // MEMOIZE
  104: (u) => u.get(u.number(1)), // BINGET
  106: (u) => u.get(u.number(4)), // LONG_BINGET
  99: (u) => u.global(u.line(), u.line()), // GLOBAL
  147: (u) => u.stackGlobal(), // STACK_GLOBAL
  81: (u) => u.persistent(), // BINPERSID
  82: (u) => u.reduce(), // REDUCE
  98: (u) => u.build(), // BUILD
}
