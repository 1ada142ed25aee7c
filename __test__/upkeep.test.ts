/** Looking after a database: health, plans, size, checkpoints, vacuum, backups, settings. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { Database, ZqliteError } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

test('the plan of a statement', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  await db.execute('CREATE INDEX by_name ON t (name)')
  const plan = await db.explainQuery('SELECT * FROM t WHERE name = ?', ['x'])
  t.true(plan.some(({ detail }) => detail.includes('by_name')))
  await db.explainQuery('DELETE FROM t')
  await rejects(t, 'ERR_SQL', db.explainQuery('SELECT * FROM missing'))
})

test('health says what works, also while a transaction holds the writer', async (t) => {
  const db = await fresh(t)
  await db.transaction(async () => {
    const { connectivityOk, connectivityTimeMs, lanes } = await db.healthCheck()
    t.true(connectivityOk && connectivityTimeMs < 1_000)
    t.true(lanes.active >= 1)
  })
})

test('size, checkpoint and vacuum', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)')
  await db.execute('CREATE INDEX i ON t (data)')
  await db.executeBatchTransaction(Array.from({ length: 500 }, () => ({ sql: 'INSERT INTO t (data) VALUES (randomblob(2000))' })))
  const full = await db.stats()
  t.true(full.bytes > 1_000_000 && full.walBytes > 1_000_000)
  t.is(full.tables, 1)
  t.is(full.indexes, 1)
  await db.execute('DELETE FROM t')
  t.true((await db.stats()).freePages > 200)
  await db.vacuum()
  const result = await db.checkpoint('truncate')
  t.deepEqual(result, { busy: false, logFrames: 0, checkpointedFrames: 0 })
  t.is(statSync(`${db.path}-wal`).size, 0)
  t.is((await db.stats()).walBytes, 0)
  t.true(statSync(db.path).size < 100_000)
  t.is((await db.stats()).freePages, 0)
  t.true((await db.checkpoint()).logFrames >= 0)
  await rejects(t, 'ERR_TYPE', db.checkpoint('fully' as never))
  await rejects(t, 'ERR_TRANSACTION_STATE', db.transaction(async () => db.vacuum()))
})

test('a backup is complete, private, of one moment, and tells how far it is', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)')
  await db.executeBatchTransaction(Array.from({ length: 500 }, () => ({ sql: 'INSERT INTO t (data) VALUES (randomblob(2000))' })))
  const path = join(dirname(db.path), 'copy.db')
  const steps: number[] = []
  const copying = db.backup(path, { pagesPerStep: 20, pause: 1, progress: ({ remaining }) => steps.push(remaining) })
  for (let i = 0; i < 20; i++) await db.execute('INSERT INTO t (data) VALUES (randomblob(2000))')
  const pages = await copying
  t.true(pages > 200)
  t.true(steps.length > 5)
  t.deepEqual(steps, steps.toSorted((a, b) => b - a))
  t.is(statSync(path).mode & 0o777, 0o600)
  const copy = await Database.open(path)
  t.deepEqual(await copy.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
  const { n } = (await copy.get<{ n: number }>('SELECT count(*) AS n FROM t'))!
  t.true(n >= 500 && n <= 520)
  await copy.close()
  const error = await rejects(t, 'ERR_CANNOT_OPEN', db.backup(path))
  t.true(error.message.includes(path))
  await db.backup(path, { overwrite: true })
})

test('a backup that is given up or cannot be leaves nothing behind', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)')
  await db.executeBatchTransaction(Array.from({ length: 500 }, () => ({ sql: 'INSERT INTO t (data) VALUES (randomblob(2000))' })))
  const path = join(dirname(db.path), 'copy.db')
  const controller = new AbortController()
  const progress = (): void => controller.abort()
  await rejects(t, 'ERR_CANCELLED', db.backup(path, { pagesPerStep: 5, pause: 5, progress, signal: controller.signal }))
  t.false(readdirSync(dirname(db.path)).some((name) => name.startsWith('copy')))
  await rejects(t, 'ERR_CANNOT_OPEN', db.backup(join(dirname(db.path), 'missing', 'copy.db')))
  await rejects(t, 'ERR_TYPE', db.backup(path, { pagesPerSteps: 5 } as never))
  t.false(existsSync(path))
})

test('files, pragmas and limits of every connection', async (t) => {
  const other = join(folder(t), 'other.db')
  const db = await fresh(t, { attach: { other }, pragmas: { recursive_triggers: true }, limits: { sqlLength: 1_000 } })
  await db.execute('CREATE TABLE other.t (id INTEGER PRIMARY KEY)')
  await db.execute('INSERT INTO other.t VALUES (7)')
  t.deepEqual(await db.get('SELECT id FROM other.t'), { id: 7 })
  t.deepEqual(db.getSync('SELECT id FROM other.t'), { id: 7 })
  await rejects(t, 'ERR_TOO_LARGE', db.query(`SELECT '${'x'.repeat(2_000)}'`))
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', Database.open(join(folder(t), 'second.db'), { attach: { other } }))
})

for (const [options, word] of [
  [{ pragmas: { synchronous: 'off' } }, 'pragmas.synchronous'],
  [{ pragmas: { 'a b': 1 } }, 'a b'],
  [{ limits: { lenght: 5 } }, 'limits.length'],
  [{ attach: { other: 5 } }, 'attach.other'],
  [{ extensions: 'x.so' }, 'extensions'],
  [{ extensions: ['/nowhere/x.so'] }, '/nowhere/x.so'],
  [{ syncSteps: 5 }, 'syncSteps'],
] as const) {
  test(`refused: ${JSON.stringify(options)}`, async (t) => {
    const error = await t.throwsAsync(Database.open(join(folder(t), 'test.db'), options as never), { instanceOf: ZqliteError })
    t.true(error.message.includes(word), error.message)
  })
}

test("zqlite's own pragmas take effect, read back, and are errors when misspelled", async (t) => {
  const db = await fresh(t)
  t.deepEqual(await db.get('PRAGMA zqlite_cache_size = 536870912'), { zqlite_cache_size: 536_870_912 })
  t.deepEqual(await db.get('PRAGMA zqlite_cache_size'), { zqlite_cache_size: 536_870_912 })
  t.deepEqual(await db.get('PRAGMA zqlite_parallel_writes'), { zqlite_parallel_writes: 1 })
  t.deepEqual(await db.get('PRAGMA zqlite_mesh_optimization = on'), { zqlite_mesh_optimization: 1 })
  t.deepEqual(await db.get('PRAGMA zqlite_rtree'), { zqlite_rtree: 1 })
  t.deepEqual(await db.get('SELECT 1 AS one'), { one: 1 })
  const error = await rejects(t, 'ERR_SQL', db.query('PRAGMA zqlite_cash_size = 5'))
  t.true(error.message.includes('zqlite_cache_size'))
  await rejects(t, 'ERR_SQL', db.query('PRAGMA zqlite_bitmap = 1'))
})

test('an R*Tree as written in the documentation', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE VIRTUAL TABLE peer_cidr_rtree USING rtree(id, ip_min, ip_max, cidr_min, cidr_max)')
  await db.execute('INSERT INTO peer_cidr_rtree VALUES (1, 10, 20, 0, 32), (2, 30, 40, 0, 32)')
  t.deepEqual(await db.query('SELECT id FROM peer_cidr_rtree WHERE ip_min <= 35 AND ip_max >= 35'), [{ id: 2 }])
  await db.execute('CREATE VIRTUAL TABLE words USING fts5(text)')
  await db.execute('CREATE VIRTUAL TABLE areas USING geopoly(name)')
  t.deepEqual(await db.get("SELECT json_extract('{\"a\": 5}', '$.a') AS a"), { a: 5 })
})

test('nested transactions are undone alone', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  await db.transaction(async (outer) => {
    await outer.execute('INSERT INTO t VALUES (1)')
    const failed = outer.transaction(async (inner) => {
      await inner.execute('INSERT INTO t VALUES (2)')
      await inner.transaction(async (innermost) => innermost.execute('INSERT INTO t VALUES (3)'))
      await rejects(t, 'ERR_TRANSACTION_STATE', Promise.resolve().then(() => outer.execute('INSERT INTO t VALUES (9)')))
      throw new Error('no')
    })
    await t.throwsAsync(failed, { message: 'no' })
    await outer.transaction(async (inner) => inner.execute('INSERT INTO t VALUES (4)'))
  })
  t.deepEqual(await db.values('SELECT id FROM t'), [[1], [4]])
  const controller = new AbortController()
  const aborted = db.transaction(
    async (tx) => {
      await tx.execute('INSERT INTO t VALUES (5)')
      controller.abort()
    },
    { signal: controller.signal },
  )
  await rejects(t, 'ERR_CANCELLED', aborted)
  t.is((await db.values('SELECT id FROM t')).length, 2)
})
