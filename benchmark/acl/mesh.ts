/**
 * A thousand rules between labels for libraries that have no priorities, with what they are measured by: all rules are of
 * one priority, so that a deny among those that match decides, in all of them.
 */
import { AclEngine, type AclPeer, type AclRule } from 'zqlite'
import { labelRules, meshPeers, peerTrace, world } from './sets.js'

export interface Question {
  source: number
  destination: number
  port: number
}

/** Whether a library lets it pass. */
export type Ask = (question: Question) => boolean

const most = 20_000

/** A rule between two labels as libraries are told of it. */
export interface Simple {
  action: 'allow' | 'deny'
  source: string
  destination: string
  protocol: number
  low: number
  high: number
}

/** The rules and peers, ours with them, and questions of which none comes twice. */
export function mesh(count: number): { rules: AclRule[]; peers: AclPeer[]; engine: AclEngine; questions: Question[] } {
  const rules = labelRules(1000, world).map((rule) => ({ ...rule, priority: 0 }))
  const peers = meshPeers(10_000, world)
  const engine = new AclEngine()
  engine.setRules(rules)
  engine.putPeers(peers)
  return { rules, peers, engine, questions: peerTrace(peers.length, count) }
}

/**
 * Nanoseconds a question, for as many as three seconds allow; each answer was compared with ours in a first part, which
 * also warms the library up.
 */
export async function measure(make: (rules: readonly Simple[], peers: readonly AclPeer[]) => Ask | Promise<Ask>): Promise<number> {
  const { rules, peers, engine, questions } = mesh(most)
  const ask = await make(rules.map(simple), peers)
  check(ask, engine, questions)
  const timed = questions.slice(most / 2)
  const start = performance.now()
  let done = 0
  while (done < timed.length && performance.now() - start < 3000) ask(timed[done++] as Question)
  return ((performance.now() - start) * 1e6) / done
}

function check(ask: Ask, engine: AclEngine, questions: readonly Question[]): void {
  const ours = (question: Question): { allowed: boolean; rule: number | null } => engine.decide({ ...question, protocol: 6, at: 0 })
  const first = questions.slice(0, most / 2)
  const decided = first.filter((question) => ours(question).rule !== null)
  if (decided.length < 10) throw new Error(`only ${decided.length} questions are decided by a rule`)
  for (const question of [...decided.slice(0, 100), ...first.slice(0, 100)]) {
    const { allowed } = ours(question)
    if (ask(question) !== allowed) throw new Error(`another answer than ours, ${String(allowed)}, to ${JSON.stringify(question)}`)
  }
}

function simple({ id, action, sources: [source], destinations: [destination], protocols: [protocol] = [], ports: [range] = [] }: AclRule): Simple {
  if (source === undefined || destination === undefined || protocol === undefined || range === undefined) throw new Error(`rule ${id} is of another kind`)
  return { action, source, destination, protocol, low: range[0], high: range[1] }
}
