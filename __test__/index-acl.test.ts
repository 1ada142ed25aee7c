/** Indexes of kind `acl` in SQL and from JavaScript. */
import test from 'ava'
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
  t.deepEqual(await db.get('PRAGMA zqlite_acl'), { zqlite_acl: 1 })
  await db.close()
  t.is(fails(() => acl.decide(query)), 'ERR_CLOSED')
})
