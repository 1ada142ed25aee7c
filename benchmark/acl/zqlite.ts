/** Ours, through the package as users have it. */
import { AclEngine, type AclRule } from 'zqlite'
import { median, subject } from '../subject.js'
import type { Effort } from '../suite.js'
import { addressRules, formatV4, labelRules, meshPeers, readClassbench, trace } from './sets.js'

const world = { users: 5000, groups: 500, tags: 200 }
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

/** Nanoseconds a question. */
function single(name: string): number {
  const rounds = 400_000
  const times: number[] = []
  const engine = name.includes('strings') ? addressEngine(10_000) : meshEngine(name.endsWith('1k') ? 1000 : 10_000)
  const { sources, destinations, ports } = trace(addressRules(10_000), 4096)
  const texts = Array.from(sources, (source, i) => [formatV4(source), formatV4(destinations[i] as number)] as const)
  let allowed = 0
  for (let run = 0; run < 5; run++) {
    const start = process.hrtime.bigint()
    for (let i = 0; i < rounds; i++) {
      const k = i & 4095
      if (name.includes('strings')) {
        const [source, destination] = texts[k] as readonly [string, string]
        if (engine.decideAddresses({ source, destination, protocol: 6, port: ports[k] as number, at: 0 }).allowed) allowed++
      } else if (engine.decide({ source: (sources[k] as number) % 10_000, destination: (destinations[k] as number) % 10_000, protocol: 6, port: 443, at: 0 }).allowed) allowed++
    }
    times.push(Number(process.hrtime.bigint() - start) / rounds)
  }
  if (allowed === 0) throw new Error('nothing was allowed')
  return median(times)
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

/** Nanoseconds a question, in batches of 4096. */
function batch(set: string, quick: boolean): number {
  const rules = set === 'own-100k' ? addressRules(100_000) : readClassbench(set)
  const engine = new AclEngine()
  engine.setRules(rules)
  const count = quick ? 200_000 : 1_000_000
  const questions = trace(rules, count)
  const times: number[] = []
  for (let run = 0; run < 3; run++) {
    const start = performance.now()
    for (let i = 0; i < count; i += 4096) {
      const part = <T extends { subarray: (from: number, to: number) => T }>(of: T): T => of.subarray(i, i + 4096)
      engine.decideAddressesBatch({ sources: part(questions.sources), destinations: part(questions.destinations), protocols: part(questions.protocols), ports: part(questions.ports), at: 0 })
    }
    times.push((1e6 * (performance.now() - start)) / count)
  }
  return median(times)
}
