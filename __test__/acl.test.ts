/** Access rules: {@link AclEngine}. */
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { AclEngine, type AclPeer, type AclRule, ZqliteError } from 'zqlite'

const TCP = 6
const UDP = 17

const allow = (id: number, sources: string[], destinations: string[], more: Partial<AclRule> = {}): AclRule => ({
  id,
  priority: 0,
  action: 'allow',
  sources,
  destinations,
  ...more,
})

const peer = (id: number, labels: string[] = [], more: Partial<AclPeer> = {}): AclPeer => ({
  id,
  addresses: [`100.64.0.${id}`, `fd00::${id}`],
  labels,
  ...more,
})

const engineOf = (rules: AclRule[], peers: AclPeer[]): AclEngine => {
  const engine = new AclEngine()
  engine.setRules(rules)
  engine.putPeers(peers)
  return engine
}

const tcp = (source: number, destination: number, port = 443) => ({ source, destination, protocol: TCP, port })

const throwsCode = (t: ExecutionContext, code: string, call: () => unknown): string => {
  const error = t.throws(call, { instanceOf: ZqliteError, code })
  return error?.message ?? ''
}

test('nothing matches: deny', (t) => {
  const engine = engineOf([], [peer(1), peer(2)])
  t.deepEqual(engine.decide(tcp(1, 2)), { allowed: false, rule: null })
  t.deepEqual([...engine.visiblePeers(1)], [])
})

test('labels, protocols and ports', (t) => {
  const rule = allow(7, ['group:dev'], ['tag:web'], {
    protocols: [TCP],
    ports: [
      [22, 22],
      [8000, 8999],
    ],
  })
  const engine = engineOf([rule], [peer(1, ['group:dev']), peer(2, ['tag:web'])])
  t.deepEqual(engine.decide(tcp(1, 2, 22)), { allowed: true, rule: 7 })
  t.deepEqual(engine.decide(tcp(1, 2, 8999)), { allowed: true, rule: 7 })
  t.false(engine.decide(tcp(1, 2, 23)).allowed)
  t.false(engine.decide(tcp(2, 1, 22)).allowed)
  t.false(engine.decide({ ...tcp(1, 2, 22), protocol: UDP }).allowed)
})

test('highest priority first, deny at equal priority, and why', (t) => {
  const engine = engineOf(
    [
      allow(1, ['*'], ['*'], { priority: 5 }),
      allow(2, ['*'], ['tag:db'], { priority: 10 }),
      { ...allow(3, ['*'], ['100.64.0.0/10'], { priority: 10 }), action: 'deny' },
      allow(4, ['tag:app'], ['tag:db'], { priority: 20, ports: [[5432, 5432]] }),
      { ...allow(5, ['*'], ['*'], { priority: 99 }), action: 'deny', enabled: false },
    ],
    [peer(1, ['tag:app']), peer(2, ['tag:db'])],
  )
  t.deepEqual(engine.decide(tcp(1, 2, 5432)), { allowed: true, rule: 4 })
  t.deepEqual(engine.explain(tcp(1, 2, 5432)), {
    allowed: true,
    rule: 4,
    routed: null,
    matching: [
      { rule: 4, action: 'allow', priority: 20, shadowed: false },
      { rule: 3, action: 'deny', priority: 10, shadowed: true },
      { rule: 2, action: 'allow', priority: 10, shadowed: true },
      { rule: 1, action: 'allow', priority: 5, shadowed: true },
    ],
  })
  t.deepEqual(engine.decide(tcp(1, 2, 80)), { allowed: false, rule: 3 })
})

