/** Whatever goes wrong has its code, and the database is of use afterwards. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Database, type DatabaseOptions, type ErrorCode, errorCatalogue, ZqliteError } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

const endless = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'

/** Every way to ask answers, and a write is made. */
async function works(t: ExecutionContext, db: Database): Promise<void> {
  const { changes } = await db.execute('INSERT INTO t (text) VALUES (?)', ['after'])
  t.is(changes, 1)
  t.truthy(await db.get('SELECT 1 FROM t'))
  t.truthy(db.getSync('SELECT 1 FROM t'))
  for await (const _ of db.stream('SELECT 1 FROM t')) break
  await db.transaction(async (tx) => tx.execute('DELETE FROM t WHERE text = ?', ['after']))
  t.true((await db.healthCheck()).connectivityOk)
}

async function prepared(t: ExecutionContext, options?: DatabaseOptions): Promise<Database & { path: string }> {
  const db = await fresh(t, options)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT NOT NULL)')
  await db.execute("INSERT INTO t VALUES (1, 'one')")
  return db
}

/** Each kind of call, with the same statement. */
const kinds: [name: string, call: (db: Database, sql: string, params: never) => unknown][] = [
  ['execute', (db, sql, params) => db.execute(sql, params)],
  ['query', (db, sql, params) => db.query(sql, params)],
  ['get', (db, sql, params) => db.get(sql, params)],
  ['values', (db, sql, params) => db.values(sql, params)],
  ['columns', (db, sql, params) => db.columns(sql, params)],
  ['stream', (db, sql, params) => db.stream(sql, params).next()],
  ['prepare', (db, sql, params) => db.prepare(sql).query(params)],
  ['getSync', (db, sql, params) => db.getSync(sql, params)],
  ['allSync', (db, sql, params) => db.allSync(sql, params)],
  ['executeSync', (db, sql, params) => db.executeSync(sql, params)],
  ['executeBatchTransaction', (db, sql, params) => db.executeBatchTransaction([{ sql, params }])],
  ['executeBatchTransactionSync', (db, sql, params) => db.executeBatchTransactionSync([{ sql, params }])],
  ['transaction', (db, sql, params) => db.transaction(async (tx) => tx.query(sql, params))],
  ['explainQuery', (db, sql, params) => db.explainQuery(sql, params)],
]

for (const [what, code, sql, params] of [
  ['a syntax error', 'ERR_SQL', 'SELEC 1', []],
  ['an unknown column', 'ERR_SQL', 'SELECT missing FROM t', []],
  ['nothing', 'ERR_SQL', '  -- nothing', []],
  ['two statements', 'ERR_SQL', 'SELECT 1; SELECT 2', []],
  ['a NUL character, behind which SQLite would not look', 'ERR_SQL', 'SELECT id FROM t WHERE 1\0 AND 0', []],
  ['too few parameters', 'ERR_PARAMETERS', 'SELECT ?, ?', [1]],
  ['too many parameters', 'ERR_PARAMETERS', 'SELECT ?', [1, 2]],
  ['an unknown name', 'ERR_PARAMETERS', 'SELECT :a', { b: 1 }],
  ['a missing name', 'ERR_PARAMETERS', 'SELECT :a, :b', { a: 1 }],
  ['a value that cannot be bound', 'ERR_PARAMETERS', 'SELECT ?', [new Map()]],
  ['an invalid date', 'ERR_PARAMETERS', 'SELECT ?', [new Date(Number.NaN)]],
  ['a bigint of 65 bits', 'ERR_PARAMETERS', 'SELECT ?', [2n ** 63n]],
  ['SQL that is no text', 'ERR_TYPE', 5 as never, []],
  ['transaction control', 'ERR_NOT_ALLOWED', 'BEGIN', []],
  ['an extension by SQL', 'ERR_NOT_ALLOWED', "SELECT load_extension('x')", []],
] as [string, ErrorCode, string, unknown][]) {
  test(`${what} is ${code}, whatever the call`, async (t) => {
    const db = await prepared(t)
    for (const [name, call] of kinds) {
      // The plan of a statement needs no parameters: SQLite takes them as NULL, zqlite as wrong.
      const error = await t.throwsAsync(async () => call(db, sql, params as never), { instanceOf: ZqliteError }, name)
      t.is(error?.code, code, `${name}: ${error?.message}`)
    }
    await works(t, db)
  })
}

