/** One call after the other on a table of 100,000 rows: reads synchronous where a package has such, every commit durable. */
import { rivals } from '../drivers/rivals.js'
import type { Case, Suite } from '../suite.js'

const program = 'storage/measure.ts'

export const suite: Suite = {
  name: 'storage',
  cases: [
    ...['get', 'get/beyond-cache', 'all-100', 'all-100/beyond-cache', 'iterate-100', 'insert', 'tx-100'].map(
      (name): Case => ({ name, unit: 'per second', better: 'higher', mustRatio: { 'better-sqlite3': 1 } }),
    ),
    { name: 'nearest-5-of-50000', unit: 'us', better: 'lower', must: 1_000 },
  ],
  subjects: [{ name: 'zqlite', program, args: ['zqlite-sync'] }, ...rivals(program)],
}