test('rules expire, by the time of the question', (t) => {
  const engine = engineOf([allow(1, ['*'], ['*'], { expiresAt: 1000 })], [peer(1), peer(2)])
  t.true(engine.decide({ ...tcp(1, 2), at: 999 }).allowed)
  t.false(engine.decide({ ...tcp(1, 2), at: 1000 }).allowed)
  t.false(engine.decide(tcp(1, 2)).allowed, 'the default is now')
  t.deepEqual([...engine.visiblePeers(1, { at: 999 })], [2])
  t.deepEqual([...engine.visiblePeers(1)], [])
  engine.setRules([allow(1, ['*'], ['*'], { expiresAt: Date.now() + 60_000 })])
  t.true(engine.decide(tcp(1, 2)).allowed)
})

test('by address: of a peer, of nobody, in any form', (t) => {
  const engine = engineOf([allow(1, ['tag:a'], ['100.64.0.2']), allow(2, ['10.0.0.5-10.0.0.9'], ['tag:b'])], [peer(1, ['tag:a']), peer(2, ['tag:b'])])
  const decide = (source: string, destination: string) => engine.decideAddresses({ source, destination, protocol: TCP, port: 80 }).rule
  t.is(decide('100.64.0.1', '100.64.0.2'), 1)
  t.is(decide('fd00::1', 'fd00::2'), 1)
  t.is(decide('::ffff:100.64.0.1', '100.64.0.2'), 1)
  t.is(decide('10.0.0.9', 'fd00:0::2'), 2)
  t.is(decide('10.0.0.10', 'fd00::2'), null)
  t.is(decide('100.64.0.1', '100.64.0.3'), null)
  throwsCode(t, 'ERR_CIDR_SYNTAX', () => decide('100.64.0.1', '100.64.0.2/32'))
  throwsCode(t, 'ERR_CIDR_SYNTAX', () => decide('', '100.64.0.2'))
})

test('who sees whom, in each direction', (t) => {
  const engine = engineOf([allow(1, ['tag:a'], ['tag:b'], { protocols: [UDP], ports: [[1, 1]] })], [peer(1, ['tag:a']), peer(2, ['tag:b']), peer(3)])
  const sees = (id: number, direction?: 'to' | 'from' | 'either') => [...engine.visiblePeers(id, direction && { direction })]
  t.deepEqual(sees(1, 'to'), [2])
  t.deepEqual(sees(1, 'from'), [])
  t.deepEqual(sees(2, 'to'), [])
  t.deepEqual(sees(2, 'from'), [1])
  t.deepEqual(sees(2, 'either'), [1])
  t.deepEqual(sees(2), [1])
  t.deepEqual(sees(3), [])
  t.true(engine.visiblePeers(1) instanceof Uint32Array)
})

test('a subnet router is seen by those who may reach something behind it', (t) => {
  const peers = [peer(1), peer(2, [], { routes: ['10.20.0.0/16'] })]
  const subnet = allow(1, ['*'], ['10.0.0.0/8'])
  const deny = (destination: string): AclRule => ({ ...allow(2, ['*'], [destination], { priority: 1 }), action: 'deny' })
  const sees = (...rules: AclRule[]) => engineOf(rules, peers).visiblePeers(1, { direction: 'to' }).length === 1
  t.true(sees(subnet))
  t.true(sees(subnet, deny('10.20.0.0')))
  t.false(sees(subnet, deny('10.20.0.0/15')))
  t.false(sees(allow(1, ['*'], ['10.21.0.0/16'])))
  const explanation = engineOf([subnet, deny('10.20.0.0')], peers).explain(tcp(1, 2))
  t.is(explanation.routed, '10.20.0.1')
  t.true(explanation.allowed)
})

