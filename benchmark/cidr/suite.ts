/** Prefix tables: which prefix holds this address, on a real routing table. */
import { existsSync } from 'node:fs'
import { newerNode } from '../drivers/rivals.js'
import type { Suite } from '../suite.js'
import { tableFile } from './load.js'

const batches = ['v4-batch-covered', 'v4-batch-uniform', 'v6-batch-covered'].flatMap((name) =>
  ['compact', 'fast'].map((mode) => ({ name: `${name}-${mode}`, unit: 'ns an address', better: 'lower' as const, mustRatio: { 'dpdk-test-fib': mode === 'fast' ? 1 : 0.5 } })),
)

/** What the packages in JavaScript are asked; they have no modes, so a batch case counts once. */
const once = [
  ...batches.map(({ name }) => name).filter((name) => name.endsWith('compact')),
  'v4-single-number',
  'v4-single-string',
  'v6-single-string',
  'build',
  'update',
  'snapshot-load',
]

export const suite: Suite = {
  name: 'cidr',
  cases: [
    ...batches,
    { name: 'v4-single-number', unit: 'ns', better: 'lower', mustRatio: { 'net.BlockList': 3 } },
    { name: 'v4-single-string', unit: 'ns', better: 'lower', mustRatio: { 'net.BlockList': 3 } },
    { name: 'v6-single-string', unit: 'ns', better: 'lower', mustRatio: { 'net.BlockList': 3 } },
    { name: 'build', unit: 'ms', better: 'lower', must: 1000 },
    { name: 'update', unit: 'ns', better: 'lower', must: 1000 },
    { name: 'snapshot-load', unit: 'ms', better: 'lower', must: 50 },
  ],
  subjects: [
    { name: 'zqlite', program: 'cidr/zqlite.ts' },
    { name: 'net.BlockList', program: 'cidr/block-list.ts', requires: 'node', runtime: newerNode, cases: once },
    { name: 'longest-prefix-match', program: 'cidr/longest-prefix-match.ts', requires: 'longest-prefix-match', cases: once },
    { name: 'netparser', program: 'cidr/netparser.ts', requires: 'netparser', cases: once },
    { name: 'cidr-matcher', program: 'cidr/cidr-matcher.ts', requires: 'cidr-matcher', cases: once },
    { name: 'ipaddr.js', program: 'cidr/ipaddr.ts', requires: 'ipaddr.js', cases: once },
    { name: 'dpdk-test-fib', program: 'cidr/dpdk.ts', requiresProgram: 'dpdk-test-fib', cases: batches.map(({ name }) => name) },
  ],
  context: () => ({ table: existsSync(tableFile) ? 'real, 1.06 million prefixes' : 'made up, as ../shared/data/prefixes is absent' }),
}
