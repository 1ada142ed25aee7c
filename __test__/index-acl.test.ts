/** Indexes of kind `acl` in SQL and from JavaScript. */
import test from 'ava'
import fc from 'fast-check'
import { ZqliteError } from 'zqlite'
import { fresh, rejects } from './helpers'

test('rules and peers in tables decide', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE acl_rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER, expires_at INTEGER)')
  await db.execute('CREATE TABLE peer_addresses (id INTEGER PRIMARY KEY, peer INTEGER, address TEXT)')
  await db.execute('CREATE TABLE peer_labels (id INTEGER PRIMARY KEY, peer INTEGER, label TEXT)')
  await db.execute(`CREATE INDEX access ON acl_rules USING acl(source, destination, protocol, ports, priority, action, enabled, expires_at)
    WITH (labels = peer_labels, peers = peer_addresses)`)
  await db.executeBatchTransaction([
    { sql: `INSERT INTO peer_addresses VALUES (1, 1, '100.64.0.1'), (2, 2, '100.64.0.2')` },
    { sql: `INSERT INTO peer_labels VALUES (1, 1, 'tag:web'), (2, 2, 'tag:db')` },
    { sql: `INSERT INTO acl_rules VALUES (7, 'tag:web', 'tag:db', 'tcp', '5432', 1, 'allow', 1, NULL)` },
  ])
  const acl = db.acl('access')
  const query = { source: 1, destination: 2, protocol: 6, port: 5432 }
  t.deepEqual(acl.decide(query), { allowed: true, rule: 7 })
  t.deepEqual(acl.decide({ ...query, source: '100.64.0.1', destination: '100.64.0.2' }), { allowed: true, rule: 7 })
  t.deepEqual(acl.decide({ ...query, port: 22 }), { allowed: false, rule: null })
  t.deepEqual(acl.explain(query), { allowed: true, rule: 7, matching: [{ rule: 7, action: 'allow', priority: 1, shadowed: false }] })
  t.deepEqual(await db.get(`SELECT acl_decide('access', 1, 2, 'tcp', 5432) AS a, acl_decide('access', 2, 1, 'tcp', 5432) AS b`), { a: 1, b: 0 })
  t.deepEqual(db.allSync(`SELECT rule, action, shadowed FROM acl_explain('access', 1, 2, 6, 5432)`), [{ rule: 7, action: 'allow', shadowed: 0 }])
  await db.execute('UPDATE acl_rules SET enabled = 0')
  t.false(acl.decide(query).allowed)
  await rejects(t, 'ERR_INDEX_ROW', db.execute(`UPDATE acl_rules SET protocol = 'tpc'`))
  const fails = (call: () => unknown) => t.throws(call, { instanceOf: ZqliteError }).code
  t.is(fails(() => acl.decide({ ...query, source: 9 })), 'ERR_ACL_UNKNOWN')
  t.is(fails(() => acl.decide({ ...query, source: 'x', destination: 'y' })), 'ERR_CIDR_SYNTAX')
  t.is(fails(() => acl.decide({ ...query, source: '::' })), 'ERR_TYPE')
  t.is(fails(() => acl.decide({ ...query, port: 1.5 })), 'ERR_TYPE')
  t.is(fails(() => acl.decide({ ...query, protocol: '6' as unknown as number })), 'ERR_TYPE')
  t.is(fails(() => acl.decide({ ...query, source: 2 ** 32 + 1 })), 'ERR_TYPE')
  t.is(fails(() => acl.decide({ ...query, at: NaN })), 'ERR_TYPE')
  t.deepEqual(await db.get('PRAGMA zqlite_acl'), { zqlite_acl: 1 })
  await db.close()
  t.is(fails(() => acl.decide(query)), 'ERR_CLOSED')
})

test('each rule has an id that JavaScript has a number for', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER)')
  await db.execute('CREATE INDEX access ON rules USING acl(source, destination, protocol, ports, priority, action, enabled)')
  const insert = (id: bigint) => db.execute(`INSERT INTO rules VALUES (?, '*', '*', NULL, NULL, 0, 'allow', 1)`, [id])
  for (const id of [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n, -1n]) t.regex((await rejects(t, 'ERR_INDEX_ROW', insert(id))).message, new RegExp(`row ${id}: the id of a rule`))
  await insert(2n ** 53n - 1n)
  const acl = db.acl('access')
  const query = { source: '10.0.0.1', destination: '10.0.0.2', protocol: 6, port: 80 }
  const rule = Number.MAX_SAFE_INTEGER
  t.deepEqual(acl.decide(query), { allowed: true, rule })
  t.is(acl.explain(query).rule, rule)
  t.deepEqual(acl.snapshot().affected({ disable: [rule] }), new Uint32Array())
  await db.execute(`UPDATE rules SET action = 'deny'`)
  t.deepEqual(acl.decide(query), { allowed: false, rule })
})

