/** Looking after a database: health, plans, size, checkpoints, vacuum, backups, settings. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
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
  for await (const row of db.stream('SELECT id FROM other.t')) t.deepEqual(row, { id: 7 })
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', Database.open(join(folder(t), 'second.db'), { attach: { other } }))
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', Database.open(':memory:', { attach: { other } }))
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', Database.open(other))
  const beside = await Database.open(':memory:', { attach: { other: { path: other, readonly: true } } })
  t.teardown(() => beside.close())
  t.deepEqual(await beside.get('SELECT id FROM other.t'), { id: 7 })
  await rejects(t, 'ERR_READONLY', beside.execute('INSERT INTO other.t VALUES (8)'))
})

test('a file attached to a database in memory is private, owned, and may have any name', async (t) => {
  const odd = join(folder(t), "a b'c?d#e%f&é.db")
  const db = await Database.open(':memory:', { attach: { odd } })
  await db.execute('CREATE TABLE odd.t (id INTEGER PRIMARY KEY)')
  await db.execute('INSERT INTO odd.t VALUES (1)')
  t.is(statSync(odd).mode & 0o777, 0o600)
  await rejects(t, 'ERR_LOCKED_BY_PROCESS', Database.open(odd))
  await db.close()
  const again = await Database.open(odd)
  t.deepEqual(await again.query('SELECT id FROM t'), [{ id: 1 }])
  await again.close()
})

test('an extension is loaded into every connection, and by no SQL', async (t) => {
  const path = folder(t)
  // It notes each connection that it is loaded into, which is all that an extension has to be.
  const source = `#include <fcntl.h>
#include <unistd.h>
int sqlite3_noted_init(void *db, char **error, const void *api) {
  int file = open(NOTES, O_WRONLY | O_CREAT | O_APPEND, 0600);
  write(file, "x", 1);
  close(file);
  return 0;
}`
  const notes = join(path, 'notes')
  writeFileSync(join(path, 'noted.c'), source)
  execFileSync('cc', ['-shared', '-fPIC', '-w', `-DNOTES="${notes}"`, '-o', join(path, 'noted.so'), join(path, 'noted.c')])
  const loaded = (): number => (existsSync(notes) ? statSync(notes).size : 0)
  const none = await fresh(t)
  for (const refused of [none.query('SELECT load_extension(?)', [join(path, 'noted.so')]), none.execute('SELECT load_extension(?)', [join(path, 'noted.so')])]) await rejects(t, 'ERR_NOT_ALLOWED', refused)
  t.is(loaded(), 0)
  const db = await fresh(t, { extensions: [join(path, 'noted.so')] })
  const { connectionsIdle, connectionsActive } = db.metrics()
  // The steward has one that is counted nowhere.
  t.is(loaded(), connectionsIdle + connectionsActive + 1)
  db.getSync('SELECT 1')
  t.is(loaded(), connectionsIdle + connectionsActive + 2)
  for await (const _ of db.stream('SELECT 1'));
  t.is(loaded(), connectionsIdle + connectionsActive + 3)
  await rejects(t, 'ERR_NOT_ALLOWED', db.query('SELECT load_extension(?)', [join(path, 'noted.so')]))
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
  for (const sql of ['PRAGMA zqlite_cash_size = 5', '-- a comment\n/* and another */ pragma Zqlite_cash_size(5)', 'PRAGMA zqlite_compression = on']) {
    const error = await rejects(t, 'ERR_SQL', db.query(sql))
    t.true(error.message.includes('did you mean'), error.message)
    t.throws(() => db.getSync(sql), { code: 'ERR_SQL' })
    t.throws(() => db.executeSync(sql), { code: 'ERR_SQL' })
  }
  t.deepEqual(db.getSync('PRAGMA zqlite_cache_size'), { zqlite_cache_size: 536_870_912 })
  // Where one would be ignored it is refused, misspelled or not.
  for (const sql of ['PRAGMA zqlite_cache_size', 'PRAGMA zqlite_cash_size']) {
    for (const call of [db.executeBatchTransaction([{ sql }]), db.stream(sql).next(), db.transaction(async (tx) => tx.query(sql)), db.query(`EXPLAIN ${sql}`)]) await rejects(t, 'ERR_NOT_ALLOWED', call as Promise<unknown>)
  }
  await rejects(t, 'ERR_NOT_ALLOWED', db.query('PRAGMA main.zqlite_cache_size = 5'))
  for (const name of ['zqlite_rtree', 'zqlite_bitmap', 'zqlite_cidr', 'zqlite_acl']) {
    t.deepEqual(await db.get(`PRAGMA ${name}`), { [name]: 1 })
    await rejects(t, 'ERR_SQL', db.query(`PRAGMA ${name} = 1`))
  }
  for (const sql of ['PRAGMA zqlite_cache_size = lots', 'PRAGMA zqlite_parallel_writes = perhaps', 'PRAGMA zqlite_cache_size 5']) await rejects(t, 'ERR_SQL', db.query(sql))
})

test('settings that change reach every kind of connection, and go again', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (data BLOB)')
  await db.executeBatchTransaction(Array.from({ length: 200 }, () => ({ sql: 'INSERT INTO t VALUES (randomblob(3000))' })))
  await db.checkpoint('truncate')
  // Each connection that maps the file has a line there.
  const mapped = () => readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.endsWith(db.path)).length
  const sql = 'SELECT count(data) AS n FROM t'
  const useAll = async () => {
    t.deepEqual(db.getSync(sql), { n: 200 })
    for await (const row of db.stream(sql)) t.deepEqual(row, { n: 200 })
    await db.executeBatchTransaction([{ sql }])
    await Promise.all(Array.from({ length: 20 }, () => db.query(sql)))
  }
  await useAll()
  t.is(mapped(), 0)
  await db.get('PRAGMA zqlite_mesh_optimization = on')
  const steps = [() => db.getSync(sql), async () => { for await (const _ of db.stream(sql)); }, () => db.executeBatchTransaction([{ sql }]), () => db.query(sql)]
  for (const [i, step] of steps.entries()) {
    await step()
    t.is(mapped(), i + 1)
  }
  t.deepEqual(await db.get('PRAGMA zqlite_mesh_optimization'), { zqlite_mesh_optimization: 1 })
  await db.get('PRAGMA zqlite_mesh_optimization = off')
  for (let i = 0; i < 20 && mapped() > 0; i++) await useAll()
  t.is(mapped(), 0)
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