test('after closing every call is ERR_CLOSED', async (t) => {
  const db = await prepared(t)
  const statement = db.prepare('SELECT 1')
  await db.close()
  for (const [name, call] of kinds) {
    const error = await t.throwsAsync(async () => call(db, 'SELECT 1', [] as never), { instanceOf: ZqliteError }, name)
    t.is(error?.code, 'ERR_CLOSED', name)
  }
  for (const call of [(): Promise<unknown> => statement.get(), () => db.backup('x'), () => db.vacuum(), () => db.checkpoint(), () => db.stats(), () => db.healthCheck(), () => db.migrate([]), () => db.executeBatch([])]) {
    await rejects(t, 'ERR_CLOSED', Promise.resolve().then(call))
  }
  t.throws(() => db.metrics(), { code: 'ERR_CLOSED' })
  t.throws(() => db.cidr('x'), { code: 'ERR_CLOSED' })
  await db.close()
})

test('a full disk', async (t) => {
  const db = await prepared(t, { pragmas: { max_page_count: 40 } })
  const fill = (): Promise<unknown> => db.execute('INSERT INTO t (text) VALUES (hex(zeroblob(20000)))')
  let made = 0
  const error = await t.throwsAsync(async () => { for (; made < 100; made++) await fill() }, { instanceOf: ZqliteError })
  t.is(error.code, 'ERR_DISK_FULL')
  t.true(error.retryable && error.outcome === undefined)
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: made + 1 })
  // A neighbour that needs no space is not failed with it.
  const [, small] = await Promise.allSettled([fill(), db.execute("UPDATE t SET text = 'two' WHERE id = 1")])
  t.is(small.status, 'fulfilled')
  await db.execute('DELETE FROM t WHERE id > 1')
  await works(t, db)
})

test('busy, when another process keeps a shared file to itself', async (t) => {
  const db = await prepared(t, { shared: true })
  const script = `
    const { Database } = require('zqlite')
    void (async () => {
      const db = await Database.open(${JSON.stringify(db.path)}, { shared: true, transactions: { total: '30s', idle: '30s' } })
      await db.transaction(async (tx) => { await tx.execute("INSERT INTO t VALUES (2, 'two')"); console.log('held'); await require('node:events').once(process.stdin, 'data') })
      await db.close()
      process.exit()
    })()`
  const child = spawn(process.execPath, ['-e', script], { cwd: __dirname, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const error = await rejects(t, 'ERR_BUSY', db.execute("INSERT INTO t VALUES (3, 'three')"))
  t.true(error.retryable)
  t.throws(() => db.executeSync("INSERT INTO t VALUES (3, 'three')", [], { timeout: 100 }), { code: 'ERR_DEADLINE' })
  child.stdin.write('on')
  await once(child, 'close')
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 2 })
  await works(t, db)
})

test('cancelled and past the deadline, waiting and running', async (t) => {
  const db = await prepared(t)
  await rejects(t, 'ERR_DEADLINE', db.query(endless, [], { timeout: 30 }))
  await rejects(t, 'ERR_CANCELLED', db.query(endless, [], { signal: AbortSignal.timeout(30) }))
  const cause = new Error('mine')
  t.is((await rejects(t, 'ERR_CANCELLED', db.query('SELECT 1', [], { signal: AbortSignal.abort(cause) }))).cause, cause)
  await db.transaction(async (tx) => {
    await rejects(t, 'ERR_DEADLINE', tx.query(endless, [], { timeout: 30 }))
    t.throws(() => db.executeSync('DELETE FROM t'), { code: 'ERR_TRANSACTION_STATE' })
  }).catch((error: unknown) => t.fail(String(error)))
  await works(t, db)
})

