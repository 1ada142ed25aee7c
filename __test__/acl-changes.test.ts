/** {@link AclEngine}: changes, batches, and what they concern. */
import test from 'ava'
import { AclEngine, type AclPeer, type AclRule, ZqliteError } from 'zqlite'

const allow = (id: number, source: string, destination: string, more: Partial<AclRule> = {}): AclRule => ({ id, priority: 0, action: 'allow', sources: [source], destinations: [destination], ...more })
const deny = (id: number, source: string, destination: string, more: Partial<AclRule> = {}): AclRule => ({ ...allow(id, source, destination, { priority: 1, ...more }), action: 'deny' })
const peer = (id: number, labels: string[] = [], more: Partial<AclPeer> = {}): AclPeer => ({ id, addresses: [`100.64.0.${id}`], labels, ...more })

const engineOf = (rules: AclRule[], peers: AclPeer[]): AclEngine => {
  const engine = new AclEngine()
  engine.setRules(rules)
  engine.putPeers(peers)
  return engine
}
const tcp = (source: number, destination: number, port = 443) => ({ source, destination, protocol: 6, port, at: 0 })

test('single rules come, change, are switched, and go', (t) => {
  const engine = engineOf([allow(1, 'tag:a', 'tag:b')], [peer(1, ['tag:a']), peer(2, ['tag:b', 'group:c'])])
  engine.putRules([deny(2, '*', 'group:c')])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: false, rule: 2 })
  engine.setEnabled(2, false)
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: true, rule: 1 })
  engine.setEnabled(2, true)
  engine.putRules([deny(2, '*', 'group:c', { ports: [[22, 22]] })])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: true, rule: 1 })
  t.deepEqual(engine.decide(tcp(1, 2, 22)), { allowed: false, rule: 2 })
  engine.removeRules([1, 77])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: false, rule: null })
  t.throws(() => engine.setEnabled(1, true), { instanceOf: ZqliteError, code: 'ERR_ACL_UNKNOWN' })
  t.throws(() => engine.setEnabled('2' as never, true), { instanceOf: ZqliteError, code: 'ERR_TYPE' })
  t.throws(() => engine.putRules([allow(3, 'nobody', '*')]), { instanceOf: ZqliteError, code: 'ERR_ACL_RULE' })
})

test('the rule with the id 0 can deny', (t) => {
  const engine = engineOf([deny(0, '*', '*')], [peer(1), peer(2)])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: false, rule: 0 })
  engine.setRules([allow(0, '*', '*')])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: true, rule: 0 })
})

test('noting what has expired changes no answer', (t) => {
  const engine = engineOf([allow(1, '*', '*', { expiresAt: 1000 })], [peer(1), peer(2)])
  engine.expire(1000)
  t.true(engine.decide({ ...tcp(1, 2), at: 999 }).allowed)
  t.false(engine.decide({ ...tcp(1, 2), at: 1000 }).allowed)
})

test('a snapshot and its origin go their own ways', (t) => {
  const engine = engineOf([allow(1, '*', '*')], [peer(1), peer(2)])
  const before = engine.snapshot()
  engine.setRules([])
  engine.removePeers([2])
  t.true(before.decide(tcp(1, 2)).allowed)
  before.putRules([deny(2, '*', '*')])
  t.false(before.decide(tcp(1, 2)).allowed)
  t.deepEqual([...engine.visiblePeers(1)], [])
})

