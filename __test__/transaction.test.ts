/** Callback transactions: what is kept, what is undone, and that they cannot hold the writer for ever. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { fresh, rejects } from './helpers'

test('what resolves is kept, what rejects is undone', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE accounts (name TEXT PRIMARY KEY, money INTEGER CHECK (money >= 0))')
  await db.execute("INSERT INTO accounts VALUES ('a', 10), ('b', 0)")
  const move = (amount: number) =>
    db.transaction(async (tx) => {
      await tx.execute("UPDATE accounts SET money = money + ? WHERE name = 'b'", [amount])
      await tx.execute("UPDATE accounts SET money = money - ? WHERE name = 'a'", [amount])
      return tx.get('SELECT sum(money) AS sum FROM accounts')
    })
  t.deepEqual(await move(4), { sum: 10 })
  await rejects(t, 'ERR_CONSTRAINT', move(100))
  await t.throwsAsync(db.transaction(async (tx) => {
    await tx.execute('DELETE FROM accounts')
    throw new Error('mine')
  }), { message: 'mine' })
  t.deepEqual(await db.query('SELECT * FROM accounts'), [{ name: 'a', money: 6 }, { name: 'b', money: 4 }])
})

test('readers see nothing of it before its commit', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  await db.transaction(async (tx) => {
    await tx.execute('INSERT INTO t VALUES (1)')
    t.deepEqual(await tx.query('SELECT * FROM t'), [{ a: 1 }])
    t.deepEqual(await db.query('SELECT * FROM t'), [])
  })
  t.deepEqual(await db.query('SELECT * FROM t'), [{ a: 1 }])
})

test('writing through the database object inside the callback throws at once', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  await db.transaction(async (tx) => {
    for (const write of [
      () => db.execute('INSERT INTO t VALUES (1)'),
      () => db.query('INSERT INTO t VALUES (1) RETURNING a'),
      () => db.executeBatchTransaction([{ sql: 'INSERT INTO t VALUES (1)' }]),
      () => db.transaction(async () => {}),
    ]) {
      const started = performance.now()
      await rejects(t, 'ERR_TRANSACTION_STATE', write())
      t.true(performance.now() - started < 500)
    }
    await tx.execute('INSERT INTO t VALUES (2)')
  })
  t.deepEqual(await db.query('SELECT * FROM t'), [{ a: 2 }])
})

test('others may write while a transaction waits for something else', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  let release: (() => void) | undefined
  const gate = new Promise<void>((resolve) => (release = resolve))
  const transaction = db.transaction(async (tx) => {
    await tx.execute("INSERT INTO t VALUES ('inside')")
    await gate
  })
  const outside = db.execute("INSERT INTO t VALUES ('outside')")
  release?.()
  await Promise.all([transaction, outside])
  t.deepEqual(await db.query('SELECT a FROM t ORDER BY a'), [{ a: 'inside' }, { a: 'outside' }])
})

test('one that leaves the lane idle is rolled back, and others go on', async (t) => {
  const db = await fresh(t, { transactions: { idle: '50ms' } })
  await db.execute('CREATE TABLE t (a)')
  const idle = db.transaction(async (tx) => {
    await tx.execute('INSERT INTO t VALUES (1)')
    await sleep(300)
    await tx.execute('INSERT INTO t VALUES (2)')
  })
  await db.execute('INSERT INTO t VALUES (3)')
  await rejects(t, 'ERR_TRANSACTION_TIMEOUT', idle)
  t.deepEqual(await db.query('SELECT a FROM t'), [{ a: 3 }])
  t.is(db.metrics().transactionsTimedOut, 1)
})

test('one that takes too long in all is interrupted', async (t) => {
  const db = await fresh(t, { transactions: { total: '100ms' } })
  await db.execute('CREATE TABLE t (a)')
  const long = db.transaction((tx) =>
    tx.execute('INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT n FROM s'),
  )
  await rejects(t, 'ERR_DEADLINE', long)
  await db.execute('INSERT INTO t VALUES (3)')
  t.deepEqual(await db.query('SELECT a FROM t'), [{ a: 3 }])
})

test('the object given to the callback is of no use after it', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  const tx = await db.transaction(async (given) => ({ given }))
  await rejects(t, 'ERR_TRANSACTION_STATE', tx.given.execute('INSERT INTO t VALUES (1)'))
})
