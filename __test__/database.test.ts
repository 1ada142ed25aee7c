/** Calls of a database: what they return, what they refuse, what survives. */
import { spawn } from 'node:child_process'
import { existsSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Database, ZqliteError } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

test('a write is seen by whatever is asked after it', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  for (let i = 1; i <= 100; i++) {
    t.deepEqual(await db.execute('INSERT INTO t (name) VALUES (?)', [`n${i}`]), { changes: 1, lastInsertRowid: i })
    t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: i })
  }
})

test('query, get and execute return what they say', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  t.deepEqual(await db.query('SELECT * FROM t'), [])
  t.is(await db.get('SELECT * FROM t'), undefined)
  t.deepEqual(await db.query('INSERT INTO t (name) VALUES (?), (?) RETURNING id, name', ['a', 'b']), [
    { id: 1, name: 'a' },
    { id: 2, name: 'b' },
  ])
  t.deepEqual(await db.get('SELECT name FROM t WHERE id = :id', { id: 2 }), { name: 'b' })
  t.deepEqual(await db.execute('UPDATE t SET name = upper(name)'), { changes: 2, lastInsertRowid: 0 })
  t.deepEqual(await db.get('DELETE FROM t RETURNING id'), { id: 1 })
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 0 }, 'a writing statement runs to its end also for get()')
})

test('thousands of calls in flight are answered each with its own', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)')
  const ids = Array.from({ length: 3000 }, (_, i) => i)
  await Promise.all(ids.map((id) => db.execute('INSERT INTO t VALUES (?, ?)', [id, `text ${id}`])))
  const { groups, groupedMembers } = db.metrics()
  t.true(groups < groupedMembers / 10, `${groupedMembers} writes took ${groups} commits`)
  const rows = await Promise.all(ids.map((id) => db.get('SELECT * FROM t WHERE id = ?', [id])))
  t.deepEqual(rows, ids.map((id) => ({ id, text: `text ${id}` })))
})

test('a large result arrives whole and in order', async (t) => {
  const db = await fresh(t)
  const sql = 'WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 30000) SELECT n, \'é\' || n AS text FROM s'
  const rows = await db.query<{ n: number; text: string }>(sql)
  t.is(rows.length, 30_000)
  t.true(rows.every(({ n, text }, i) => n === i + 1 && text === `é${n}`))
})

test('more statements than are remembered keep working', async (t) => {
  const db = await fresh(t)
  for (let round = 0; round < 2; round++) {
    const sums = await Promise.all(Array.from({ length: 5000 }, (_, i) => db.get<{ n: number }>(`SELECT ${i} AS n`)))
    t.true(sums.every((row, i) => row?.n === i))
  }
})

test('a batch is all or nothing, and returns the rows of every statement', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER UNIQUE)')
  t.deepEqual(
    await db.executeBatchTransaction([
      { sql: 'INSERT INTO t (n) VALUES (?)', params: [1] },
      { sql: 'INSERT INTO t (n) VALUES (?) RETURNING id', params: [2] },
      { sql: 'SELECT n FROM t ORDER BY n' },
    ]),
    [
      { changes: 1, lastInsertRowid: 1, rows: [] },
      { changes: 1, lastInsertRowid: 2, rows: [{ id: 2 }] },
      { changes: 0, lastInsertRowid: 0, rows: [{ n: 1 }, { n: 2 }] },
    ],
  )
  const error = await rejects(t, 'ERR_CONSTRAINT', db.executeBatchTransaction([
    { sql: 'INSERT INTO t (n) VALUES (?)', params: [3] },
    { sql: 'INSERT INTO t (n) VALUES (?)', params: [1] },
  ]))
  t.is(error.statement, 1)
  t.is(error.constraint, 'unique')
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 2 })
  t.deepEqual(await db.executeBatchTransaction([]), [])
})

test('a guard that is missed rolls the batch back', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER)')
  await db.execute("INSERT INTO counters VALUES ('uses', 0)")
  const take = () =>
    db.executeBatchTransaction([
      { sql: 'UPDATE counters SET value = value + 1 WHERE name = ? AND value < 10', params: ['uses'], expect: { changes: 1 } },
    ])
  const outcomes = await Promise.allSettled(Array.from({ length: 64 }, take))
  t.is(outcomes.filter((o) => o.status === 'fulfilled').length, 10)
  t.deepEqual(await db.get('SELECT value FROM counters'), { value: 10 })
  const error = await rejects(t, 'ERR_EXPECTATION_FAILED', take())
  t.is(error.statement, 0)
})

