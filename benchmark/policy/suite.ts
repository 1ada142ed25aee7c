/** Policies: what it takes to read one and work out what it means. The captures are outside data; without them the case is left out. */
import { existsSync } from 'node:fs'
import type { Suite } from '../suite.js'
import { folder } from './captures.js'

const present = existsSync(folder)

export const suite: Suite = {
  name: 'policy',
  cases: present ? [{ name: 'captures', unit: 'us', better: 'lower' }] : [],
  subjects: [{ name: 'zqlite', program: 'policy/ghostwire.ts' }],
  context: () => (present ? {} : { captures: 'left out: ../shared/data/captures is not there' }),
}