test('a batch answers as single questions do', (t) => {
  const engine = engineOf([allow(1, 'tag:a', '100.64.0.2'), deny(2, 'tag:a', '*', { ports: [[22, 22]] }), allow(3, 'fd00::/8', '*')], [peer(1, ['tag:a']), peer(2)])
  const [sources, destinations] = [Uint32Array.of(1, 1, 2), Uint32Array.of(2, 2, 1)]
  const [protocols, ports] = [Uint8Array.of(6, 6, 6), Uint16Array.of(80, 22, 80)]
  const expected = Array.from(sources, (source, i) => engine.decide({ source, destination: destinations[i]!, protocol: 6, port: ports[i]!, at: 0 }))
  const answers = engine.decideBatch({ sources, destinations, protocols, ports, at: 0 })
  t.deepEqual([...answers.allowed], [1, 0, 0])
  t.deepEqual([...answers.rules], expected.map(({ rule }) => rule ?? NaN))
  const address = (id: number) => 0x64400000 + id
  const byAddress = engine.decideAddressesBatch({ sources: sources.map(address), destinations: destinations.map(address), protocols, ports, at: 0 })
  t.deepEqual(byAddress, answers)
  const v6 = engine.decideAddressesBatch({ sources: Uint32Array.of(0xfd000000, 0, 0, 9), destinations: Uint32Array.of(0, 0, 0xffff, address(2)), protocols: Uint8Array.of(6), ports: Uint16Array.of(1), at: 0 })
  t.deepEqual([...v6.rules], [3])
  const throwsCode = (code: string, call: () => unknown) => t.throws(call, { instanceOf: ZqliteError, code })
  throwsCode('ERR_ACL_UNKNOWN', () => engine.decideBatch({ sources, destinations: Uint32Array.of(2, 9, 1), protocols, ports }))
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources, destinations, protocols, ports: ports.subarray(1) }))
  throwsCode('ERR_TYPE', () => engine.decideAddressesBatch({ sources: sources.subarray(1), destinations, protocols, ports }))
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources: [1, 1, 2] as never, destinations, protocols, ports }))

  const into = { rules: new Float64Array(sources.length).fill(7), allowed: new Uint8Array(sources.length).fill(7) }
  t.is(engine.decideBatch({ sources, destinations, protocols, ports, at: 0, into }), into)
  t.deepEqual(into, answers)
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources, destinations, protocols, ports, into: { ...into, rules: new Float64Array(sources.length + 1) } }))
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources, destinations, protocols, ports, into: { ...into, allowed: protocols } }))
  const shared = new Float64Array(sources.length)
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources, destinations, protocols, ports, into: { rules: shared, allowed: new Uint8Array(shared.buffer, 0, shared.length) } }))
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources, destinations, protocols, ports, into: { rules: shared } as never }))
  for (const wrong of [null, 7, {}, { ...into, rules: new Float32Array(sources.length) }]) {
    const error = t.throws(() => engine.decideBatch({ sources, destinations, protocols, ports, into: wrong as never }), { instanceOf: ZqliteError, code: 'ERR_TYPE' })
    t.regex(error.message, /^into(\.rules)? must be /)
  }
  const ofThreads = new Float64Array(new SharedArrayBuffer(8 * sources.length))
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources, destinations, protocols, ports, into: { ...into, rules: ofThreads } }))
  throwsCode('ERR_TYPE', () => engine.decideBatch({ sources: new Uint32Array(new SharedArrayBuffer(4 * sources.length)), destinations, protocols, ports }))
})

test('a getter that takes the arrays of a batch away does no harm', (t) => {
  const engine = engineOf([allow(1, '*', '*')], [])
  const count = 300_000
  for (const taken of ['sources', 'rules'] as const) {
    const arrays = { sources: new Uint32Array(count), destinations: new Uint32Array(count), protocols: new Uint8Array(count).fill(6), ports: new Uint16Array(count), rules: new Float64Array(count) }
    const into = {
      rules: arrays.rules,
      get allowed() {
        structuredClone(0, { transfer: [arrays[taken].buffer] })
        return new Uint8Array(count)
      },
    }
    t.throws(() => engine.decideAddressesBatch({ ...arrays, into }), { instanceOf: ZqliteError, code: 'ERR_TYPE' })
  }
})

