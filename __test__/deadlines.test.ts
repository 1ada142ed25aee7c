/** Time limits and signals of every call, whether it waits or runs; and closing in the midst of work. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { type CallOptions, Database, type Transaction, ZqliteError } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

const endless = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'
const many = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT i FROM n'

/** Holds the writer until it is let go of. */
async function hold(db: Database): Promise<() => Promise<void>> {
  let release = () => {}
  let held: Promise<unknown> = Promise.resolve()
  await new Promise<void>((resolve) => {
    held = db.transaction(() => new Promise<void>((end) => ((release = end), resolve())))
  })
  return async () => {
    release()
    await held
  }
}

const step = { version: 1, name: 'one', up: 'CREATE TABLE IF NOT EXISTS step (a)' }

/** Calls that wait for the writer. */
const writing: Record<string, (db: Database, options: CallOptions) => Promise<unknown>> = {
  execute: (db, options) => db.execute('INSERT INTO t VALUES (1)', [], options),
  query: (db, options) => db.query('INSERT INTO t VALUES (1) RETURNING a', [], options),
  executeBatchTransaction: (db, options) => db.executeBatchTransaction([{ sql: 'INSERT INTO t VALUES (1)' }], options),
  executeBatch: async (db, options) => {
    const [outcome] = await db.executeBatch([{ sql: 'INSERT INTO t VALUES (1)' }], options)
    if (outcome?.status === 'rejected') throw outcome.reason as Error
  },
  transaction: (db, options) => db.transaction(async (tx) => tx.execute('INSERT INTO t VALUES (1)'), options),
  migrate: (db, options) => db.migrate([step], options),
  vacuum: (db, options) => db.vacuum(options),
  checkpoint: (db, options) => db.checkpoint('truncate', options),
}

for (const [name, call] of Object.entries(writing)) {
  test(`${name} waits no longer than it may, and is not made then`, async (t) => {
    const db = await fresh(t)
    await db.execute('CREATE TABLE t (a)')
    const release = await hold(db)
    const started = performance.now()
    await rejects(t, 'ERR_DEADLINE', call(db, { timeout: 50 }))
    await rejects(t, 'ERR_DEADLINE', call(db, { timeout: '0ms' }))
    const reason = new Error('enough')
    await rejects(t, 'ERR_CANCELLED', call(db, { signal: AbortSignal.timeout(50) }))
    t.is((await rejects(t, 'ERR_CANCELLED', call(db, { signal: AbortSignal.abort(reason) }))).cause, reason)
    t.true(performance.now() - started < 900, 'not only when the transaction was timed out')
    await rejects(t, 'ERR_TYPE', call(db, { timeout: 'soon' }))
    await rejects(t, 'ERR_TYPE', call(db, { signal: new AbortController() as never }))
    await release()
    t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 0 })
    await call(db, { timeout: '20s', signal: new AbortController().signal })
  })
}

/** Calls that take as long as they are let. */
const running: Record<string, (db: Database, options: CallOptions) => Promise<unknown>> = {
  execute: (db, options) => db.execute(`INSERT INTO t ${endless}`, [], options),
  query: (db, options) => db.query(endless, [], options),
  get: (db, options) => db.get(endless, [], options),
  values: (db, options) => db.values(endless, [], options),
  columns: (db, options) => db.columns(endless, [], options),
  stream: (db, options) => db.stream(endless, [], options).next(),
  'stream that nobody reads': async (db, options) => {
    const stream = db.stream(many, [], options)
    await stream.next()
    await sleep(200)
    for await (const _ of stream);
  },
  prepare: (db, options) => db.prepare(endless).get([], options),
  executeBatchTransaction: (db, options) => db.executeBatchTransaction([{ sql: 'INSERT INTO t VALUES (1)' }, { sql: endless }], options),
  executeBatch: async (db, options) => {
    const [outcome] = await db.executeBatch([{ sql: endless }], options)
    if (outcome?.status === 'rejected') throw outcome.reason as Error
  },
  transaction: (db, options) => db.transaction(async (tx) => tx.execute(`INSERT INTO t ${endless}`), options),
  'transaction that dawdles': (db, options) => db.transaction(async (tx) => { await tx.execute('INSERT INTO t VALUES (1)'); await sleep(300) }, options),
  'nested transaction': (db, options) => db.transaction(async (tx) => tx.transaction(async (nested) => nested.execute(`INSERT INTO t ${endless}`)), options),
  migrate: (db, options) => db.migrate([{ ...step, up: `CREATE TABLE step AS ${endless}` }], options),
  backup: (db, options) => db.backup(`${(db as Database & { path: string }).path}.copy`, { pagesPerStep: 1, pause: '10s', ...options }),
}

