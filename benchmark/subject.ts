/** The frame of a program that measures one subject: reads what to do, answers with one line of JSON. */
import type { Effort } from './suite.js'

/** A subject cannot answer a case, for the reason that the message gives: it is left out there, and said so. */
export class Unable extends Error {}

/** Runs `measure` for the case that the runner asked for, and ends the process. */
export function subject(measure: (effort: Effort, ...args: string[]) => Promise<number>): void {
  const args = process.argv.slice(2)
  const effort = JSON.parse(args.pop() ?? '{}') as Effort
  void (async () => {
    try {
      const line = `${JSON.stringify({ figure: await measure(effort, ...args) })}\n`
      process.stdout.write(line, () => process.exit(0))
    } catch (error) {
      if (error instanceof Unable) {
        process.stdout.write(`${JSON.stringify({ unable: error.message })}\n`, () => process.exit(0))
        return
      }
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
      process.exit(1)
    }
  })()
}

/** The middle of some figures. */
export function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}