test('a wrong call is told what is wrong with it, and the database goes on', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL)')
  t.regex((await rejects(t, 'ERR_SQL', db.query('SELEC 1'))).message, /near "SELEC"/)
  t.regex((await rejects(t, 'ERR_SQL', db.query('SELECT missing FROM t'))).message, /no such column: missing.*near "missing FROM t"/)
  await rejects(t, 'ERR_SQL', db.query(''))
  await rejects(t, 'ERR_SQL', db.execute('DELETE FROM t; DELETE FROM t'))
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', []))
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', [1, 2]))
  t.regex((await rejects(t, 'ERR_PARAMETERS', db.query('SELECT :name', { nmae: 1 }))).message, /"nmae".*:name/)
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', [Symbol('s') as never]))
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', [undefined as never]))
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', [2n ** 63n]))
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', 'text' as never))
  await rejects(t, 'ERR_TYPE', db.query(5 as never))
  await rejects(t, 'ERR_TYPE', db.query('SELECT 1', [], { timeot: 5 } as never))
  await rejects(t, 'ERR_NOT_ALLOWED', db.execute('BEGIN'))
  await rejects(t, 'ERR_NOT_ALLOWED', db.execute('PRAGMA synchronous = OFF'))
  const cyclic: unknown[] = []
  cyclic.push(cyclic)
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', [cyclic]))
  await rejects(t, 'ERR_PARAMETERS', db.query('SELECT ?', [{ toJSON: () => undefined }]))
  let nested: Promise<unknown> | undefined
  const meddling = { toJSON: () => ((nested = db.query('SELECT 1').catch((error: unknown) => error)), 'text') }
  t.deepEqual(await db.get('SELECT ? AS v', [meddling]), { v: '"text"' })
  t.like(await nested, { code: 'ERR_TYPE' })
  t.is((await rejects(t, 'ERR_CONSTRAINT', db.execute('INSERT INTO t VALUES (1, NULL)'))).constraint, 'notnull')
  t.deepEqual(await db.get('SELECT 1 AS one'), { one: 1 })
})

test("an error's stack leads to the caller", async (t) => {
  const db = await fresh(t)
  async function theCaller(): Promise<void> {
    await db.query('SELECT missing')
  }
  const error = await t.throwsAsync(theCaller())
  t.regex(error.stack ?? '', /theCaller/)
})

test('a call ends at its timeout, and the next one is untouched', async (t) => {
  const db = await fresh(t)
  const endless = 'WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT count(*) FROM s'
  const started = performance.now()
  await rejects(t, 'ERR_DEADLINE', db.query(endless, [], { timeout: '50ms' }))
  t.true(performance.now() - started < 5_000)
  for (let i = 0; i < 20; i++) t.deepEqual(await db.get('SELECT 1 AS one'), { one: 1 })
})

test('closing waits for calls in flight and refuses new ones', async (t) => {
  const path = join(folder(t), 'test.db')
  const db = await Database.open(path)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  const writes = Array.from({ length: 200 }, () => db.execute('INSERT INTO t DEFAULT VALUES'))
  const closed = db.close()
  await rejects(t, 'ERR_CLOSED', db.query('SELECT 1'))
  await closed
  await db.close()
  t.is((await Promise.allSettled(writes)).filter((w) => w.status === 'fulfilled').length, 200)
  t.false(existsSync(`${path}-wal`), 'the log was moved into the file')
  const again = await Database.open(path)
  t.deepEqual(await again.get('SELECT count(*) AS n FROM t'), { n: 200 })
  await again.close()
})

test('new files are private, and one process shares a file whatever its path', async (t) => {
  const db = await fresh(t)
  t.is(statSync(db.path).mode & 0o777, 0o600)
  await db.execute('CREATE TABLE t (a)')
  symlinkSync(db.path, `${db.path}.link`)
  const other = await Database.open(`${db.path}.link`)
  await other.execute('INSERT INTO t VALUES (1)')
  await other.close()
  t.deepEqual(await db.query('SELECT * FROM t'), [{ a: 1 }])
})