test('a question alone is answered as with all of its rules, and fails alike', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER)')
  await db.execute('CREATE TABLE addresses (id INTEGER PRIMARY KEY, peer INTEGER, address TEXT)')
  await db.execute('CREATE TABLE labels (id INTEGER PRIMARY KEY, peer INTEGER, label TEXT)')
  await db.execute('CREATE INDEX access ON rules USING acl(source, destination, protocol, ports, priority, action, enabled) WITH (labels = labels, peers = addresses)')
  await db.executeBatchTransaction([
    { sql: "INSERT INTO addresses VALUES (1, 1, '100.64.0.1'), (2, 2, 'fd00::2'), (3, 3, '100.64.0.3')" },
    { sql: "INSERT INTO labels VALUES (1, 1, 'tag:a'), (2, 3, 'tag:a')" },
    { sql: `INSERT INTO rules VALUES (1, 'tag:a', '*', 'tcp', '80', 0, 'allow', 1), (2, '100.64.0.0/10', 'fd00::/8', NULL, NULL, 0, 'allow', 1),
        (3, '*', 'tag:a', 'udp', '1000-2000', 1, 'deny', 1), (4, '*', '*', 'udp', NULL, 0, 'allow', 1)` },
  ])
  const acl = db.acl('access')
  const end = fc.constantFrom<unknown>(1, 2, 3, 4, -1, 1.5, 2 ** 32, NaN, '100.64.0.1', '100.64.0.3', 'fd00::2', '9.9.9.9', '::ffff:100.64.0.1', '100.64.0.01', '', '1', null, undefined, true, ['1'])
  const fields = { source: end, destination: end, protocol: fc.constantFrom<unknown>(6, 17, 256, -1, 6.5, '6'), port: fc.constantFrom<unknown>(80, 1500, 65536, null), at: fc.constantFrom<unknown>(0, 1e12, undefined, NaN, '0') }
  const outcome = (call: () => { allowed: boolean; rule: number | null }): unknown => {
    try {
      const { allowed, rule } = call()
      return { allowed, rule }
    } catch (error) {
      return error instanceof ZqliteError ? error.code : error
    }
  }
  const ask = (question: object): [alone: unknown, explained: unknown] => [outcome(() => acl.decide(question as never)), outcome(() => acl.explain(question as never))]
  const good = [{ source: 1, destination: 3, protocol: 17, port: 1500, at: 0 }, { source: '100.64.0.1', destination: 'fd00::2', protocol: 6, port: 22, at: 0 }]
  const changed = fc.constantFrom(...(Object.keys(fields) as (keyof typeof fields)[])).chain((field) => fields[field].map((value) => ({ [field]: value })))
  fc.assert(
    fc.property(fc.constantFrom(...good), changed, (question, change) => {
      const [alone, explained] = ask({ ...question, ...change })
      t.deepEqual(alone, explained)
    }),
    { numRuns: 2000 },
  )
  // Of several faults either may be told.
  fc.assert(
    fc.property(fc.record(fields), (question) => {
      const [alone, explained] = ask(question).map((one) => (typeof one === 'string' ? 'fails' : one))
      t.deepEqual(alone, explained)
    }),
    { numRuns: 3000 },
  )
})