test('a full queue and a long wait, which are counted', async (t) => {
  const db = await prepared(t, { pool: { queueLimit: 2, connectionTimeout: '150ms' }, transactions: { idle: '5s' } })
  let release = () => {}
  await new Promise<void>((resolve) => {
    void db.transaction(() => new Promise<void>((end) => ((release = end), resolve())))
  })
  const waiting = [1, 2, 3, 4].map((n) => db.execute('INSERT INTO t (text) VALUES (?)', [`${n}`]))
  const codes = (await Promise.allSettled(waiting)).map((outcome) => (outcome.status === 'rejected' ? (outcome.reason as ZqliteError).code : 'made'))
  t.deepEqual(codes.toSorted(), ['ERR_POOL_TIMEOUT', 'ERR_POOL_TIMEOUT', 'ERR_QUEUE_FULL', 'ERR_QUEUE_FULL'])
  const { poolTimeouts, refused } = db.metrics()
  t.deepEqual({ poolTimeouts, refused }, { poolTimeouts: 2, refused: 2 })
  for (const format of ['prometheus', 'openmetrics'] as const) {
    t.regex(db.prometheus(format), /^zqlite_pool_timeouts_total 2$/m)
    t.regex(db.prometheus(format), /^zqlite_query_errors_total\{code="ERR_POOL_TIMEOUT"\} 2$/m)
  }
  release()
  await works(t, db)
})

test('a snapshot that is too old', async (t) => {
  const db = await prepared(t, { wal: { limit: '4MB', maxReadAge: '200ms' } })
  await db.execute('CREATE TABLE big (data BLOB)')
  const old = t.throwsAsync(db.query(`${endless}, t`), { instanceOf: ZqliteError })
  for (let i = 0; i < 300 && db.metrics().errors === 0; i++) {
    await db.execute('INSERT INTO big VALUES (zeroblob(500000))')
    await db.execute('DELETE FROM big')
  }
  const error = await old
  t.is(error.code, 'ERR_SNAPSHOT_TOO_OLD')
  t.true(error.retryable)
  await works(t, db)
})

test('a stream whose reader writes more than the log holds', async (t) => {
  const db = await prepared(t, { wal: { limit: '4MB' } })
  await db.execute('CREATE TABLE big (data BLOB)')
  await db.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) INSERT INTO big SELECT zeroblob(500) FROM n')
  const write = (): Promise<unknown> => db.execute('UPDATE big SET data = randomblob(500000) WHERE rowid = 1')
  let written = 0
  const loop = async (): Promise<void> => {
    for await (const { data } of db.stream<{ data: Uint8Array }>('SELECT data FROM big')) {
      t.is(data.length, 500)
      await write()
      written++
    }
  }
  const error = await rejects(t, 'ERR_SNAPSHOT_TOO_OLD', loop())
  t.true(error.retryable)
  // No write was lost or refused: the stream ended, and those that waited went on.
  t.true(written > 3)
  t.true(db.metrics().walBytes < 4 * 2 ** 20)
  for (let i = 0; i < 10; i++) await write()
  await works(t, db)
})

test('readonly', async (t) => {
  const db = await prepared(t)
  const reader = await Database.open(db.path, { readonly: true })
  t.teardown(() => reader.close())
  for (const call of [
    () => reader.execute('DELETE FROM t'),
    () => reader.query('DELETE FROM t RETURNING id'),
    () => reader.executeSync('DELETE FROM t'),
    () => reader.executeBatchTransaction([{ sql: 'DELETE FROM t' }]),
    () => reader.transaction(async (tx) => tx.execute('DELETE FROM t')),
    () => reader.vacuum(),
    () => reader.checkpoint(),
    () => reader.migrate([{ version: 1, name: 'one', up: 'CREATE TABLE u (a)' }]),
  ]) {
    await rejects(t, 'ERR_READONLY', Promise.resolve().then(call as () => Promise<unknown>))
  }
  t.deepEqual(await reader.query('SELECT id FROM t'), [{ id: 1 }])
  t.deepEqual(reader.allSync('SELECT id FROM t'), [{ id: 1 }])
  t.is(await reader.backup(join(folder(t), 'copy.db')), 2)
  await works(t, db)
})

test('the budget of a synchronous call', async (t) => {
  const db = await prepared(t, { syncSteps: 100_000 })
  t.throws(() => db.getSync(endless), { code: 'ERR_STEP_BUDGET' })
  t.throws(() => db.allSync(endless), { code: 'ERR_STEP_BUDGET' })
  t.throws(() => db.prepare(endless).getSync(), { code: 'ERR_STEP_BUDGET' })
  t.is(errorCatalogue.ERR_STEP_BUDGET.retryable, false)
  await works(t, db)
})