test('whom a change concerns', (t) => {
  const engine = engineOf([allow(1, 'tag:a', 'tag:b')], [peer(1, ['tag:a']), peer(2, ['tag:b']), peer(3, ['tag:c']), peer(4)])
  const affected = (change: Parameters<AclEngine['affected']>[0]) => [...engine.affected(change, 0)]
  t.deepEqual(affected({ disable: [1] }), [1, 2])
  t.deepEqual(affected({ enable: [1] }), [])
  t.deepEqual(affected({ putRules: [allow(2, 'tag:a', 'tag:c')] }), [1, 3])
  t.deepEqual(affected({ putRules: [allow(2, 'tag:a', 'tag:b', { ports: [[1, 2]] })] }), [])
  t.deepEqual(affected({ putRules: [deny(2, '*', 'tag:b', { ports: [[1, 2]] })] }), [2], 'only the filter changes')
  t.deepEqual(affected({ putPeers: [peer(4, ['tag:b'])] }), [1, 4])
  t.deepEqual(affected({ removePeers: [1] }), [1, 2])
  t.deepEqual([...engine.visiblePeers(1, { at: 0 })], [2], 'nothing was changed')
  t.throws(() => affected({ putPeers: [peer(9, [], { addresses: ['100.64.0.1'] })] }), { instanceOf: ZqliteError, code: 'ERR_ACL_RULE' })
  t.throws(() => affected({ disable: [9] }), { instanceOf: ZqliteError, code: 'ERR_ACL_UNKNOWN' })
})

test('packet filters, with denies subtracted', (t) => {
  const rules = [allow(1, '10.0.0.0/8', 'tag:web', { protocols: [6], ports: [[80, 90]] }), deny(2, '10.1.0.0/16', '*'), deny(3, '*', '*', { ports: [[85, 86]] })]
  const engine = engineOf(rules, [peer(1, ['tag:web']), peer(2, [], { addresses: ['10.0.0.0'] })])
  t.deepEqual(engine.packetFilter(1, 0), [
    { sources: ['10.0.0.0/16', '10.2.0.0-10.255.255.255'], destinations: ['100.64.0.1/32'], protocols: [6], ports: [[80, 84], [87, 90]] },
  ])
  t.deepEqual(engine.packetFilter(2, 0), [])
  t.throws(() => engine.packetFilter(9), { instanceOf: ZqliteError, code: 'ERR_ACL_UNKNOWN' })
})

test('rules without effect, and rules that disagree', (t) => {
  const rules = [allow(1, '*', 'tag:b'), deny(2, 'tag:a', '*', { priority: 0 }), allow(3, 'tag:a', 'tag:b', { priority: -1 }), allow(4, 'tag:gone', '*'), allow(5, '*', '*', { expiresAt: 5 }), allow(6, '*', '*', { enabled: false })]
  const engine = engineOf(rules, [peer(1, ['tag:a']), peer(2, ['tag:b'])])
  t.deepEqual(engine.unusedRules(5), [
    { rule: 3, reason: 'shadowed', by: 2 },
    { rule: 4, reason: 'selects-nobody' },
    { rule: 5, reason: 'expired' },
    { rule: 6, reason: 'disabled' },
  ])
  t.deepEqual(engine.conflicts({ at: 5 }), [{ deny: 2, allow: 1 }])
  t.deepEqual(engine.conflicts({ at: 5, limit: 0 }), [])
})

test('answers stay the same without memory for an index', (t) => {
  const engine = new AclEngine({ memory: 0 })
  engine.setRules([allow(1, 'tag:a', '100.64.0.0/30')])
  engine.putPeers([peer(1, ['tag:a']), peer(2)])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: true, rule: 1 })
  t.deepEqual([...engine.visiblePeers(2, { at: 0 })], [1])
  t.throws(() => new AclEngine({ memory: -1 }), { instanceOf: ZqliteError, code: 'ERR_TYPE' })
})

test('a text that only looks like an address in its low bytes is none', (t) => {
  const engine = engineOf([allow(1, '*', '*')], [])
  // The low byte of U+0131 is the digit 1.
  const source = `10.0.0.${String.fromCharCode(0x131)}`
  t.throws(() => engine.decideAddresses({ source, destination: '10.0.0.1', protocol: 6, port: 1 }), { instanceOf: ZqliteError, code: 'ERR_CIDR_SYNTAX' })
  t.throws(() => engine.decideAddresses({ source: '1'.repeat(100), destination: '10.0.0.1', protocol: 6, port: 1 }), { instanceOf: ZqliteError, code: 'ERR_CIDR_SYNTAX' })
})