for (const [name, call] of Object.entries(running)) {
  test(`${name} runs no longer than it may, and nothing of it remains`, async (t) => {
    const db = await fresh(t)
    await db.execute('CREATE TABLE t (a)')
    const started = performance.now()
    await rejects(t, 'ERR_DEADLINE', call(db, { timeout: 100 }))
    await rejects(t, 'ERR_CANCELLED', call(db, { signal: AbortSignal.timeout(100) }))
    t.true(performance.now() - started < 5_000)
    t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 0 })
    t.deepEqual(await db.get("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'step'"), { n: 0 })
    t.false(existsSync(`${db.path}.copy`))
    t.is((await db.execute('INSERT INTO t VALUES (1)')).changes, 1)
  })
}

test('a vacuum is given up while it runs', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)')
  await db.execute(`INSERT INTO t SELECT i, hex(randomblob(50)) FROM (${many.replace('1000000', '300000')})`)
  await rejects(t, 'ERR_DEADLINE', db.vacuum({ timeout: 20 }))
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 300_000 })
  await db.vacuum({ timeout: '50s' })
  t.deepEqual(await db.get('PRAGMA integrity_check'), { integrity_check: 'ok' })
})

test('a checkpoint that waits for a reader is given up', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  await db.execute('INSERT INTO t VALUES (1)')
  const reader = db.stream(`SELECT t.a FROM t, (${many})`)
  await reader.next()
  await db.execute('INSERT INTO t VALUES (2)')
  const started = performance.now()
  await rejects(t, 'ERR_DEADLINE', db.checkpoint('truncate', { timeout: 100 }))
  await rejects(t, 'ERR_CANCELLED', db.checkpoint('full', { signal: AbortSignal.timeout(100) }))
  t.true(performance.now() - started < 3_000)
  await reader.return?.()
  t.like(await db.checkpoint('truncate'), { busy: false, logFrames: 0 })
})

test('what is asked of a database that is busy through and through is answered', async (t) => {
  const db = await fresh(t, { pool: { maxConnections: 5 } })
  await db.execute('CREATE TABLE t (a)')
  const controller = new AbortController()
  t.teardown(() => controller.abort())
  const release = await hold(db)
  const busy = Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? db.query(endless, [], { signal: controller.signal }) : db.stream(many, [], { signal: controller.signal }).next()))
  const waiting = db.execute('INSERT INTO t VALUES (1)')
  await sleep(50)
  const { connectivityOk, connectivityTimeMs, lanes, walBytes } = await db.healthCheck({ timeout: '5s' })
  t.true(connectivityOk && connectivityTimeMs < 2_000 && lanes.waiting > 10 && lanes.active >= 3 && walBytes > 0)
  await rejects(t, 'ERR_CANCELLED', db.healthCheck({ signal: AbortSignal.abort() }))
  t.like(await db.healthCheck({ timeout: 0 }), { connectivityOk: false, error: { code: 'ERR_DEADLINE' } })
  await rejects(t, 'ERR_TYPE', db.healthCheck({ timeOut: 5 } as never))
  controller.abort()
  await Promise.allSettled(busy)
  await release()
  await waiting
})

test('closing ends streams that nobody reads on, and those that are being read', async (t) => {
  const db = await Database.open(join(folder(t), 'test.db'))
  const paused = db.stream(many)
  t.deepEqual(await paused.next(), { done: false, value: { i: 1 } })
  const reading = (async () => { for await (const _ of db.stream(many)) await sleep(1) })()
  const unread = db.stream(many)
  t.deepEqual(await paused.next(), { done: false, value: { i: 2 } })
  const closed = db.close()
  await rejects(t, 'ERR_CLOSED', reading)
  await closed
  await rejects(t, 'ERR_CLOSED', paused.next())
  t.deepEqual(await paused.next(), { done: true, value: undefined })
  await t.throwsAsync(async () => unread.next(), { instanceOf: ZqliteError, code: 'ERR_CLOSED' })
})

