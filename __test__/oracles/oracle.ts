/** What scripts that ask other programs have in common. They are no tests of `npm test`: those programs are not everywhere. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Ended with when nothing was compared, as test programs commonly do. */
const SKIPPED = 77

export function onPath(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)))
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Ends the process without a comparison, so that it cannot be taken for one that went well. */
export function skip(why: string): never {
  process.stderr.write(`SKIPPED, nothing was compared: ${why}\n`)
  process.exit(SKIPPED)
}
