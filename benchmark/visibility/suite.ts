/** Who sees whom: 50,000 peers (5,000 users, 500 groups, 200 tags) and 10,000 rules. */
import type { Suite } from '../suite.js'

export const suite: Suite = {
  name: 'visibility',
  cases: [
    { name: 'memory', unit: 'MB', better: 'lower', must: 64 },
    { name: 'one', unit: 'us', better: 'lower', must: 20, aim: 10 },
    { name: 'all', unit: 's', better: 'lower', must: 0.2, aim: 0.1 },
    { name: 'affected-one-rule', unit: 'ms', better: 'lower', must: 10 },
  ],
  subjects: [{ name: 'zqlite', program: 'visibility/zqlite.ts' }],
}
