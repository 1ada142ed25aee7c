/** Ours, through the package as users have it. */
import { AclEngine, type AclRule } from 'zqlite'
import { median, subject } from '../subject.js'
import type { Effort } from '../suite.js'
import { mesh } from './mesh.js'
import { addressRules, formatV4, labelRules, meshPeers, peerTrace, setOf, trace, world } from './sets.js'

const more = addressRules(11_000).slice(10_000)

subject(async (effort) => measure(effort))

async function measure({ case: name, quick }: Effort): Promise<number> {
  if (name.startsWith('single-')) return single(name)
  if (name.startsWith('build-')) return build(name === 'build-10k' ? 10_000 : 100_000)
  if (name === 'add-rule') return each(addressEngine(10_000), 1000, (engine, n) => engine.putRules([{ ...(more[n % more.length] as AclRule), id: 1e6 + n }]))
  if (name === 'toggle') return each(addressEngine(10_000), 100_000, (engine, n) => engine.setEnabled(n % 10_000, n % 2 === 0))
  if (name === 'relabel-peer') return relabel()
  return batch(name.replace('-batch', ''), quick)
}

function addressEngine(count: number): AclEngine {
  const engine = new AclEngine()
  engine.setRules(addressRules(count))
  return engine
}

function meshEngine(count: number): AclEngine {
  const engine = new AclEngine()
  engine.setRules(labelRules(count, world))
  engine.putPeers(meshPeers(10_000, world))
  return engine
}

/**
 * Nanoseconds a question: of 1.2 million, none of which is asked twice, in six parts, the first of which is not counted: in it V8
 * compiles, and collects what making the questions has left behind.
 */
function single(name: string): number {
  const part = 200_000
  const times: number[] = []
  const ask = name.includes('strings') ? addressQuestions(6 * part) : peerQuestions(name, 6 * part)
  let allowed = 0
  for (let run = 0; run < 6; run++) {
    const start = process.hrtime.bigint()
    for (let i = run * part; i < (run + 1) * part; i++) if (ask(i)) allowed++
    if (run > 0) times.push(Number(process.hrtime.bigint() - start) / part)
  }
  if (allowed === 0) throw new Error('nothing was allowed')
  return median(times)
}

function addressQuestions(count: number): (i: number) => boolean {
  const engine = addressEngine(10_000)
  const { sources, destinations, ports } = trace(addressRules(10_000), count)
  const questions = Array.from(sources, (source, i) => ({ source: formatV4(source), destination: formatV4(destinations[i] as number), port: ports[i] as number }))
  return (i) => {
    const { source, destination, port } = questions[i] as (typeof questions)[number]
    return engine.decideAddresses({ source, destination, protocol: 6, port, at: 0 }).allowed
  }
}

function peerQuestions(name: string, count: number): (i: number) => boolean {
  const { engine, questions } = name.endsWith('1k') ? mesh(count) : { engine: meshEngine(10_000), questions: peerTrace(10_000, count) }
  return (i) => {
    const { source, destination, port } = questions[i] as (typeof questions)[number]
    return engine.decide({ source, destination, protocol: 6, port, at: 0 }).allowed
  }
}

/** Milliseconds to take all rules. */
function build(count: number): number {
  const rules = addressRules(count)
  const times: number[] = []
  for (let run = 0; run < 3; run++) {
    const engine = new AclEngine()
    const start = performance.now()
    engine.setRules(rules)
    times.push(performance.now() - start)
  }
  return median(times)
}

/** Microseconds of a change, all changes together. */
function each(engine: AclEngine, count: number, change: (engine: AclEngine, n: number) => void): number {
  const start = performance.now()
  for (let n = 0; n < count; n++) change(engine, n)
  return (1000 * (performance.now() - start)) / count
}

function relabel(): number {
  const peers = meshPeers(10_000, world)
  return each(meshEngine(10_000), 20_000, (engine, n) => {
    const peer = peers[(n * 7919) % peers.length]
    if (peer !== undefined) engine.putPeers([{ ...peer, labels: [`user:${n % world.users}`, `group:${n % world.groups}`] }])
  })
}

/** Nanoseconds a question, in batches of 4096, with the answers always in the same arrays, as `dpdk-test-acl` has them. */
function batch(set: string, quick: boolean): number {
  const rules = setOf(set)
  const engine = new AclEngine()
  engine.setRules(rules)
  const count = quick ? 200_000 : 1_000_000
  const questions = trace(rules, count)
  const answers = (length: number) => ({ rules: new Float64Array(length), allowed: new Uint8Array(length) })
  const [full, last] = [answers(4096), answers(count % 4096)]
  const times: number[] = []
  for (let run = 0; run < 3; run++) {
    const start = performance.now()
    for (let i = 0; i < count; i += 4096) {
      const into = i + 4096 <= count ? full : last
      const part = <T extends { subarray: (from: number, to: number) => T }>(of: T): T => of.subarray(i, i + 4096)
      engine.decideAddressesBatch({ sources: part(questions.sources), destinations: part(questions.destinations), protocols: part(questions.protocols), ports: part(questions.ports), at: 0, into })
    }
    times.push((1e6 * (performance.now() - start)) / count)
  }
  return median(times)
}