test('a rule may ask for a router with a label, and for a version of IP', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER, expires_at INTEGER, same_owner INTEGER, through TEXT, family INTEGER)')
  for (const [table, column] of [['addresses', 'address'], ['labels', 'label'], ['routes', 'prefix']]) await db.execute(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, peer INTEGER, ${column} TEXT)`)
  await db.execute(`CREATE INDEX access ON rules USING acl(source, destination, protocol, ports, priority, action, enabled, expires_at, same_owner, through, family)
    WITH (peers = addresses, labels = labels, routes = routes)`)
  await db.execute(`INSERT INTO addresses VALUES (1, 1, '100.64.0.1'), (2, 2, '100.64.0.2')`)
  await db.execute(`INSERT INTO routes VALUES (1, 2, '10.7.0.0/16')`)
  await db.execute(`INSERT INTO rules VALUES (1, '*', '*', NULL, NULL, 0, 'allow', 1, NULL, NULL, 'tag:exit', 4)`)
  const acl = db.acl('access')
  const decide = (destination: string) => acl.decide({ source: '100.64.0.1', destination, protocol: 6, port: 80 }).allowed
  t.false(decide('10.7.1.1'))
  await db.execute(`INSERT INTO labels VALUES (1, 2, 'tag:exit')`)
  t.true(decide('10.7.1.1'))
  t.like(acl.snapshot().packetFilter(2), [{ destinations: ['10.7.0.0/16', '100.64.0.2/32'] }])
  await db.execute('UPDATE rules SET family = 6')
  t.false(decide('10.7.1.1'))
  t.regex((await rejects(t, 'ERR_INDEX_ROW', db.execute(`UPDATE rules SET action = 'deny'`))).message, /column through/)
})

test('owners and routes come from tables, and many questions are asked at once', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER, expires_at INTEGER, same_owner INTEGER)')
  await db.execute('CREATE TABLE peers (peer INTEGER PRIMARY KEY, owner TEXT)')
  await db.execute('CREATE TABLE addresses (id INTEGER PRIMARY KEY, peer INTEGER, address TEXT)')
  await db.execute('CREATE TABLE routes (id INTEGER PRIMARY KEY, peer INTEGER, prefix TEXT)')
  await db.execute(`CREATE INDEX access ON rules USING acl(source, destination, protocol, ports, priority, action, enabled, expires_at, same_owner)
    WITH (peers = addresses, owners = peers, routes = routes)`)
  await db.executeBatchTransaction([
    { sql: `INSERT INTO peers VALUES (1, 'ann'), (2, 'ann'), (3, 'bob')` },
    { sql: `INSERT INTO addresses VALUES (1, 1, '100.64.0.1'), (2, 2, '100.64.0.2'), (3, 3, '100.64.0.3')` },
    { sql: `INSERT INTO rules VALUES (1, '*', '*', 'tcp', 22, 0, 'allow', 1, NULL, 1), (2, '100.64.0.3', '10.7.0.0/16', NULL, NULL, 0, 'allow', 1, NULL, 0)` },
  ])
  const acl = db.acl('access')
  const batch = { sources: Uint32Array.of(1, 1, 3), destinations: Uint32Array.of(2, 3, 2), protocols: Uint8Array.of(6, 6, 17), ports: Uint16Array.of(22, 22, 53), at: 0 }
  t.deepEqual(acl.decideBatch(batch), { allowed: Uint8Array.of(1, 0, 0), rules: Float64Array.of(1, NaN, NaN) })
  const before = acl.snapshot()
  await db.execute(`INSERT INTO routes VALUES (1, 2, '10.7.8.0/24')`)
  t.deepEqual(acl.decideBatch(batch).rules, Float64Array.of(1, NaN, 2))
  t.deepEqual(before.decideBatch(batch).rules, Float64Array.of(1, NaN, NaN))
  t.deepEqual(acl.snapshot().visiblePeers(3, { at: 0 }), Uint32Array.of(2))
  t.deepEqual(acl.snapshot().affected({ disable: [2] }, 0), Uint32Array.of(2, 3))
  const addresses = { ...batch, sources: Uint32Array.of(0x64400001, 0x64400003, 0x64400003), destinations: Uint32Array.of(0x64400002, 0x0a070801, 0x0a080001) }
  t.deepEqual(acl.decideAddressesBatch(addresses).rules, Float64Array.of(1, 2, NaN))
  const fails = (call: () => unknown) => t.throws(call, { instanceOf: ZqliteError }).code
  t.is(fails(() => acl.decideBatch({ ...batch, sources: Uint32Array.of(1, 1, 9) })), 'ERR_ACL_UNKNOWN')
  t.is(fails(() => acl.decideBatch({ ...batch, ports: Uint16Array.of(1) })), 'ERR_TYPE')
  await rejects(t, 'ERR_INDEX_ROW', db.execute(`INSERT INTO routes VALUES (2, 2, '10.7.8.1/24')`))
  await db.execute('DROP INDEX access')
  t.is(fails(() => acl.decideBatch(batch)), 'ERR_INDEX_UNKNOWN')
  t.is(fails(() => acl.snapshot()), 'ERR_INDEX_UNKNOWN')
  await db.close()
  t.is(fails(() => acl.decideAddressesBatch(addresses)), 'ERR_CLOSED')
  t.is(fails(() => acl.snapshot()), 'ERR_CLOSED')
  t.deepEqual(before.decideBatch(batch).rules, Float64Array.of(1, NaN, NaN), 'a snapshot outlives its database')
})