test('a second process is refused by name of the owner', async (t) => {
  const db = await fresh(t)
  const script = `require('zqlite').Database.open(${JSON.stringify(db.path)}).catch((e) => { console.log(e.code, e.retryable, e.message) })`
  const child = spawn(process.execPath, ['-e', script], { cwd: process.cwd(), stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of child.stdout) output += chunk
  t.true(output.startsWith('ERR_LOCKED_BY_PROCESS true '), output)
  t.true(output.includes(db.path) && output.includes(String(process.pid)), output)
})

test('files that cannot be opened are refused and left alone', async (t) => {
  const path = folder(t)
  const text = join(path, 'notes.txt')
  writeFileSync(text, 'not a database '.repeat(50))
  t.true((await rejects(t, 'ERR_NOT_A_DATABASE', Database.open(text))).message.includes(text))
  t.is(statSync(text).size, 750)
  await rejects(t, 'ERR_CANNOT_OPEN', Database.open(join(path, 'missing/test.db')))
  await rejects(t, 'ERR_CANNOT_OPEN', Database.open(path))
  await rejects(t, 'ERR_CANNOT_OPEN', Database.open(join(path, 'none.db'), { readonly: true }))
  await rejects(t, 'ERR_TYPE', Database.open(''))
})

test('a damaged file is told from a foreign one', async (t) => {
  const path = join(folder(t), 'test.db')
  const db = await Database.open(path)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  await db.close()
  const { readFileSync } = await import('node:fs')
  const bytes = readFileSync(path)
  // The first page's tree: behind the header of the file.
  bytes.fill(0xff, 100, 400)
  writeFileSync(path, bytes)
  await rejects(t, 'ERR_CORRUPT', Database.open(path))
})

test('a readonly database reads beside its owner and does not write', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  const readonly = await Database.open(db.path, { readonly: true })
  t.deepEqual(await readonly.query('SELECT * FROM t'), [])
  await rejects(t, 'ERR_READONLY', readonly.execute('INSERT INTO t VALUES (1)'))
  await readonly.close()
})

test('a database in memory needs no file', async (t) => {
  const db = await Database.open(':memory:')
  await db.execute('CREATE TABLE t (a)')
  await Promise.all([1, 2, 3].map((n) => db.execute('INSERT INTO t VALUES (?)', [n])))
  t.deepEqual(await db.query('SELECT sum(a) AS s FROM t'), [{ s: 6 }])
  await db.close()
})

test('threads of a process share a database', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (thread INTEGER, n INTEGER)')
  const script = `
    const { workerData } = require('node:worker_threads')
    const { Database } = require('zqlite')
    ;(async () => {
      const db = await Database.open(workerData.path)
      await Promise.all(Array.from({ length: 100 }, (_, n) => db.execute('INSERT INTO t VALUES (?, ?)', [workerData.thread, n])))
      await db.close()
    })()`
  const threads = [1, 2, 3].map(
    (thread) => new Promise((resolve, reject) => new Worker(script, { eval: true, workerData: { path: db.path, thread } }).on('exit', resolve).on('error', reject)),
  )
  t.deepEqual(await Promise.all(threads), [0, 0, 0])
  t.deepEqual(await db.query('SELECT thread, count(*) AS n FROM t GROUP BY thread'), [1, 2, 3].map((thread) => ({ thread, n: 100 })))
})

test('metrics count what happened', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  const before = db.metrics()
  await db.query('SELECT * FROM t')
  await db.execute('INSERT INTO t VALUES (1)')
  await t.throwsAsync(db.query('SELECT b FROM t'))
  const after = db.metrics()
  t.is(after.reads - before.reads, 1)
  t.is(after.writes - before.writes, 1)
  t.is(after.errors - before.errors, 1)
  t.true(after.walBytes > 0)
  t.true(after.connectionsIdle >= 2)
})

test('a database is not made with new', (t) => {
  const Made = Database as unknown as new (path: string) => Database
  const error = t.throws(() => new Made('app.db'), { instanceOf: ZqliteError })
  t.is(error.code, 'ERR_TYPE')
  t.regex(error.message, /await Database\.open\(path\)/)
})