test('through whom: a subnet is reached by those routers that bear the label, an address through one of them', (t) => {
  const peers = [peer(1), peer(2, ['tag:left'], { routes: ['10.0.0.0/16'] }), peer(3, [], { routes: ['10.0.0.0/8'] })]
  const engine = engineOf([allow(1, ['*'], ['10.0.0.0/8'], { through: ['tag:left'] })], peers)
  t.deepEqual([...engine.visiblePeers(1)], [2])
  t.true(engine.decide(tcp(1, 2)).allowed)
  t.false(engine.decide(tcp(1, 3)).allowed)
  const decides = (destination: string) => engine.decideAddresses({ source: '100.64.0.1', destination, protocol: 6, port: 80 }).allowed
  t.true(decides('10.0.7.7'))
  t.false(decides('10.9.7.7'), 'only another router carries it')
  t.deepEqual(engine.packetFilter(3), [])
  t.deepEqual(engine.packetFilter(2).map(({ destinations }) => destinations), [['10.0.0.0/16']])
  t.deepEqual(engine.unusedRules(), [])
  engine.putPeers([peer(2, [], { routes: ['10.0.0.0/16'] })])
  t.deepEqual([...engine.visiblePeers(1)], [])
  t.deepEqual(engine.unusedRules().map(({ rule }) => rule), [1])
  t.deepEqual([...engine.affected({ putPeers: [peer(2, ['tag:left'], { routes: ['10.0.0.0/16'] })] })], [1, 2, 3])
})

test('one family: the other address of the same peers stays shut', (t) => {
  const both = (id: number, labels: string[] = []): AclPeer => ({ id, labels, addresses: [`100.64.0.${id}`, `fd00::${id}`] })
  const engine = engineOf([allow(1, ['tag:a'], ['100.64.0.2'], { family: 4 })], [both(1, ['tag:a']), both(2)])
  const decides = (source: string, destination: string) => engine.decideAddresses({ source, destination, protocol: 6, port: 80 }).allowed
  t.true(decides('100.64.0.1', '100.64.0.2'))
  t.false(decides('fd00::1', 'fd00::2'))
  t.true(engine.decide(tcp(1, 2)).allowed, 'some address of the one reaches some of the other')
  t.deepEqual(engine.packetFilter(2), [{ sources: ['100.64.0.1/32'], destinations: ['100.64.0.2/32'], protocols: [], ports: [] }])
})

test('same owner', (t) => {
  const engine = engineOf(
    [allow(1, ['*'], ['*'], { sameOwner: true })],
    [peer(1, [], { owner: 'ann' }), peer(2, [], { owner: 'ann' }), peer(3, [], { owner: 'bob' }), peer(4), peer(5)],
  )
  t.deepEqual([...engine.visiblePeers(1)], [2])
  t.deepEqual([...engine.visiblePeers(3)], [])
  t.deepEqual([...engine.visiblePeers(4)], [])
  t.is(engine.peerClass(1), engine.peerClass(2))
  t.not(engine.peerClass(1), engine.peerClass(3))
})

test('peers change and go', (t) => {
  const engine = engineOf([allow(1, ['tag:a'], ['*'])], [peer(1, ['tag:a']), peer(2)])
  t.deepEqual([...engine.visiblePeers(2)], [1])
  engine.putPeers([peer(1), peer(3, ['tag:a'])])
  t.deepEqual([...engine.visiblePeers(2)], [3])
  engine.removePeers([3, 4])
  t.deepEqual([...engine.visiblePeers(2)], [])
  throwsCode(t, 'ERR_ACL_UNKNOWN', () => engine.decide(tcp(2, 3)))
})

