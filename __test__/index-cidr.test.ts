/** Indexes of kind `cidr` in SQL and from JavaScript. */
import test from 'ava'
import { Database, NO_ROW, ZqliteError } from 'zqlite'
import { fresh, rejects } from './helpers'

async function routes(t: Parameters<typeof fresh>[0]): Promise<Database> {
  const db = await fresh(t)
  await db.execute('CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT, via TEXT)')
  await db.execute('CREATE INDEX routes_by_prefix ON routes USING cidr(prefix)')
  await db.execute("INSERT INTO routes VALUES (1, '10.0.0.0/8', 'a'), (2, '10.1.0.0/16', 'b'), (3, '2001:db8::/32', 'c'), (4, NULL, 'd')")
  return db
}

test('SQL asks by address, on the lanes and on this thread', async (t) => {
  const db = await routes(t)
  const sql = `SELECT r.via, l.prefix FROM cidr_lookup('routes_by_prefix', ?) l JOIN routes r ON r.id = l.id`
  t.deepEqual(await db.query(sql, ['10.1.2.3']), [{ via: 'b', prefix: '10.1.0.0/16' }])
  t.deepEqual(db.allSync(sql, ['10.1.2.3']), [{ via: 'b', prefix: '10.1.0.0/16' }])
  t.deepEqual(db.getSync(`SELECT count(*) AS n FROM cidr_matches('routes_by_prefix', '10.1.2.3')`), { n: 2 })
  t.deepEqual(await db.get(`SELECT group_concat(id) AS ids FROM cidr_range('routes_by_prefix', '10.0.0.0', '10.255.255.255')`), { ids: '1,2' })
  t.deepEqual(await db.get(`SELECT cidr_contains('10.0.0.0/8', '10.1.0.0/16') AS a, cidr_overlaps('10.0.0.0/8', '11.0.0.0/8') AS b, cidr_normalize('::1') AS c`), { a: 1, b: 0, c: '::1/128' })
  const rows: unknown[] = []
  for await (const row of db.stream(sql, ['2001:db8::1'])) rows.push(row)
  t.deepEqual(rows, [{ via: 'c', prefix: '2001:db8::/32' }])
})

test('JavaScript asks at once, about what is committed', async (t) => {
  const db = await routes(t)
  const index = db.cidr('routes_by_prefix')
  t.deepEqual(index.lookup('10.1.2.3'), { prefix: '10.1.0.0/16', rows: [2] })
  t.is(index.lookup('11.0.0.1'), undefined)
  t.deepEqual(index.matches('10.1.2.3'), [{ prefix: '10.0.0.0/8', row: 1 }, { prefix: '10.1.0.0/16', row: 2 }])
  await db.execute('INSERT INTO routes VALUES (?, ?, ?)', [2n ** 62n, '10.1.2.0/24', 'far'])
  t.deepEqual(index.lookup('10.1.2.3'), { prefix: '10.1.2.0/24', rows: [2n ** 62n] })
  t.deepEqual([...index.lookupBatch(Uint32Array.of(0x0a010203, 0x0a010903, 0x0b000001))], [2n ** 62n, 2n, NO_ROW])
  t.deepEqual([...index.lookupBatch(['10.9.9.9', '2001:db8::1', '::'])], [1n, 3n, NO_ROW])
  const out = new BigInt64Array(3)
  t.is(index.lookupBatch(Uint8Array.of(0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), out), out)
  t.is(out[0], 3n)
  for (const wrong of [() => index.lookup('10.1'), () => index.matches('x'), () => index.lookupBatch(['::', 'y'])]) {
    t.is(t.throws(wrong, { instanceOf: ZqliteError }).code, 'ERR_CIDR_SYNTAX')
  }
  const anything = index as unknown as { lookup: (x: unknown) => unknown; lookupBatch: (x: unknown, y?: unknown) => unknown }
  for (const wrong of [() => anything.lookup(7), () => anything.lookupBatch('x'), () => anything.lookupBatch([1]), () => anything.lookupBatch(['::'], []), () => index.lookupBatch(['::'], new BigInt64Array(0)), () => index.lookupBatch(new Uint8Array(7))]) {
    t.is(t.throws(wrong, { instanceOf: ZqliteError }).code, 'ERR_TYPE')
  }
  await db.execute('DROP INDEX routes_by_prefix')
  t.is(t.throws(() => index.lookup('10.1.2.3'), { instanceOf: ZqliteError }).code, 'ERR_INDEX_UNKNOWN')
  t.is(t.throws(() => db.cidr('routes_by_prefix'), { instanceOf: ZqliteError }).code, 'ERR_INDEX_UNKNOWN')
})

