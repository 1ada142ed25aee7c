/**
 * Holds `AclEngine` to DPDK's ACL library: for each set of rules, the rule that decides each of the questions must be the one
 * that `dpdk-test-acl` (Debian: `dpdk-dev`) finds, in each of its ways to look up.
 *
 *     npx tsx __test__/oracles/dpdk-acl.ts [--questions N] [FILE …]
 *
 * FILE is a set of ClassBench for IPv4, compressed with gzip or not; without any, sets made here are taken. It ends with 0
 * when all answers are equal, with 1 when one is not, and with 77 when there is no `dpdk-test-acl`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { AclEngine, type AclRule } from 'zqlite'
import { answers, type Path, write } from '../../benchmark/acl/dpdk-test-acl'
import { addressRules, readClassbench, siteRules, type Trace, trace } from '../../benchmark/acl/sets'
import { onPath, say, skip } from './oracle'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { questions: { type: 'string', default: '1000000' } } })
const count = Number(values.questions)
if (!Number.isInteger(count) || count < 1) throw new Error('--questions takes a whole number from 1')
const sets: [name: string, rules: () => AclRule[]][] =
  positionals.length > 0
    ? positionals.map((file) => [basename(file), () => readClassbench(file)])
    : [['addresses, 10,000 rules', () => addressRules(10_000)], ['sites, 10,000 rules', () => siteRules(10_000)]]

if (!onPath('dpdk-test-acl')) skip('there is no dpdk-test-acl on PATH (Debian: apt-get install dpdk-dev)')
const folder = mkdtempSync(join(tmpdir(), 'dpdk-acl-'))
let wrong = 0
try {
  for (const [name, make] of sets) {
    const rules = make()
    const questions = trace(rules, count)
    const ours = decide(rules, questions)
    const files = write(folder, rules, questions)
    for (const path of ['scalar', 'avx2', 'avx512x32'] satisfies Path[]) {
      const theirs = answers(folder, files, path)
      if (typeof theirs === 'string') {
        // A processor need not have each kind of instructions; without rules there is nothing to compare.
        if (path === 'scalar') wrong++
        say(`${name}: ${path} ${path === 'scalar' ? 'FAILED' : 'LEFT OUT'}: ${theirs}`)
        continue
      }
      const different = ours.reduce((sum, rule, i) => sum + (Object.is(rule, theirs[i]) ? 0 : 1), 0)
      wrong += different
      const decided = ours.reduce((sum, rule) => sum + (Number.isNaN(rule) ? 0 : 1), 0)
      say(`${name}: ${path}: ${count} questions, ${decided} of them decided by ${new Set(ours).size - 1} of ${rules.length} rules, ${different} answered differently`)
      const first = ours.findIndex((rule, i) => !Object.is(rule, theirs[i]))
      if (first >= 0) say(`  first: ${questions.sources[first]} ${questions.destinations[first]} ${questions.protocols[first]} ${questions.ports[first]}: ours ${ours[first]}, theirs ${theirs[first]}`)
    }
  }
} finally {
  rmSync(folder, { recursive: true })
}
process.exitCode = wrong > 0 ? 1 : 0

function decide(rules: readonly AclRule[], { sources, destinations, protocols, ports }: Trace): Float64Array {
  const engine = new AclEngine()
  engine.setRules(rules)
  return engine.decideAddressesBatch({ sources, destinations, protocols, ports, at: 0 }).rules
}
