/**
 * A policy of 2,000 lines takes the place of another among 50,000 peers: read, validated, its tests run, compiled, and known
 * whom it concerns and how. The same with twice the lines and with twice the peers shows that no step is quadratic.
 */
import { existsSync } from 'node:fs'
import type { Suite } from '../suite.js'
import { folder } from './captures.js'

/** The captures are outside data; without them their case is left out. */
const present = existsSync(folder)

export const suite: Suite = {
  name: 'policy',
  cases: [
    { name: 'apply-2000-lines-50k-peers', unit: 'ms', better: 'lower', must: 250 },
    { name: 'apply-4000-lines-50k-peers', unit: 'ms', better: 'lower' },
    { name: 'apply-2000-lines-100k-peers', unit: 'ms', better: 'lower' },
    { name: 'doubled-lines', unit: 'times as long', better: 'lower', must: 3 },
    { name: 'doubled-peers', unit: 'times as long', better: 'lower', must: 3 },
    { name: 'put-2000-lines-50k-peers', unit: 'ms until sync has its batch', better: 'lower' },
    ...(present ? [{ name: 'captures', unit: 'us a capture', better: 'lower' as const }] : []),
  ],
  subjects: [{ name: 'zqlite', program: 'policy/apply.ts' }],
  context: () => (present ? {} : { captures: 'left out: ../shared/data/captures is not there' }),
}
