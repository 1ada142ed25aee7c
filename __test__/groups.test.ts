/** Writes that share a commit: what one of them does to itself, it does to nobody else. */
import test, { type ExecutionContext } from 'ava'
import { type BatchStatement, Database, type ErrorCode } from 'zqlite'
import { fresh, rejects } from './helpers'

/** Has what is called in between wait for one turn of the writer, so that it shares a group. */
async function together(db: Database, call: () => Promise<unknown>[]): Promise<PromiseSettledResult<unknown>[]> {
  let release = () => {}
  const began = new Promise<void>((resolve) => {
    void db.transaction(async () => {
      resolve()
      await new Promise<void>((end) => (release = end))
    })
  })
  await began
  const calls = call()
  // They leave for the writer at the end of this turn of the event loop.
  await new Promise((resolve) => setTimeout(resolve, 20))
  release()
  return await Promise.allSettled(calls)
}

async function prepared(t: ExecutionContext): Promise<Database & { path: string }> {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)')
  await db.execute("INSERT INTO t VALUES (1, 'one')")
  await db.execute('CREATE TABLE boom (how TEXT)')
  for (const how of ['ROLLBACK', 'ABORT', 'FAIL']) {
    await db.execute(`CREATE TRIGGER boom_${how} AFTER INSERT ON boom WHEN new.how = '${how}' BEGIN INSERT INTO t VALUES (90, 'of the trigger'); SELECT RAISE(${how}, 'boom'); END`)
  }
  await db.execute('CREATE TABLE deferred (parent REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)')
  await db.execute('CREATE TABLE immediate (parent REFERENCES t (id))')
  return db
}

const endless = "INSERT INTO t SELECT i, 'n' || i FROM (WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"

interface Poison {
  sql: string
  code: ErrorCode
  timeout?: number
  abort?: number
  /** Whether SQLite ends the transaction of all for it. */
  fatal?: boolean
  expect?: { changes: number }
}

const poisons: Poison[] = [
  { sql: "INSERT INTO t VALUES (1, 'taken')", code: 'ERR_CONSTRAINT' },
  { sql: "INSERT OR ROLLBACK INTO t VALUES (1, 'taken')", code: 'ERR_CONSTRAINT', fatal: true },
  { sql: "INSERT OR FAIL INTO t SELECT value, 'f' || value FROM json_each('[70, 71, 1]')", code: 'ERR_CONSTRAINT' },
  { sql: "INSERT INTO boom VALUES ('ROLLBACK')", code: 'ERR_CONSTRAINT', fatal: true },
  { sql: "INSERT INTO boom VALUES ('ABORT')", code: 'ERR_CONSTRAINT' },
  { sql: "INSERT INTO boom VALUES ('FAIL')", code: 'ERR_CONSTRAINT' },
  { sql: endless, code: 'ERR_DEADLINE', timeout: 200, fatal: true },
  { sql: endless, code: 'ERR_CANCELLED', abort: 100, fatal: true },
  { sql: 'INSERT INTO deferred VALUES (99)', code: 'ERR_CONSTRAINT' },
  { sql: 'INSERT INTO immediate VALUES (99)', code: 'ERR_CONSTRAINT' },
  { sql: 'PRAGMA defer_foreign_keys = on', code: 'ERR_NOT_ALLOWED' },
  { sql: 'COMMIT', code: 'ERR_NOT_ALLOWED' },
  { sql: 'ROLLBACK', code: 'ERR_NOT_ALLOWED' },
  { sql: "UPDATE t SET name = 'nobody' WHERE id = 98", code: 'ERR_EXPECTATION_FAILED', expect: { changes: 1 } },
]

