// What a run has compared, section by section: for the console, the exit status and the page in docs/.
export class Report {
  failed = 0
  skipped = []
  sections = new Map()

  /** The interpreter or folder that an environment variable names; where there is none, what it would have been for is skipped by name. */
  given(variable, section) {
    const value = process.env[variable]
    if (!value) {
      this.skipped.push(section)
      console.log(`skip ${section}: ${variable} is not set`)
    }
    return value
  }

  /** Opens a section of the page with its table's heading. */
  section(title, note, columns) {
    console.log(`\n${title}: ${columns.join(', ')}`)
    this.current = { note, columns, rows: [], started: performance.now() }
    this.sections.set(title, this.current)
  }

  row(ok, cells) {
    if (!ok) this.failed++
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${cells.join(', ')}`)
    this.current.rows.push(ok ? cells : [`**${cells[0]}: failed**`, ...cells.slice(1)])
  }

  /** Runs `compare`; what it throws is a failure of `name`. */
  attempt(name, compare) {
    try {
      compare()
    } catch (error) {
      this.failed++
      console.log(`FAIL ${name}: ${error.message}`)
      this.current?.rows.push([`**${name}: failed**`])
    }
  }
}

/** A KL divergence or perplexity with the digits that tell two apart. */
export const fixed = (value) => value.toFixed(value < 0.01 ? 6 : 4)
export const scientific = (value) => value.toExponential(1)
