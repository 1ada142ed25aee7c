/** One call after the other on a table of 100,000 rows: reads synchronous where a package has such, every commit durable. */
import { rivals } from '../drivers/rivals.js'
import type { Suite } from '../suite.js'

const program = 'storage/measure.ts'

export const suite: Suite = {
  name: 'storage',
  cases: ['get', 'get/beyond-cache', 'all-100', 'all-100/beyond-cache', 'iterate-100', 'insert', 'tx-100'].map((name) => ({
    name,
    unit: 'per second',
    better: 'higher',
    mustRatio: { 'better-sqlite3': 1 },
  })),
  subjects: [{ name: 'zqlite', program, args: ['zqlite-sync'] }, ...rivals(program)],
}
