/** Decisions: single and in batches, and what changes of rules and peers cost. Source ports of ClassBench rules are left out, as ours have none. */
import type { Case, Suite } from '../suite.js'
import { classbench } from './sets.js'

const batches: Case[] = [...classbench(), 'own-100k'].map((name) => ({ name: `${name}-batch`, unit: 'ns', better: 'lower' }))

export const suite: Suite = {
  name: 'acl',
  cases: [
    { name: 'single-ids-10k', unit: 'ns', better: 'lower', must: 130 },
    { name: 'single-ipv4-strings-10k', unit: 'ns', better: 'lower', must: 220 },
    { name: 'single-ids-1k', unit: 'ns', better: 'lower' },
    { name: 'build-10k', unit: 'ms', better: 'lower', must: 30 },
    { name: 'build-100k', unit: 'ms', better: 'lower', must: 700 },
    { name: 'add-rule', unit: 'us', better: 'lower', must: 50 },
    { name: 'toggle', unit: 'us', better: 'lower', must: 1 },
    { name: 'relabel-peer', unit: 'us', better: 'lower', must: 10 },
    ...batches,
  ],
  subjects: [
    { name: 'zqlite', program: 'acl/zqlite.ts' },
  ],
  context: () => (classbench().length > 0 ? {} : { classbench: 'left out: ../shared/data/classbench is not there' }),
}