test('a difference says who gains and who loses what, between whom', async (t) => {
  const engine = new AclEngine()
  const rule = { priority: 0, action: 'allow' as const, sources: ['group:ops'], destinations: ['tag:web'], protocols: [6] }
  engine.setRules([{ ...rule, id: 1, ports: [[80, 89]] }, { ...rule, id: 2, destinations: ['10.0.0.0/24'], ports: [[22, 22]] }])
  engine.putPeers([
    { id: 1, addresses: ['100.64.0.1'], labels: ['group:ops'] },
    { id: 2, addresses: ['100.64.0.2'], labels: ['group:ops'] },
    { id: 3, addresses: ['100.64.0.3'], labels: ['tag:web'] },
    { id: 4, addresses: ['100.64.0.4'], labels: ['tag:router'], routes: ['10.0.0.0/16'] },
  ])
  const after = engine.snapshot()
  after.setRules([{ ...rule, id: 7, ports: [[85, 99]] }])

  const { pairs, behind, concerned, parties, rows, complete } = await engine.difference(after)
  t.deepEqual(pairs, { gaining: 2, losing: 2, opened: 0, closed: 0 })
  t.deepEqual(behind, { gaining: 0, losing: 2, opened: 0, closed: 2 })
  t.deepEqual([...concerned], [1, 2, 3, 4], 'the router carries less')
  t.true(complete)
  const named = (indexes: number[]) => indexes.map((index) => parties[index]?.addresses ?? [...(parties[index]?.peers ?? [])])
  const shown = rows.map(({ sources, destinations, ...what }) => ({ sources: named(sources), destinations: named(destinations), ...what }))
  t.deepEqual(shown.sort((a, b) => a.gained.length - b.gained.length), [
    { sources: [[1, 2]], destinations: ['10.0.0.0/24'], gained: [], lost: [{ protocols: [6], ports: [[22, 22]] }] },
    { sources: [[1, 2]], destinations: [[3]], gained: [{ protocols: [6], ports: [[90, 99]] }], lost: [{ protocols: [6], ports: [[80, 84]] }] },
  ])

  t.like(await engine.difference(after, { limit: 0 }), { rows: [], complete: false, pairs })
  t.like(await engine.difference(engine), { rows: [], complete: true })
  await t.throwsAsync(engine.difference(after, { limit: -1 }), { code: 'ERR_TYPE' })
})

test('classes of many peers at once', (t) => {
  const engine = engineOf([allow(1, 'tag:a', 'tag:b')], [peer(1, ['tag:a']), peer(2, ['tag:b']), peer(3, ['tag:a'])])
  t.deepEqual([...engine.peerClasses(Uint32Array.of(3, 1, 2))], [3, 1, 2].map((id) => engine.peerClass(id)))
  t.throws(() => engine.peerClasses(Uint32Array.of(1, 9)), { code: 'ERR_ACL_UNKNOWN' })
})

test('addresses are explained as peers are', (t) => {
  const engine = new AclEngine()
  engine.setRules([
    { id: 1, priority: 0, action: 'allow', sources: ['*'], destinations: ['10.0.0.0/8'] },
    { id: 2, priority: 5, action: 'deny', sources: ['*'], destinations: ['10.1.0.0/16'] },
  ])
  t.deepEqual(engine.explainAddresses({ source: '192.0.2.1', destination: '10.1.2.3', protocol: 6, port: 22 }), {
    allowed: false,
    rule: 2,
    routed: null,
    matching: [
      { rule: 2, action: 'deny', priority: 5, shadowed: false },
      { rule: 1, action: 'allow', priority: 0, shadowed: true },
    ],
  })
  t.throws(() => engine.explainAddresses({ source: 'x', destination: '10.1.2.3', protocol: 6, port: 22 }), { code: 'ERR_CIDR_SYNTAX' })
})