test('classes: what holds for one peer holds for all of them', (t) => {
  const label = fc.constantFrom('tag:a', 'tag:b', 'tag:c', 'user:u')
  const someLabels = fc.uniqueArray(label, { maxLength: 2 })
  const selector = fc.oneof(label, fc.constantFrom('*', '100.64.0.0/30', '100.64.0.2-100.64.0.5', 'fd00::4/126'))
  const someRules = fc.array(
    fc.record({
      action: fc.constantFrom('allow' as const, 'deny' as const),
      priority: fc.integer({ min: 0, max: 2 }),
      sources: fc.array(selector, { minLength: 1, maxLength: 2 }),
      destinations: fc.array(selector, { minLength: 1, maxLength: 2 }),
      sameOwner: fc.boolean(),
      through: fc.array(label, { maxLength: 1 }),
    }),
    { maxLength: 5 },
  )
  const somePeers = fc.array(fc.record({ labels: someLabels, owner: fc.constantFrom('ann', 'bob') }), { maxLength: 8 })
  fc.assert(
    fc.property(someRules, somePeers, (rules, peers) => {
      const engine = engineOf(
        rules.map(({ through, ...rule }, id) => ({ id, ...rule, ...(rule.action === 'allow' && { through }) })),
        peers.map(({ labels, owner }, id) => peer(id, labels, { owner })),
      )
      for (const [id] of peers.entries()) {
        const classes = engine.visibleClasses(engine.peerClass(id))
        const expected = peers.map((_, other) => other).filter((other) => other !== id && classes.includes(engine.peerClass(other)))
        t.deepEqual([...engine.visiblePeers(id)], expected)
        const reached = expected.filter((other) => engine.decide(tcp(id, other)).allowed || engine.decide(tcp(other, id)).allowed)
        t.deepEqual(reached, expected)
      }
    }),
  )
})

test('a set of rules with a bad one changes nothing and says which', (t) => {
  const engine = engineOf([allow(1, ['*'], ['*'])], [peer(1), peer(2)])
  const good = allow(3, ['tag:none'], ['*'])
  for (const [bad, message] of [
    [good, /^rule 3, id: another rule has this id$/],
    [allow(9, [], ['*']), /^rule 9, sources: at least one selector/],
    [allow(9, ['*'], []), /^rule 9, destinations: at least one selector/],
    [allow(9, ['*', '10.0.0.1/8'], ['*']), /^rule 9, sources\[1\]: not an IP prefix: "10\.0\.0\.1\/8", byte 9/],
    [allow(9, ['*'], ['10.0.0.9-10.0.0.1']), /^rule 9, destinations\[0\]: not a range/],
    [allow(9, ['host:a'], ['*']), /^rule 9, sources\[0\]: not a label: "host:a", byte 0/],
    [allow(9, ['tag:'], ['*']), /^rule 9, sources\[0\]: not a label: "tag:", byte 4: the name is empty/],
    [allow(9, ['*'], ['*'], { ports: [[1, 2], [90, 80]] }), /^rule 9, ports\[1\]: the range 90 to 80 ends before it begins/],
    [allow(9, ['*'], ['*'], { ports: [[1, 65536]] }), /^rule 9, ports\[0\]: an integer from 0 to 65535/],
    [allow(9, ['*'], ['*'], { protocols: [6, 256] }), /^rule 9, protocols\[1\]: an integer from 0 to 255/],
    [allow(9, ['*'], ['*'], { priority: 0.5 }), /^rule 9, priority: an integer from -2147483648 to 2147483647/],
    [allow(9, ['*'], ['*'], { expiresAt: NaN }), /^rule 9, expiry: an integer/],
    [{ ...allow(9, ['*'], ['*']), action: 'permit' as 'allow' }, /^rule 9, action: "permit" is neither allow nor deny/],
    [{ ...allow(9, ['*'], ['*'], { through: ['tag:a'] }), action: 'deny' }, /^rule 9, through: only a rule that allows can have one/],
    [{ ...allow(9, ['*'], ['*'], { family: 4 }), action: 'deny' }, /^rule 9, family: only a rule that allows can have one/],
    [allow(9, ['*'], ['*'], { through: ['tag:a', 'a'] }), /^rule 9, through\[1\]: not a label: "a"/],
    [allow(9, ['*'], ['*'], { family: 5 as 4 }), /^rule 9, family: 4 or 6 is needed/],
    [allow(-1, ['*'], ['*']), /^rule -1, id: an integer from 0/],
  ] as const) {
    t.regex(throwsCode(t, 'ERR_ACL_RULE', () => engine.setRules([good, bad])), message)
    t.deepEqual(engine.decide(tcp(1, 2)), { allowed: true, rule: 1 })
  }
})

