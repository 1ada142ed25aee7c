/** Decisions: single and in batches, and what changes of rules and peers cost. */
import type { Case, Subject, Suite } from '../suite.js'
import { classbench, own } from './sets.js'

const batches: Case[] = [...classbench(), ...own].map((name) => ({
  name: `${name}-batch`,
  unit: 'ns',
  better: 'lower',
  mustRatio: { 'dpdk-test-acl-avx2': 1 },
  aimRatio: { 'dpdk-test-acl-avx512': 1 },
}))

/** They have labels alone, and no priorities. */
const libraries: Subject[] = ['casbin', '@cedar-policy/cedar-wasm', '@casl/ability'].map((name) => ({
  name: name.replace('@cedar-policy/', ''),
  program: `acl/${name.replace(/^.*\//, '').replace('ability', 'casl').replace('cedar-wasm', 'cedar')}.ts`,
  requires: name,
  cases: ['single-ids-1k'],
}))

export const suite: Suite = {
  name: 'acl',
  cases: [
    { name: 'single-ids-10k', unit: 'ns', better: 'lower', must: 130 },
    { name: 'single-ipv4-strings-10k', unit: 'ns', better: 'lower', must: 220 },
    { name: 'single-ids-1k', unit: 'ns', better: 'lower', mustRatio: { casbin: 1000, 'cedar-wasm': 1000, '@casl/ability': 1000 } },
    { name: 'build-10k', unit: 'ms', better: 'lower', must: 30 },
    { name: 'build-100k', unit: 'ms', better: 'lower', must: 700 },
    { name: 'add-rule', unit: 'us', better: 'lower', must: 50 },
    { name: 'toggle', unit: 'us', better: 'lower', must: 1 },
    { name: 'relabel-peer', unit: 'us', better: 'lower', must: 10 },
    ...batches,
  ],
  subjects: [
    { name: 'zqlite', program: 'acl/zqlite.ts' },
    ...libraries,
    ...['avx2', 'avx512'].map((path): Subject => ({
      name: `dpdk-test-acl-${path}`,
      program: 'acl/dpdk.ts',
      args: [path],
      requiresProgram: 'dpdk-test-acl',
      cases: batches.map(({ name }) => name),
    })),
  ],
  context: () => (classbench().length > 0 ? {} : { classbench: 'left out: ../shared/data/classbench is not there' }),
}
