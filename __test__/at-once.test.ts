/** Synchronous writes: they return when the change is on disk, and mix with all other calls. */
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { Database, type ErrorCode, ZqliteError } from 'zqlite'
import { fresh, rejects } from './helpers'

function code(t: ExecutionContext, call: () => unknown): ErrorCode | undefined {
  return t.throws(call, { instanceOf: ZqliteError })?.code
}

test('a statement and a batch answer as their asynchronous forms do', async (t) => {
  const memory = await Database.open(':memory:')
  t.teardown(() => memory.close())
  for (const db of [await fresh(t), memory]) {
    db.executeSync('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)')
    t.deepEqual(db.executeSync('INSERT INTO t (name) VALUES (?), (?)', ['a', 'é🦀']), { changes: 2, lastInsertRowid: 2 })
    t.deepEqual(db.prepare('UPDATE t SET name = :to WHERE id = :id').executeSync({ to: 'b', id: 1 }, { timeout: '5s' }), { changes: 1, lastInsertRowid: 0 })
    const [inserted, read] = db.executeBatchTransactionSync([
      { sql: 'INSERT INTO t (name) VALUES (?) RETURNING id, name', params: ['c'], expect: { rows: 1 } },
      { sql: 'SELECT count(*) AS n FROM t' },
    ])
    t.deepEqual(inserted, { changes: 1, lastInsertRowid: 3, rows: [{ id: 3, name: 'c' }] })
    t.deepEqual(read?.rows, [{ n: 3 }])
    t.is(code(t, () => db.executeSync("INSERT INTO t (name) VALUES ('c')")), 'ERR_CONSTRAINT')
    t.is(code(t, () => db.executeSync('INSERT INTO t (nothing) VALUES (1)')), 'ERR_SQL')
    t.is(code(t, () => db.executeSync('COMMIT')), 'ERR_NOT_ALLOWED')
    t.is(code(t, () => db.executeSync('SELECT 1', undefined, { signal: new AbortController().signal } as never)), 'ERR_TYPE')
    t.is(code(t, () => db.executeBatchTransactionSync([{ sql: "DELETE FROM t WHERE name = 'c'" }, { sql: 'SELECT 1 WHERE 0', expect: { rows: 1 } }])), 'ERR_EXPECTATION_FAILED')
    // A parameter that uses the database while a request is written, on either way.
    const meddling = [{ toJSON: () => db.executeSync('DELETE FROM t') }]
    const refused = [
      t.throws(() => db.executeSync('INSERT INTO t (name) VALUES (?)', meddling), { instanceOf: ZqliteError }),
      await rejects(t, 'ERR_PARAMETERS', db.execute('INSERT INTO t (name) VALUES (?)', meddling)),
    ]
    for (const error of refused) {
      t.is(error.code, 'ERR_PARAMETERS')
      t.is((error.cause as ZqliteError).code, 'ERR_TYPE')
    }
    t.deepEqual(await db.query('SELECT name FROM t ORDER BY id'), [{ name: 'b' }, { name: 'é🦀' }, { name: 'c' }])
  }
})

test('what was called before goes first, and what was written is seen', async (t) => {
  const db = await fresh(t)
  db.executeSync('CREATE TABLE t (id INTEGER PRIMARY KEY, how TEXT)')
  const before = [1, 2, 3].map((id) => db.execute("INSERT INTO t VALUES (?, 'later')", [id]))
  db.executeSync("INSERT OR REPLACE INTO t VALUES (3, 'at once')")
  t.deepEqual(db.allSync('SELECT * FROM t ORDER BY id'), [{ id: 1, how: 'later' }, { id: 2, how: 'later' }, { id: 3, how: 'at once' }])
  t.is((await Promise.all(before)).length, 3)
  for (let i = 0; i < 100; i++) {
    db.executeSync('UPDATE t SET how = ? WHERE id = 1', [`turn ${i}`])
    for (let j = 0; j < 3; j++) t.deepEqual(db.getSync('SELECT how FROM t WHERE id = 1'), { how: `turn ${i}` })
  }
})

test('a read sees what was committed to an attached file', async (t) => {
  const other = await fresh(t)
  other.executeSync('CREATE TABLE s (a)')
  other.executeSync('INSERT INTO s VALUES (0)')
  await other.close()
  const db = await fresh(t, { attach: { other: other.path } })
  for (let i = 1; i <= 20; i++) {
    for (let j = 0; j < 5; j++) t.deepEqual(db.getSync('SELECT a FROM other.s'), { a: i - 1 })
    if (i % 2 === 0) db.executeSync('UPDATE other.s SET a = ?', [i])
    else await db.execute('UPDATE other.s SET a = ?', [i])
    t.deepEqual(db.getSync('SELECT a FROM other.s'), { a: i })
  }
})