for (const { sql, code, timeout, abort, fatal = false, expect } of poisons) {
  for (const form of ['statement', 'known statement', 'batch'] as const) {
    if (form !== 'batch' && expect !== undefined) continue
    // What is refused is never prepared, and what is endless takes its time.
    if (form === 'known statement' && (code === 'ERR_NOT_ALLOWED' || sql === endless)) continue
    const how = timeout !== undefined ? 'timeout' : abort !== undefined ? 'abort' : ''
    test(`between two innocent ones, as a ${form}: ${sql.slice(0, 60)} ${how}`, async (t) => {
      const db = await prepared(t)
      if (form === 'known statement') {
        // It fails there, or at the end, and is undone; of a transaction's statements it is not noted that they fail.
        await rejects(t, 'ERR_CONSTRAINT', db.transaction(async (tx) => {
          await tx.execute(sql)
          await tx.execute("INSERT INTO immediate VALUES (99)")
        }))
      }
      const before = db.metrics()
      const controller = new AbortController()
      const options = { ...(timeout !== undefined && { timeout }), ...(abort !== undefined && { signal: controller.signal }) }
      if (abort !== undefined) setTimeout(() => controller.abort(), abort)
      const poisoned: BatchStatement[] = [{ sql: "INSERT INTO t VALUES (60, 'before the poison')" }, { sql, ...(expect && { expect }) }]
      const outcomes = await together(db, () => [
        db.execute("INSERT INTO t VALUES (2, 'two')"),
        db.query("INSERT INTO t VALUES (3, 'three'), (4, 'four') RETURNING id, name"),
        form === 'batch' ? db.executeBatchTransaction(poisoned, options) : db.execute(sql, [], options),
        db.execute("UPDATE t SET name = upper(name) WHERE id = 1"),
        db.executeBatchTransaction([{ sql: "INSERT INTO t (name) VALUES ('five')" }, { sql: "INSERT INTO deferred VALUES (5)" }]),
      ])
      const innocent = outcomes.map((outcome, i) => (i === 2 ? 'poisoned' : outcome.status === 'fulfilled' ? outcome.value : outcome.reason))
      t.deepEqual(innocent, [
        { changes: 1, lastInsertRowid: 2 },
        [{ id: 3, name: 'three' }, { id: 4, name: 'four' }],
        'poisoned',
        { changes: 1, lastInsertRowid: 0 },
        [{ changes: 1, lastInsertRowid: 5, rows: [] }, { changes: 1, lastInsertRowid: 1, rows: [] }],
      ])
      t.like(outcomes[2], { status: 'rejected', reason: { code } })
      const after = db.metrics()
      // They did share a group. Where it was taken down, the others ran again, each by itself; where a single statement failed
      // that stood in no savepoint, since it was prepared before, it and the two before it ran again, together with the others and
      // in savepoints.
      t.is(after.groups - before.groups, 1 + (fatal ? 4 : 1), 'the transaction that they waited for has a commit too')
      t.is(after.reruns - before.reruns, fatal ? 4 : form === 'known statement' ? 3 : 0)
      const rows = [[1, 'ONE'], [2, 'two'], [3, 'three'], [4, 'four'], [5, 'five']]
      t.deepEqual(await db.values('SELECT id, name FROM t ORDER BY id'), rows)
      t.deepEqual(await db.execute("INSERT INTO t (name) VALUES ('the next one')"), { changes: 1, lastInsertRowid: 6 })
      // A violation is still one: nothing was left deferred.
      await rejects(t, 'ERR_CONSTRAINT', db.execute('INSERT INTO immediate VALUES (99)'))
      const { path } = db
      await db.close()
      const again = await Database.open(path)
      t.teardown(() => again.close())
      t.deepEqual(await again.values('SELECT id, name FROM t WHERE id < 6 ORDER BY id'), rows)
      t.deepEqual(await again.values('SELECT parent FROM deferred'), [[5]])
    })
  }
}

test('what is given up at whatever moment is there or not as its caller is told, and its neighbours are', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  const told = new Map<number, string>()
  let id = 0
  for (let round = 0; round < 30; round++) {
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const mine = ++id
        const controller = new AbortController()
        const giveUp = i % 3 === 0
        if (giveUp) {
          if (i % 2 === 0) setImmediate(() => controller.abort())
          else setTimeout(() => controller.abort(), round % 5)
        }
        const outcome = await db.execute('INSERT INTO t VALUES (?)', [mine], giveUp ? { signal: controller.signal } : {}).then(
          () => 'made',
          ({ code }: { code: string }) => code,
        )
        told.set(mine, outcome)
        if (!giveUp) t.is(outcome, 'made')
      }),
    )
  }
  t.deepEqual([...new Set(told.values())].filter((outcome) => outcome !== 'made' && outcome !== 'ERR_CANCELLED'), [])
  const there = new Set((await db.values('SELECT id FROM t')).map(([n]) => n as number))
  t.deepEqual([...told].filter(([n, outcome]) => there.has(n) !== (outcome === 'made')), [])
})
