/** The ways to ask and what they give: values, columns, streams, synchronous calls, batches, prepared statements. */
import test from 'ava'
import { Database, ZqliteError } from 'zqlite'
import { fresh, rejects } from './helpers'

const numbers = (n: number): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ${n})`
const endless = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'

test('values keep columns that share a name', async (t) => {
  const db = await fresh(t)
  t.deepEqual(await db.values("SELECT 1 AS a, 'x' AS a, NULL UNION ALL SELECT 2, 'y', x'00'"), [
    [1, 'x', null],
    [2, 'y', new Uint8Array([0])],
  ])
  t.deepEqual(await db.values('SELECT 1 WHERE 0'), [])
})

test('columns are typed arrays where they are numbers', async (t) => {
  const db = await fresh(t)
  const { rows, columns } = await db.columns(`${numbers(50_000)} SELECT i, i * 0.5 AS half, 'n' || i AS text, CASE WHEN i % 2 THEN i END AS odd FROM n`)
  t.is(rows, 50_000)
  t.true(columns['i'] instanceof Float64Array)
  t.is((columns['i'] as Float64Array).length, 50_000)
  t.is(columns['half']?.[49_999], 25_000)
  t.is(columns['text']?.[12_345], 'n12346')
  t.deepEqual(columns['odd']?.slice(0, 3), [1, null, 3])
  t.deepEqual(await db.columns('SELECT 1 AS a WHERE 0'), { rows: 0, columns: { a: new Float64Array() } })
  t.deepEqual(await db.columns('CREATE TABLE t (a)'), { rows: 0, columns: {} })
})

test('every layout gives the same for results of any mixture', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE m (a, b, c)')
  const pool = [null, 1, -0.5, 2n ** 60n, 'text', 'ünïcödé 🦊', new Uint8Array([1, 2, 3]), '', new Uint8Array()]
  const statements = Array.from({ length: 3_000 }, (_, i) => ({
    sql: 'INSERT INTO m VALUES (?, ?, ?)',
    params: [pool[(i * 7) % 9] ?? null, i, i % 3 === 0 ? (pool[(i * 5) % 9] ?? null) : 'usual'],
  }))
  await db.executeBatchTransaction(statements)
  const sql = 'SELECT * FROM m ORDER BY rowid'
  const rows = await db.query(sql)
  t.is(rows.length, 3_000)
  t.deepEqual((await db.values(sql)).map(([a, b, c]) => ({ a, b, c })), rows)
  t.deepEqual(db.allSync(sql), rows)
  const streamed: unknown[] = []
  for await (const row of db.stream(sql)) streamed.push(row)
  t.deepEqual(streamed, rows)
  const { columns } = await db.columns(sql)
  t.deepEqual(rows.map((_, i) => ({ a: columns['a']?.[i], b: columns['b']?.[i], c: columns['c']?.[i] })), rows)
  const expected = statements.map(({ params: [a, b, c] }) => ({ a, b, c }))
  t.deepEqual(rows, expected)
})

// Alone: the resident set is that of all tests that run at the time.
test.serial('a stream reads on as it is read, and memory stays small', async (t) => {
  const db = await fresh(t)
  const before = process.memoryUsage().rss
  let sum = 0
  let most = 0
  for await (const { i } of db.stream<{ i: number }>(`${numbers(1_000_000)} SELECT i, hex(zeroblob(100)) AS padding FROM n`)) {
    sum += i
    if (i % 100_000 === 0) most = Math.max(most, process.memoryUsage().rss - before)
  }
  t.is(sum, 500_000_500_000)
  // All of it would be 200 MB.
  t.true(most < 150 * 2 ** 20, `${most} bytes`)
})

test('leaving a stream early frees its connection', async (t) => {
  const db = await fresh(t, { pool: { maxConnections: 5 } })
  for (let round = 0; round < 40; round++) {
    for await (const row of db.stream(`${numbers(1_000_000)} SELECT i FROM n`)) {
      t.deepEqual(row, { i: 1 })
      break
    }
  }
  t.is((await db.query('SELECT 1')).length, 1)
  const unread = db.stream('SELECT 1')
  await unread.return?.()
  t.deepEqual(await unread.next(), { done: true, value: undefined })
})

test('leaving a stream that is complete leaves the one begun meanwhile alone', async (t) => {
  const db = await fresh(t)
  for (let round = 0; round < 50; round++) {
    let other: AsyncIterableIterator<{ i: number }> | undefined
    let first: Promise<unknown> | undefined
    for await (const _ of db.stream('SELECT 1 UNION ALL SELECT 2')) {
      other = db.stream<{ i: number }>(`${numbers(30_000)} SELECT i FROM n`)
      first = other.next()
      break
    }
    await first
    let count = 1
    for await (const _ of other!) count++
    t.is(count, 30_000)
  }
})

test('what is wrong with a stream is thrown where it is read', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  await rejects(t, 'ERR_SQL', db.stream('SELECT * FROM missing').next())
  await rejects(t, 'ERR_NOT_ALLOWED', db.stream('INSERT INTO t VALUES (1)').next())
  await rejects(t, 'ERR_DEADLINE', db.stream(endless, [], { timeout: 50 }).next())
  const failing = db.stream<{ i: number }>(`${numbers(100_000)} SELECT i, CASE WHEN i = 90000 THEN abs(-9223372036854775808) END AS x FROM n`)
  let last = 0
  const error = await t.throwsAsync(
    async () => {
      for await (const { i } of failing) last = i
    },
    { instanceOf: ZqliteError },
  )
  t.is(error.code, 'ERR_SQL')
  t.true(last > 10_000 && last < 90_000)
})

test('a call that is given up rejects, and what follows is untouched', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  const controller = new AbortController()
  const running = db.query(endless, [], { signal: controller.signal })
  setTimeout(() => controller.abort(), 30)
  await rejects(t, 'ERR_CANCELLED', running)
  await rejects(t, 'ERR_CANCELLED', db.query('SELECT 1', [], { signal: controller.signal }))
  const writing = new AbortController()
  const innocent = db.execute('INSERT INTO t VALUES (1)')
  const given = db.execute(`INSERT INTO t SELECT i FROM (${endless.replace('count(*)', 'i')}) WHERE i > 10`, [], { signal: writing.signal })
  const neighbour = db.execute('INSERT INTO t VALUES (2)')
  setTimeout(() => writing.abort(), 30)
  await rejects(t, 'ERR_CANCELLED', given)
  await Promise.all([innocent, neighbour])
  t.deepEqual(await db.query('SELECT id FROM t'), [{ id: 1 }, { id: 2 }])
  const streaming = new AbortController()
  const stream = db.stream<{ i: number }>(`${numbers(10_000_000)} SELECT i FROM n`, [], { signal: streaming.signal })
  await stream.next()
  streaming.abort()
  await rejects(t, 'ERR_CANCELLED', (async () => { for await (const _ of stream); })())
  t.throws(() => db.stream('SELECT 1', [], { signal: 5 as never }), { code: 'ERR_TYPE' })
})

test('names are given without their sign, and what is there is said', async (t) => {
  const db = await fresh(t)
  const said = async (sql: string, params: object) => (await rejects(t, 'ERR_PARAMETERS', db.get(sql, params as never))).message
  t.is(await said('SELECT :a', { ':a': 1 }), 'the statement has no parameter named ":a"; it has :a; names are given without the sign before them')
  t.is(await said('SELECT :a', { b: 1 }), 'the statement has no parameter named "b"; it has :a')
  t.is(await said('SELECT ?', { b: 1 }), 'the statement has no parameter named "b"; it has none with a name')
})

test('synchronous calls read what was committed, and nothing else', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  t.is(db.getSync('SELECT * FROM t'), undefined)
  for (let i = 1; i <= 50; i++) {
    await db.execute('INSERT INTO t (name) VALUES (?)', [`n${i}`])
    t.deepEqual(db.getSync('SELECT * FROM t WHERE id = :id', { id: i }), { id: i, name: `n${i}` })
  }
  t.is(db.allSync('SELECT * FROM t').length, 50)
  t.is(db.allSync(`${numbers(200_000)} SELECT i, 'text ' || i AS text FROM n`).length, 200_000)
  const writing = t.throws(() => db.getSync("INSERT INTO t (name) VALUES ('x')"), { instanceOf: ZqliteError })
  t.is(writing.code, 'ERR_NOT_ALLOWED')
  t.is(t.throws(() => db.getSync('SELECT nothing'), { instanceOf: ZqliteError }).code, 'ERR_SQL')
  t.is(t.throws(() => db.allSync(endless), { instanceOf: ZqliteError }).code, 'ERR_STEP_BUDGET')
  t.is(t.throws(() => db.getSync('SELECT ?', []), { instanceOf: ZqliteError }).code, 'ERR_PARAMETERS')
  t.deepEqual(db.getSync('SELECT 1 AS one'), { one: 1 })
})

test('a batch of independent statements settles each for itself', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  const settled = await db.executeBatch([
    { sql: 'INSERT INTO t VALUES (1)' },
    { sql: 'INSERT INTO t VALUES (1)' },
    { sql: 'SELECT nonsense' },
    { sql: 'INSERT INTO t VALUES (?) RETURNING id', params: [2] },
  ])
  t.deepEqual(settled.map(({ status }) => status), ['fulfilled', 'rejected', 'rejected', 'fulfilled'])
  t.deepEqual(await db.query('SELECT id FROM t'), [{ id: 1 }, { id: 2 }])
  t.deepEqual(await db.executeBatch([]), [])
})

test('a prepared statement has every call', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  const insert = db.prepare('INSERT INTO t (name) VALUES (?)')
  await Promise.all(['a', 'b', 'c'].map((name) => insert.execute([name])))
  const select = db.prepare<{ id: number; name: string }>('SELECT * FROM t WHERE id >= ? ORDER BY id')
  t.deepEqual(await select.get([2]), { id: 2, name: 'b' })
  t.is((await select.query([1])).length, 3)
  t.deepEqual(await select.values([3]), [[3, 'c']])
  t.deepEqual((await select.columns([2])).columns['name'], ['b', 'c'])
  t.deepEqual(select.getSync([1]), { id: 1, name: 'a' })
  t.is(select.allSync([1]).length, 3)
  const names: string[] = []
  for await (const { name } of select.stream([1])) names.push(name)
  t.deepEqual(names, ['a', 'b', 'c'])
  await rejects(t, 'ERR_SQL', db.prepare('SELECT nonsense').get())
  await db.close()
  t.throws(() => select.getSync([1]), { code: 'ERR_CLOSED' })
})

test('a database in memory has every call but backup', async (t) => {
  const db = await Database.open(':memory:', { syncSteps: 10_000 })
  t.teardown(() => db.close())
  await db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')
  await db.execute('INSERT INTO t VALUES (1), (2)')
  const ids: unknown[] = []
  for await (const row of db.stream('SELECT id FROM t')) ids.push(row)
  t.deepEqual(ids, [{ id: 1 }, { id: 2 }])
  t.deepEqual(db.getSync('SELECT max(id) AS most FROM t'), { most: 2 })
  const later = db.execute('INSERT INTO t VALUES (9)')
  const all = db.prepare('SELECT id FROM t WHERE id < ?')
  t.deepEqual(all.allSync([9]), [{ id: 1 }, { id: 2 }])
  await later
  t.deepEqual(all.allSync([10]).at(-1), { id: 9 })
  db.executeSync('DELETE FROM t WHERE id = 9')
  const refused = (sql: string): string | undefined => t.throws(() => db.allSync(sql), { instanceOf: ZqliteError })?.code
  t.is(refused('INSERT INTO t VALUES (4) RETURNING id'), 'ERR_NOT_ALLOWED')
  t.is(refused('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'), 'ERR_STEP_BUDGET')
  await db.transaction(async (transaction) => {
    await transaction.execute('INSERT INTO t VALUES (5)')
    t.is(refused('SELECT id FROM t'), 'ERR_TRANSACTION_STATE')
    t.is(t.throws(() => all.getSync([1]), { instanceOf: ZqliteError })?.code, 'ERR_TRANSACTION_STATE')
    await transaction.execute('DELETE FROM t WHERE id = 5')
  })
  t.true((await db.healthCheck()).connectivityOk)
  await rejects(t, 'ERR_NOT_ALLOWED', db.backup('never.db'))
  await rejects(t, 'ERR_NOT_ALLOWED', db.stream('INSERT INTO t VALUES (3)').next())
  t.is((await db.values('SELECT id FROM t')).length, 2)
})
