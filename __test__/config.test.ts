/** Options: units, limits, and misspellings that are named. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Database, type DatabaseOptions } from 'zqlite'
import { fresh, rejects } from './helpers'

test('pools from 5 to 200 connections serve more calls at once than they have connections', async (t) => {
  for (const maxConnections of [5, 200]) {
    const db = await fresh(t, { pool: { minConnections: 1, maxConnections } })
    await db.execute('CREATE TABLE t (n)')
    const numbers = Array.from({ length: 400 }, (_, n) => n)
    await Promise.all(numbers.map((n) => db.execute('INSERT INTO t VALUES (?)', [n])))
    const streams = numbers.slice(0, 60).map(async () => {
      let count = 0
      for await (const _ of db.stream('SELECT n FROM t')) count++
      return count
    })
    const rows = await Promise.all(numbers.map((n) => db.get('SELECT n FROM t WHERE n = ?', [n])))
    t.deepEqual(rows, numbers.map((n) => ({ n })))
    t.deepEqual(await Promise.all(streams), Array.from({ length: 60 }, () => 400))
    const { connectionsActive, connectionsIdle } = db.metrics()
    t.true(connectionsActive + connectionsIdle <= maxConnections)
  }
})

test('idle connections of streams close, but for the minimum', async (t) => {
  const open = async (minConnections: number): Promise<number> => {
    const db = await fresh(t, { pool: { minConnections, maxConnections: 40, idleTimeout: 60 } })
    const before = db.metrics()
    const many = Array.from({ length: 10 }, () => db.stream('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT i FROM n'))
    await Promise.all(many.map((stream) => stream.next()))
    await Promise.all(many.map(async (stream) => stream.return?.()))
    await sleep(1_000)
    const after = db.metrics()
    t.is(after.connectionsActive, before.connectionsActive)
    return after.connectionsIdle - before.connectionsIdle
  }
  t.is(await open(1), 0)
  t.is(await open(40), 10)
})

test("a new file is laid out as the pragmas say, and zqlite's own among them hold for the database", async (t) => {
  const options = { pragmas: { page_size: 16384, auto_vacuum: 'incremental', encoding: 'UTF-16le', recursive_triggers: true, zqlite_cache_size: 2 ** 28, ZQLITE_parallel_writes: false } }
  const db = await fresh(t, options)
  await db.execute('CREATE TABLE t (a)')
  const read = (name: string) => db.values(`PRAGMA ${name}`).then((rows) => rows[0]?.[0])
  // As the connection says that made it; others know it when they have read from the file.
  t.deepEqual((await db.executeBatchTransaction([{ sql: 'PRAGMA encoding' }]))[0]?.rows, [{ encoding: 'UTF-16le' }])
  t.deepEqual(await Promise.all(['page_size', 'auto_vacuum', 'zqlite_cache_size', 'zqlite_parallel_writes', 'journal_mode'].map(read)), [16384, 2, 2 ** 28, 0, 'wal'])
  await db.execute('INSERT INTO t VALUES (?)', ['é𝄞'])
  t.deepEqual(await db.get('SELECT a, hex(CAST(a AS BLOB)) AS bytes FROM t'), { a: 'é𝄞', bytes: 'E90034D81EDD' })
  // In a file that is there they change nothing.
  await db.close()
  const again = await Database.open(db.path, { pragmas: { page_size: 4096, encoding: 'UTF-8' } })
  t.teardown(() => again.close())
  t.deepEqual(await again.get('SELECT a FROM t'), { a: 'é𝄞' })
  t.deepEqual(await again.get('PRAGMA page_size'), { page_size: 16384 })
})

test('durations and sizes as numbers and texts', async (t) => {
  const db = await Database.open(':memory:', {
    cacheSize: '16MB',
    pool: { minConnections: 1, maxConnections: 5, connectionTimeout: '250ms', idleTimeout: '10m', maxLifetime: '1h', healthCheckInterval: 60_000, queueLimit: 10 },
    transactions: { total: '2s', idle: 100 },
  })
  t.deepEqual(await db.get('SELECT 1 AS one'), { one: 1 })
  await db.close()
})

const wrong: [DatabaseOptions, RegExp][] = [
  [{ cachSize: 5 } as never, /unknown option cachSize; did you mean cacheSize\?/],
  [{ pool: { maxConnection: 5 } as never }, /pool\.maxConnection; did you mean pool\.maxConnections\?/],
  [{ transactions: { ide: 5 } as never }, /did you mean transactions\.idle\?/],
  [{ pool: { maxConnections: 4 } }, /pool\.maxConnections must be a whole number from 5 to 200, not 4/],
  [{ pool: { maxConnections: 201 } }, /not 201/],
  [{ pool: { maxConnections: 5.5 } }, /not 5\.5/],
  [{ pool: { maxConnections: '50' as never } }, /not "50"/],
  [{ pool: { minConnections: 0 } }, /pool\.minConnections must be a whole number from 1 to 200, not 0/],
  [{ pool: { minConnections: 201 } }, /not 201/],
  [{ pool: { minConnections: 6, maxConnections: 5 } }, /minConnections \(6\) is above/],
  [{ pool: { connectionTimeout: 0 } }, /pool\.connectionTimeout must be at least 1 ms, not 0/],
  [{ pool: { maxLifetime: '99ms' } }, /pool\.maxLifetime must be at least 100 ms, not "99ms"/],
  [{ pool: { idleTimeout: '31 days' } }, /pool\.idleTimeout/],
  [{ pool: { healthCheckInterval: Infinity } }, /not Infinity/],
  [{ pool: { queueLimit: 0 } }, /pool\.queueLimit/],
  [{ transactions: { total: 0 } }, /transactions\.total must be at least 1 ms/],
  [{ transactions: { idle: 0 } }, /transactions\.idle must be at least 1 ms/],
  [{ wal: { limit: '1MB' } }, /wal\.limit must be at least 4 MB/],
  [{ wal: { maxReadAge: 'long' } }, /wal\.maxReadAge/],
  [{ attach: { 'a b': 'x.db' } }, /"a b" is not a name/],
  [{ attach: { a: ':memory:' } }, /attach\.a must be a file name/],
  [{ attach: { a: { path: 'x.db', readOnly: true } as never } }, /unknown option attach\.a\.readOnly; did you mean attach\.a\.readonly\?/],
  [{ limits: { column: -1 } }, /limits\.column/],
  [{ pragmas: { recursve_triggers: true } }, /pragmas\.recursve_triggers: there is no such pragma; did you mean recursive_triggers\?/],
  [{ pragmas: { zqlite_cash_size: 1 << 20 } }, /pragmas\.zqlite_cash_size: there is no pragma zqlite_cash_size; did you mean zqlite_cache_size\?/],
  [{ pragmas: { zqlite_rtree: 1 } }, /pragmas\.zqlite_rtree: .*only reports/],
  [{ pragmas: { busy_timeout: 5 } }, /pragmas\.busy_timeout is set by zqlite itself/],
  [{ pragmas: { mmap_size: {} as never } }, /pragmas\.mmap_size must be a text, number or boolean/],
  [{ extensions: [5 as never] }, /extensions must be a list of file names/],
  [{ pool: { minConnections: 50, maxConnections: 20 } }, /minConnections \(50\) is above/],
  [{ pool: { connectionTimeout: '30 parsecs' } }, /pool\.connectionTimeout must be milliseconds or a text such as '30s', not "30 parsecs"/],
  [{ pool: { connectionTimeout: -1 } }, /not -1/],
  [{ cacheSize: 'much' }, /cacheSize must be bytes/],
  [{ cacheSize: Number.NaN }, /not NaN/],
  [{ readonly: 'yes' as never }, /readonly must be true or false, not "yes"/],
]

for (const [options, message] of wrong) {
  test(`refused: ${JSON.stringify(options)}`, async (t) => {
    t.regex((await rejects(t, 'ERR_TYPE', Database.open(':memory:', options))).message, message)
  })
}
