/**
 * `dpdk-test-acl` (Debian: dpdk-dev), DPDK's own program for its ACL library, given our rules and questions. The first rule
 * of its file that matches decides, so rules are written in the order in which ours decide.
 */
import { spawnSync } from 'node:child_process'
import { openSync, closeSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AclRule } from 'zqlite'
import type { Trace } from './sets.js'

/** The kinds of instructions that it can be told to use. */
export type Path = 'scalar' | 'avx2' | 'avx512x16' | 'avx512x32'

/** Rules and questions as files. */
export interface Files {
  rules: string
  trace: string
  /** How many questions there are. */
  count: number
  /** The rules' ids, in the order of the file. */
  order: number[]
}

/** Of rules of IPv4 with one prefix on each side, and at most one protocol and range of ports. */
export function write(folder: string, rules: readonly AclRule[], { sources, destinations, protocols, ports }: Trace): Files {
  const deny = ({ action }: AclRule): number => (action === 'deny' ? 0 : 1)
  const sorted = rules.toSorted((a, b) => b.priority - a.priority || deny(a) - deny(b) || a.id - b.id)
  const prefix = ([selector = '*']: readonly string[]): string => (selector === '*' ? '0.0.0.0/0' : selector)
  const lines = sorted.map((rule) => {
    const [low, high] = rule.ports?.[0] ?? [0, 65535]
    const protocol = rule.protocols?.[0] === undefined ? '0x00/0x00' : `0x${rule.protocols[0].toString(16)}/0xff`
    return `@${prefix(rule.sources)}\t${prefix(rule.destinations)}\t0 : 65535\t${low} : ${high}\t${protocol}\n`
  })
  const files = { rules: join(folder, 'rules'), trace: join(folder, 'trace'), count: sources.length, order: sorted.map(({ id }) => id) }
  writeFileSync(files.rules, lines.join(''))
  writeFileSync(files.trace, Array.from(sources, (source, i) => `${source} ${destinations[i]} 0 ${ports[i]} ${protocols[i]}\n`).join(''))
  return files
}

/** The rule that decides each question, `NaN` where none matches; or why there is no answer. */
export function answers(folder: string, files: Files, path: Path): Float64Array | string {
  const output = join(folder, 'answers')
  const failure = run(files, ['--verbose=2', `--alg=${path}`, '--tracestep=256', '--iter=1'], output)
  if (failure !== undefined) return failure
  const found = new Float64Array(files.count).fill(NaN)
  let answered = 0
  for (const [, question, result] of readFileSync(output, 'latin1').matchAll(/^ipv4_5tuple: (\d+), category: 0, result: (\d+)$/gm)) {
    answered++
    // It counts from 1, and prints one less than nothing in 32 bits for none.
    if (result !== '4294967295') found[Number(question) - 1] = files.order[Number(result)] ?? Infinity
  }
  return answered === files.count ? found : `it answered ${answered} of ${files.count} questions`
}

/** Nanoseconds a question, lookups alone, of so many questions a call; or why there is no answer. */
export function time(folder: string, files: Files, path: Path, step: number): number | string {
  const output = join(folder, 'times')
  const failure = run(files, ['--verbose=0', `--alg=${path}`, `--tracestep=${step}`, '--iter=3'], output)
  if (failure !== undefined) return failure
  const [, rate] = /, (\d+(?:\.\d+)?) pkt\/sec$/m.exec(readFileSync(output, 'latin1')) ?? []
  return rate === undefined ? 'it printed no rate' : 1e9 / Number(rate)
}

/** Runs it with its output in a file; returns why it failed. */
function run(files: Files, options: readonly string[], output: string): string | undefined {
  // Unless it is allowed to, it does not use AVX-512. One more is room for a question that it would write behind the end.
  const eal = ['--no-huge', '-m', '12000', '--no-pci', '--no-telemetry', '-l', '0', '--force-max-simd-bitwidth=512']
  const own = [`--rulesf=${files.rules}`, `--tracef=${files.trace}`, `--rulenum=${files.order.length}`, `--tracenum=${files.count + 1}`, '--bldcat=1', '--runcat=1']
  const file = openSync(output, 'w')
  const { status, signal, error, stderr } = spawnSync('dpdk-test-acl', [...eal, '--', ...own, ...options], { stdio: ['ignore', file, 'pipe'], encoding: 'utf8', timeout: 200_000 })
  closeSync(file)
  if (status === 0) return undefined
  if (error !== undefined && 'code' in error && error.code === 'ETIMEDOUT') return 'it had not ended after 200 s'
  const said = `${stderr}\n${readFileSync(output, 'latin1').slice(0, 10_000)}`.split('\n').filter((line) => /ACL|Cause|fail/i.test(line) && !line.startsWith('TESTACL'))
  return `ended with ${status ?? signal}: ${said.map((line) => line.trim()).join('; ').slice(0, 300)}`
}
