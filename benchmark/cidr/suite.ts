/** Prefix tables: which prefix holds this address, on a real routing table. */
import { existsSync } from 'node:fs'
import { newerNode } from '../drivers/rivals.js'
import type { Suite } from '../suite.js'
import { tableFile } from './load.js'

const batches = ['v4-batch-covered', 'v4-batch-uniform', 'v6-batch-covered'].flatMap((name) =>
  ['compact', 'fast'].map((mode) => ({ name: `${name}-${mode}`, unit: 'ns an address', better: 'lower' as const, mustRatio: { 'dpdk-test-fib': mode === 'fast' ? 1 : 0.5 } })),
)

export const suite: Suite = {
  name: 'cidr',
  cases: [
    ...batches,
    { name: 'v4-single-number', unit: 'ns', better: 'lower' },
    { name: 'v4-single-string', unit: 'ns', better: 'lower' },
    { name: 'v6-single-string', unit: 'ns', better: 'lower' },
    { name: 'build', unit: 'ms', better: 'lower', must: 1000 },
    { name: 'update', unit: 'ns', better: 'lower', must: 1000 },
    { name: 'snapshot-load', unit: 'ms', better: 'lower', must: 50 },
  ],
  subjects: [
    { name: 'zqlite', program: 'cidr/zqlite.ts' },
    { name: 'net.BlockList', program: 'cidr/block-list.ts', requires: 'node', runtime: newerNode },
    { name: 'longest-prefix-match', program: 'cidr/longest-prefix-match.ts', requires: 'longest-prefix-match' },
    { name: 'netparser', program: 'cidr/netparser.ts', requires: 'netparser' },
    { name: 'cidr-matcher', program: 'cidr/cidr-matcher.ts', requires: 'cidr-matcher' },
    { name: 'ipaddr.js', program: 'cidr/ipaddr.ts', requires: 'ipaddr.js' },
    { name: 'dpdk-test-fib', program: 'cidr/dpdk.ts', requiresProgram: 'dpdk-test-fib', cases: batches.map(({ name }) => name) },
  ],
  context: () => ({ table: existsSync(tableFile) ? 'real, 1.06 million prefixes' : 'made up, as ../shared/data/prefixes is absent' }),
}
