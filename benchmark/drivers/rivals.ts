/** The packages that are measured beside zqlite. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Subject } from '../suite.js'

export const newerNode = join(fileURLToPath(new URL('../node_modules/node/bin/node', import.meta.url)))

/** Each as a subject that `program` measures. */
export function rivals(program: string): Subject[] {
  return [
    { name: 'better-sqlite3', program, args: ['better-sqlite3'], requires: 'better-sqlite3' },
    { name: 'sqlite3', program, args: ['sqlite3'], requires: 'sqlite3' },
    { name: 'libsql', program, args: ['libsql'], requires: 'libsql' },
    { name: 'node:sqlite', program, args: ['node-sqlite'], requires: 'node', runtime: newerNode },
  ]
}