test('a transaction sees its own changes, others what is committed', async (t) => {
  const db = await routes(t)
  const sql = `SELECT group_concat(id) AS ids FROM cidr_matches('routes_by_prefix', '10.1.2.3')`
  await t.throwsAsync(
    db.transaction(async (transaction) => {
      await transaction.execute('DELETE FROM routes WHERE id = 2')
      t.deepEqual(await transaction.get(sql), { ids: '1' })
      await transaction.transaction(async (nested) => {
        await nested.execute(`INSERT INTO routes VALUES (5, '10.1.2.0/24', 'x')`)
        t.deepEqual(await nested.get(sql), { ids: '1,5' })
        throw new Error('undo the inner one')
      }).catch(() => {})
      t.deepEqual(await transaction.get(sql), { ids: '1' })
      t.deepEqual(db.getSync(sql), { ids: '1,2' })
      throw new Error('undo')
    }),
    { message: 'undo' },
  )
  t.deepEqual(await db.get(sql), { ids: '1,2' })
})

test('a row that does not parse fails alone, and says which it is', async (t) => {
  const db = await routes(t)
  const error = await rejects(t, 'ERR_INDEX_ROW', db.execute('INSERT INTO routes VALUES (9, ?, ?)', ['10.0.0.0/33', 'x']))
  for (const part of ['table routes', 'row 9', 'column prefix', '10.0.0.0/33']) t.true(error.message.includes(part), error.message)
  const settled = await Promise.allSettled(['10.9.0.0/16', 'bad', '10.10.0.0/16'].map((prefix) => db.execute('INSERT INTO routes (prefix) VALUES (?)', [prefix])))
  t.deepEqual(settled.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
  await rejects(t, 'ERR_INDEX_ROW', db.transaction(async (transaction) => transaction.execute(`UPDATE routes SET prefix = 'x'`)))
  t.is(db.cidr('routes_by_prefix').matches('10.9.0.1').length, 2)
})

test('migrations make indexes', async (t) => {
  const db = await fresh(t)
  await db.migrate([
    { version: 1, name: 'nets', up: `CREATE TABLE nets (id INTEGER PRIMARY KEY, net TEXT); CREATE INDEX nets_by_net ON nets USING cidr(net) WITH (host_bits = 'mask'); INSERT INTO nets VALUES (1, '10.1.2.3/8')` },
    { version: 2, name: 'more', up: `ALTER TABLE nets RENAME TO networks; INSERT INTO networks VALUES (2, '10.0.0.0/24'); CREATE INDEX IF NOT EXISTS nets_by_net ON networks USING cidr(net)` },
  ])
  t.deepEqual(db.cidr('nets_by_net').matches('10.0.0.1'), [{ prefix: '10.0.0.0/8', row: 1 }, { prefix: '10.0.0.0/24', row: 2 }])
  t.is((await db.get<{ n: number }>('SELECT count(*) AS n FROM zqlite_index'))?.n, 1)
  t.deepEqual(await db.get('PRAGMA zqlite_cidr'), { zqlite_cidr: 1 })
})

test('an index of a closed database is closed', async (t) => {
  const db = await routes(t)
  const index = db.cidr('routes_by_prefix')
  await db.close()
  t.is(t.throws(() => index.lookup('10.0.0.1'), { instanceOf: ZqliteError }).code, 'ERR_CLOSED')
  t.is(t.throws(() => db.cidr('routes_by_prefix'), { instanceOf: ZqliteError }).code, 'ERR_CLOSED')
})

test('a database in memory', async (t) => {
  const db = await Database.open(':memory:')
  await db.execute('CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT)')
  await db.execute('CREATE INDEX i ON routes USING cidr(prefix)')
  await db.execute(`INSERT INTO routes VALUES (1, '10.0.0.0/8')`)
  t.deepEqual(db.cidr('i').lookup('10.0.0.1'), { prefix: '10.0.0.0/8', rows: [1] })
  t.deepEqual(await db.get(`SELECT id FROM cidr_lookup('i', '10.0.0.1')`), { id: 1 })
  await db.close()
})