test('peers with a bad one change nothing and say which', (t) => {
  const engine = engineOf([allow(1, ['tag:a'], ['*'])], [peer(1, ['tag:a']), peer(2)])
  const good = peer(1)
  for (const [bad, message] of [
    [good, /^peer 1, id: another peer given with it has this id$/],
    [peer(9, [], { addresses: ['100.64.0.9', '100.64.0.2'] }), /^peer 9, addresses\[1\]: peer 2 has the address 100\.64\.0\.2$/],
    [peer(9, [], { addresses: ['100.64.0.9/32'] }), /^peer 9, addresses\[0\]: not an IP address/],
    [peer(9, ['tag:a', 'a']), /^peer 9, labels\[1\]: not a label/],
    [peer(9, [], { routes: ['10.0.0.0/8', '10.0.0.0/33'] }), /^peer 9, routes\[1\]: not an IP prefix/],
    [peer(9, [], { owner: '' }), /^peer 9, owner: an owner has a name$/],
    [{ ...peer(9), id: 2 ** 32 }, /^peer 4294967296, id: an integer from 0 to 4294967295/],
  ] as const) {
    t.regex(throwsCode(t, 'ERR_ACL_RULE', () => engine.putPeers([good, bad])), message)
    t.deepEqual([...engine.visiblePeers(1)], [2])
  }
})

test('wrong arguments are errors, not conversions', (t) => {
  const engine = engineOf([allow(1, ['*'], ['*'])], [peer(1), peer(2)])
  for (const wrong of [
    () => engine.decide({ ...tcp(1, 2), protocol: 256 }),
    () => engine.decide({ ...tcp(1, 2), port: -1 }),
    () => engine.decide({ ...tcp(1, 2), port: 65536 }),
    () => engine.decide({ ...tcp(1, 2), at: NaN }),
    () => engine.decide(tcp(2 ** 32 + 1, 2)),
    () => engine.decide(tcp(1.5, 2)),
    () => engine.decide({ source: 1, destination: 2 } as never),
    () => engine.visiblePeers('1' as never),
    () => engine.visiblePeers(1, { direction: 'both' as never }),
    () => engine.setRules([{ id: 1 } as never]),
    () => engine.setRules('*' as never),
    () => engine.putPeers([{ id: 1, addresses: [1], labels: [] } as never]),
    () => engine.removePeers([-1]),
  ]) {
    throwsCode(t, 'ERR_TYPE', wrong)
  }
  for (const unknown of [
    () => engine.decide(tcp(1, 3)),
    () => engine.explain(tcp(3, 1)),
    () => engine.visiblePeers(3),
    () => engine.peerClass(3),
    () => engine.visibleClasses(99),
  ]) {
    throwsCode(t, 'ERR_ACL_UNKNOWN', unknown)
  }
  t.true(engine.decide(tcp(1, 2)).allowed)
})