test('a transaction of this thread is not waited for', async (t) => {
  const db = await fresh(t)
  db.executeSync('CREATE TABLE t (a)')
  const begun = db.transaction(async (transaction) => {
    t.is(code(t, () => db.executeSync('INSERT INTO t VALUES (1)')), 'ERR_TRANSACTION_STATE')
    await transaction.execute('INSERT INTO t VALUES (2)')
  })
  t.is(code(t, () => db.executeBatchTransactionSync([{ sql: 'INSERT INTO t VALUES (1)' }])), 'ERR_TRANSACTION_STATE')
  t.is(code(t, () => db.prepare('INSERT INTO t VALUES (1)').executeSync()), 'ERR_TRANSACTION_STATE')
  await begun
  db.executeSync('INSERT INTO t VALUES (3)')
  t.deepEqual(db.allSync('SELECT a FROM t'), [{ a: 2 }, { a: 3 }])
})

// By itself, as others keep this thread busy, and the transaction may be over before its callback is called.
test.serial('a callback that never settles keeps synchronous calls out for no longer than its transaction may take', async (t) => {
  const options = { transactions: { total: '1500ms', idle: '1500ms' } } as const
  const memory = await Database.open(':memory:', options)
  t.teardown(() => memory.close())
  for (const db of [await fresh(t, options), memory]) {
    db.executeSync('CREATE TABLE t (a)')
    await new Promise<void>((begun, failed) => {
      const never = db.transaction(async () => {
        begun()
        await new Promise(() => {})
      })
      never.catch(failed)
    })
    const insert = (): boolean => {
      try {
        return db.executeSync('INSERT INTO t VALUES (2)', undefined, { timeout: '20s' }).changes === 1
      } catch (error) {
        t.is((error as ZqliteError).code, 'ERR_TRANSACTION_STATE')
        return false
      }
    }
    let made = insert()
    for (let tries = 0; !made && tries < 100; tries++) {
      await sleep(50)
      made = insert()
    }
    t.true(made)
    t.deepEqual(db.allSync('SELECT a FROM t'), [{ a: 2 }])
    t.is(db.executeBatchTransactionSync([{ sql: 'DELETE FROM t' }])[0]?.changes, 1)
  }
})

test('neither is one that another object on the same file has begun', async (t) => {
  const first = await fresh(t)
  const second = await Database.open(first.path)
  t.teardown(() => second.close())
  const other = await fresh(t)
  const memory = await Database.open(':memory:')
  t.teardown(() => memory.close())
  for (const db of [first, other, memory]) db.executeSync('CREATE TABLE t (a)')
  const insert = 'INSERT INTO t VALUES (1)'
  const prepared = second.prepare(insert)
  const refused = async (): Promise<void> => {
    t.is(code(t, () => second.executeSync(insert, undefined, { timeout: '1m' })), 'ERR_TRANSACTION_STATE')
    t.is(code(t, () => prepared.executeSync()), 'ERR_TRANSACTION_STATE')
    t.is(code(t, () => second.executeBatchTransactionSync([{ sql: insert }])), 'ERR_TRANSACTION_STATE')
  }
  const begun = first.transaction(async (transaction) => {
    await refused()
    // What would wait for this very callback is refused too, in its asynchronous form.
    for (const call of [second.execute(insert), second.executeBatchTransaction([{ sql: insert }]), second.transaction(async () => {})]) await rejects(t, 'ERR_TRANSACTION_STATE', call)
    t.deepEqual(second.allSync('SELECT * FROM t'), [])
    other.executeSync(insert)
    memory.executeSync(insert)
    await transaction.execute('INSERT INTO t VALUES (2)')
  })
  await refused()
  const later = second.execute('INSERT INTO t VALUES (3)')
  await begun
  await later
  second.executeSync('INSERT INTO t VALUES (4)')
  await t.throwsAsync(second.transaction(() => Promise.reject(new Error('given up'))))
  first.executeSync('INSERT INTO t VALUES (5)')
  t.deepEqual(first.allSync('SELECT a FROM t'), [{ a: 2 }, { a: 3 }, { a: 4 }, { a: 5 }])
})

test('nothing is written to what is closed or read-only', async (t) => {
  const db = await fresh(t)
  db.executeSync('CREATE TABLE t (a)')
  const reader = await Database.open(db.path, { readonly: true })
  t.is(code(t, () => reader.executeSync('INSERT INTO t VALUES (1)')), 'ERR_READONLY')
  await reader.close()
  await db.close()
  t.is(code(t, () => db.executeSync('INSERT INTO t VALUES (1)')), 'ERR_CLOSED')
})
