/** Ours, through the package as users have it. */
import { AclEngine, type AclPeer } from 'zqlite'
import { labelRules, meshPeers, world } from '../acl/sets.js'
import { median, subject } from '../subject.js'

const rules = labelRules(10_000, world)
const peers = meshPeers(50_000, world)

subject(async ({ case: name }) => {
  const { memory, engine } = fill()
  if (name === 'memory') return memory
  if (name === 'one') return one(engine)
  if (name === 'all') return all(engine)
  return affected(engine)
})

/** Megabytes that the process grew by. */
function fill(): { memory: number; engine: AclEngine } {
  // What the addon takes at its first use is not the engine's.
  new AclEngine().putPeers(peers.slice(0, 10))
  const before = process.memoryUsage.rss()
  const engine = new AclEngine()
  engine.setRules(rules)
  // In parts, so that what the border needs for a call is small and used again.
  for (let i = 0; i < peers.length; i += 500) engine.putPeers(peers.slice(i, i + 500))
  return { memory: (process.memoryUsage.rss() - before) / 1e6, engine }
}

/** Microseconds to list whom one peer sees. */
function one(engine: AclEngine): number {
  const times: number[] = []
  for (let n = 0; n < 5000; n++) {
    const { id } = peers[(n * 7919) % peers.length] as AclPeer
    const start = performance.now()
    engine.visiblePeers(id, { at: 0 })
    times.push(1000 * (performance.now() - start))
  }
  return median(times)
}

/** Seconds to know of each peer whom it sees: by class, as all peers of a class see the same. */
function all(engine: AclEngine): number {
  const start = performance.now()
  const views = new Map<number, Uint32Array>()
  let seen = 0
  for (const { id } of peers) {
    const peerClass = engine.peerClass(id)
    let view = views.get(peerClass)
    if (view === undefined) views.set(peerClass, (view = engine.visibleClasses(peerClass, { at: 0 })))
    seen += view.length
  }
  const seconds = (performance.now() - start) / 1000
  if (seen === 0) throw new Error('nobody sees anybody')
  return seconds
}

/** Milliseconds to find whom switching a rule concerns. */
function affected(engine: AclEngine): number {
  const times: number[] = []
  for (let n = 0; n < 100; n++) {
    const start = performance.now()
    engine.affected({ disable: [(n * 7919) % rules.length] }, 0)
    times.push(performance.now() - start)
  }
  return median(times)
}