test('all rules at once are read as single ones are', (t) => {
  const selector = fc.constantFrom('*', '10.0.0.0/8', '10.1.0.0/16', '10.1.2.3', '10.1.2.0-10.1.2.9', 'fd00::/64', 'tag:a')
  const range = fc.tuple(fc.nat(3), fc.nat(3)).map(([a, b]): [number, number] => [Math.min(a, b), Math.max(a, b)])
  const either = {
    priority: fc.integer({ min: -2, max: 2 }),
    sources: fc.array(selector, { minLength: 1, maxLength: 3 }),
    destinations: fc.array(selector, { minLength: 1, maxLength: 3 }),
    enabled: fc.boolean(),
    protocols: fc.array(fc.constantFrom(TCP, UDP), { maxLength: 2 }),
    ports: fc.array(range, { maxLength: 2 }),
    expiresAt: fc.constantFrom(0, 10),
    sameOwner: fc.boolean(),
  }
  const allowing = { ...either, action: fc.constant('allow' as const), through: fc.constantFrom(['tag:a'], ['tag:b', 'tag:a'], []), family: fc.constantFrom(4 as const, 6 as const) }
  const denying = { ...either, action: fc.constant('deny' as const) }
  const requiredKeys: ['priority', 'action', 'sources', 'destinations'] = ['priority', 'action', 'sources', 'destinations']
  const parts = fc.oneof(fc.record(allowing, { requiredKeys }), fc.record(denying, { requiredKeys }))
  const addresses = ['10.1.2.3', '10.1.2.4', '10.1.9.9', '10.9.9.9', '192.0.2.1', 'fd00::9', '100.64.0.1']
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 12 }), (all) => {
      const rules: AclRule[] = all.map((rule, id) => ({ id, ...rule }))
      const [together, single] = [engineOf(rules, [peer(1, ['tag:a'])]), engineOf([], [peer(1, ['tag:a'])])]
      for (const rule of rules) single.putRules([rule])
      for (const source of addresses) {
        for (const destination of addresses) {
          for (const port of [0, 2]) {
            const query = { source, destination, protocol: TCP, port, at: 5 }
            const answer = single.explainAddresses(query)
            t.deepEqual(together.explainAddresses(query), answer)
            // Often enough for lists to be made.
            t.deepEqual(together.decideAddresses(query), { allowed: answer.allowed, rule: answer.rule })
          }
        }
      }
    }),
    { numRuns: 40 },
  )
})

test('a selector with a line break is one selector', (t) => {
  const engine = new AclEngine()
  const message = throwsCode(t, 'ERR_ACL_RULE', () => engine.setRules([allow(1, ['10.0.0.0/8\n10.0.0.1'], ['*'])]))
  t.regex(message, /^rule 1, sources/)
  t.regex(throwsCode(t, 'ERR_ACL_RULE', () => engine.setRules([allow(1, [''], ['*'])])), /^rule 1, sources/)
  throwsCode(t, 'ERR_TYPE', () => engine.setRules([null as never]))
})

test('what is misspelled is refused, and not passed over', (t) => {
  const engine = engineOf([allow(1, ['*'], ['*'])], [peer(1, [])])
  const refused = (message: RegExp, call: () => unknown) => {
    const error = t.throws(call, { instanceOf: ZqliteError })
    t.is(error.code, 'ERR_TYPE')
    t.regex(error.message, message)
  }
  // A rule that was to hold between machines of one owner must not hold for all.
  refused(/^rule 2 has no field sameowner; did you mean sameOwner\?$/, () => engine.putRules([{ ...allow(2, ['*'], ['*']), sameowner: true } as never]))
  refused(/^rule 2 has no field expires; did you mean expiresAt\?$/, () => engine.setRules([allow(1, ['*'], ['*']), { ...allow(2, ['*'], ['*']), expires: 1 } as never]))
  refused(/^peer 2 has no field route; did you mean routes\?$/, () => engine.putPeers([{ ...peer(2, []), route: ['10.0.0.0/8'] } as never]))
  refused(/^a change has no field remove; did you mean removeRules\?$/, () => engine.affected({ remove: [1] } as never))
  refused(/sameowner/, () => engine.affected({ putRules: [{ ...allow(2, ['*'], ['*']), sameowner: true } as never] }))
  refused(/route/, () => engine.affected({ putPeers: [{ ...peer(2, []), route: [] } as never] }))
  refused(/unknown option direktion; did you mean direction\?/, () => engine.visiblePeers(1, { direktion: 'to' } as never))
  refused(/direction/, () => engine.visibleClasses(engine.peerClass(1), { direktion: 'to' } as never))
  refused(/^unknown option max$/, () => engine.conflicts({ max: 1 } as never))
  refused(/unknown option mem; did you mean memory\?/, () => new AclEngine({ mem: 1 } as never))
  // What is far away would mislead.
  refused(/^a change has no field nope$/, () => engine.affected({ nope: [1] } as never))
  refused(/^rule 2 has no field ids; did you mean id\?$/, () => engine.putRules([{ ...allow(2, ['*'], ['*']), ids: 2 } as never]))
  t.deepEqual(engine.decide({ source: 1, destination: 1, protocol: 6, port: 1 }), { allowed: true, rule: 1 }, 'nothing has changed')
})