test('closing waits for a transaction also where one may take weeks', async (t) => {
  const db = await Database.open(join(folder(t), 'test.db'), { transactions: { total: 2 ** 31 + 1000 } })
  await db.execute('CREATE TABLE t (a)')
  const transaction = db.transaction(async (tx) => {
    await sleep(200)
    return tx.execute('INSERT INTO t VALUES (1)')
  })
  await sleep(20)
  await db.close()
  t.like(await transaction, { changes: 1 })
})

test("a signal that is undefined leaves a call within a transaction to the transaction's own", async (t) => {
  const db = await fresh(t)
  const controller = new AbortController()
  setTimeout(() => controller.abort(), 50)
  const call = (tx: Transaction): Promise<unknown> => tx.query(endless, [], { signal: undefined, timeout: 5000 } as object as CallOptions)
  await rejects(t, 'ERR_CANCELLED', db.transaction(call, { signal: controller.signal }))
})

test('closing waits for transactions and what they do, and for questions of health', async (t) => {
  const path = join(folder(t), 'test.db')
  const db = await Database.open(path)
  await db.execute('CREATE TABLE t (a)')
  const transaction = db.transaction(async (tx) => {
    await tx.execute('INSERT INTO t VALUES (1)')
    await rejects(t, 'ERR_TRANSACTION_STATE', db.close())
    await sleep(200)
    await tx.transaction(async (nested) => nested.execute('INSERT INTO t VALUES (2)'))
    return 'done'
  })
  const health = db.healthCheck()
  await sleep(50)
  await db.close()
  t.is(await transaction, 'done')
  t.true((await health).connectivityOk)
  const again = await Database.open(path)
  t.deepEqual(await again.values('SELECT a FROM t'), [[1], [2]])
  // One that never ends is not waited for longer than it may take.
  let given: Transaction | undefined
  void again.transaction(async (tx) => {
    given = tx
    await tx.execute('INSERT INTO t VALUES (3)')
    await new Promise(() => {})
  })
  await sleep(50)
  await again.close()
  await t.throwsAsync(async () => given?.execute('INSERT INTO t VALUES (4)'), { instanceOf: ZqliteError })
  const last = await Database.open(path)
  t.deepEqual(await last.values('SELECT a FROM t'), [[1], [2]])
  await last.close()
})

test('disposing closes', async (t) => {
  const db = await fresh(t)
  const stream = db.stream(many)
  await stream.next()
  await stream[Symbol.asyncDispose]()
  t.deepEqual(await stream.next(), { done: true, value: undefined })
  await db[Symbol.asyncDispose]()
  await rejects(t, 'ERR_CLOSED', db.query('SELECT 1'))
})

test('a transaction is refused what is no transaction, and writing on the object beside it however it is spelled', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  await rejects(t, 'ERR_TYPE', db.transaction('BEGIN' as never))
  await db.transaction(async () => {
    const started = performance.now()
    for (const sql of [
      '/* a comment */ INSERT INTO t VALUES (1) RETURNING a',
      '-- a comment\nDELETE FROM t RETURNING a',
      "WITH x AS (SELECT ')' AS a), y(b) AS NOT MATERIALIZED (SELECT 1) INSERT INTO t SELECT a FROM x RETURNING a",
      'with recursive x(i) as (values (1)) update t set a = 1 returning a',
      'WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x RETURNING a',
      'PRAGMA user_version = 5',
      'PRAGMA application_id(5)',
      'PRAGMA main.user_version = 5',
    ]) {
      await rejects(t, 'ERR_TRANSACTION_STATE', Promise.resolve().then(() => db.query(sql)))
    }
    t.true(performance.now() - started < 900)
    for (const sql of [
      "WITH x AS (SELECT 'insert' AS \"delete\") SELECT \"delete\" FROM x",
      'WITH x AS (SELECT 1 AS a) SELECT replace(a, 1, 2) FROM x',
      '/* INSERT */ SELECT 1',
      'PRAGMA user_version',
      '(SELECT 1)',
      "SELECT 'WITH x INSERT'",
    ]) {
      if (sql.startsWith('(')) await rejects(t, 'ERR_SQL', db.query(sql))
      else t.is((await db.query(sql)).length, 1, sql)
    }
  })
})