test('a value of a wrong type is told by rule or peer, field and what is wanted', (t) => {
  const engine = engineOf([allow(1, ['*'], ['*'])], [peer(1, [])])
  const rule = allow(2, ['*'], ['*'])
  const told = (message: string, call: () => unknown) => t.is(throwsCode(t, 'ERR_TYPE', call), message)
  for (const give of [(rules: unknown) => engine.putRules(rules as never), (rules: unknown) => engine.setRules(rules as never), (putRules: unknown) => engine.affected({ putRules } as never)]) {
    told('rule 2, priority must be a number, not "1"', () => give([{ ...rule, priority: '1' }]))
    told('rule 2, action must be a string, not undefined', () => give([{ ...rule, action: undefined }]))
    told('rule 2, sources[1] must be a string, not 7', () => give([rule, { ...rule, sources: ['*', 7] }]))
    told('rule 2, ports[0] must be a pair of numbers, not 80', () => give([{ ...rule, ports: [80] }]))
    told('rule 2, ports[1] must be a pair of numbers, not an array', () => give([{ ...rule, ports: [[1, 2], [1, 2, 3]] }]))
    told('rule 2, protocols must be an array of numbers, not 6', () => give([{ ...rule, protocols: 6 }]))
    told('rule 2, enabled must be true or false, not 1', () => give([{ ...rule, enabled: 1 }]))
  }
  told('rules[1], id must be a number, not "3"', () => engine.putRules([rule, { ...rule, id: '3' } as never]))
  told('rules[0] must be an object, not null', () => engine.putRules([null as never]))
  told('rules must be an array, not "*"', () => engine.setRules('*' as never))
  told('peer 2, addresses[0] must be a string, not 1', () => engine.putPeers([{ id: 2, addresses: [1], labels: [] } as never]))
  told('peer 2, labels must be an array of strings, not undefined', () => engine.affected({ putPeers: [{ id: 2, addresses: [] } as never] }))
  told('a change, enable[1] must be a number, not "2"', () => engine.affected({ enable: [1, '2'] as never }))
  told('a change must be an object, not null', () => engine.affected(null as never))
  told('ids[0] must be a number, not "1"', () => engine.removeRules(['1'] as never))
  told('ids must be an array of numbers, not 1', () => engine.removePeers(1 as never))
  told('peer must be a number, not "1"', () => engine.visiblePeers('1' as never))
  told("direction must be 'to', 'from' or 'either', not 5", () => engine.visiblePeers(1, { direction: 5 as never }))
  told('at must be a number, not "0"', () => engine.unusedRules('0' as never))
  told('limit must be a number, not "1"', () => engine.conflicts({ limit: '1' as never }))
  told('memory must be a number, not "1"', () => new AclEngine({ memory: '1' as never }))
  told('rule must be a number, not "1"', () => engine.setEnabled('1' as never, true))
  told('enabled must be true or false, not 1', () => engine.setEnabled(1, 1 as never))
  told('at must be an integer from -9007199254740991 to 9007199254740991, not 1e300', () => engine.decide({ source: 1, destination: 1, protocol: 6, port: 1, at: 1e300 }))
  t.regex(throwsCode(t, 'ERR_ACL_RULE', () => engine.putRules([{ ...rule, id: 1e300 }])), /^rule 1e300, id: an integer/)
  t.deepEqual(engine.decide({ source: 1, destination: 1, protocol: 6, port: 1 }), { allowed: true, rule: 1 }, 'nothing has changed')
})
