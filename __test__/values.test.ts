/** Values in and out: what is bound is what is read. */
import test from 'ava'
import fc from 'fast-check'
import { Database, type Params, type Value } from 'zqlite'
import { fresh } from './helpers'

const opened = Database.open(':memory:')
test.after.always(async () => (await opened).close())

async function echo(value: Value): Promise<unknown> {
  return (await (await opened).get<{ v: unknown }>('SELECT ? AS v', [value]))?.v
}

test('every kind of value', async (t) => {
  const cases: [Value, unknown][] = [
    [null, null],
    [true, 1],
    [false, 0],
    [0, 0],
    [-1, -1],
    [2 ** 31, 2 ** 31],
    [-(2 ** 31) - 1, -(2 ** 31) - 1],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    [Number.MIN_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
    [2 ** 53, 2 ** 53],
    [1.5, 1.5],
    [-1e300, -1e300],
    [Infinity, Infinity],
    [NaN, null],
    [5n, 5],
    [2n ** 63n - 1n, 2n ** 63n - 1n],
    [-(2n ** 63n), -(2n ** 63n)],
    ['', ''],
    ['plain', 'plain'],
    ['grüße 🦀 \u0000 nul', 'grüße 🦀 \u0000 nul'],
    ['x'.repeat(100_000), 'x'.repeat(100_000)],
    ['é'.repeat(100_000), 'é'.repeat(100_000)],
    ['lone \ud800 surrogate', 'lone \ufffd surrogate'],
    [new Date(0), '1970-01-01T00:00:00.000Z'],
    [{ a: [1, 'é'] }, '{"a":[1,"é"]}'],
    [[1, 2], '[1,2]'],
    [new Uint8Array([0, 255, 1]), new Uint8Array([0, 255, 1])],
    [new Uint8Array(0), new Uint8Array(0)],
    [new Uint8Array(1_000_000).fill(7), new Uint8Array(1_000_000).fill(7)],
  ]
  for (const [given, expected] of cases) t.deepEqual(await echo(given), expected)
})

test('integers are stored as INTEGER, fractions as REAL', async (t) => {
  const db = await opened
  const types = async (value: Value) => (await db.get<{ t: string }>('SELECT typeof(?) AS t', [value]))?.t
  t.is(await types(5), 'integer')
  t.is(await types(2 ** 40), 'integer')
  t.is(await types(5n), 'integer')
  t.is(await types(5.5), 'real')
  t.is(await types(2 ** 60), 'real')
})

test('columns of any mixture, row by row', async (t) => {
  const db = await opened
  await db.execute('CREATE TABLE mixture (id INTEGER PRIMARY KEY, a, b, c)')
  const value = fc.oneof(
    fc.constant(null),
    fc.integer(),
    fc.double({ noNaN: true }).filter((d) => !Object.is(d, -0)),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).filter((n) => n > BigInt(Number.MAX_SAFE_INTEGER) || n < BigInt(Number.MIN_SAFE_INTEGER)),
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.uint8Array({ maxLength: 20 }),
  )
  const twelve = { minLength: 12, maxLength: 12 }
  // Those of 32 bits, which travel on their own, and what is next to them.
  const edge = fc.constantFrom(-(2 ** 31) - 1, -(2 ** 31), -1, 0, 1, 2 ** 31 - 1, 2 ** 31)
  const column = fc.oneof(fc.array(value, twelve), fc.array(fc.integer(), twelve), fc.array(edge, twelve), fc.array(fc.option(fc.string()), twelve))
  await fc.assert(
    fc.asyncProperty(fc.tuple(column, column, column), fc.integer({ min: 1, max: 12 }), async ([a, b, c], rows) => {
      const expected = Array.from({ length: rows }, (_, i) => ({ a: a[i], b: b[i], c: c[i] }))
      await db.execute('DELETE FROM mixture')
      await db.executeBatchTransaction(expected.map((row) => ({ sql: 'INSERT INTO mixture (a, b, c) VALUES (:a, :b, :c)', params: row as never })))
      t.deepEqual(await db.query('SELECT a, b, c FROM mixture ORDER BY id'), expected)
    }),
    { numRuns: 100 },
  )
})

test('column names of any kind', async (t) => {
  const db = await opened
  const [row] = await db.query('SELECT 1 AS "__proto__", 2 AS "constructor", 3 AS "a""b\nc", 4 AS "", 5 AS "grün"')
  t.deepEqual(Object.entries(row ?? {}), [['__proto__', 1], ['constructor', 2], ['a"b\nc', 3], ['', 4], ['grün', 5]])
  t.is(Object.getPrototypeOf(row), Object.prototype)
  // Without those that every object has.
  const [plain] = await db.query('SELECT 3 AS "a""b\nc", 4 AS "", 5 AS "grün", 6 AS "7", 8 AS "`${x}", 9 AS "]*/"')
  t.deepEqual(Object.entries(plain ?? {}), [['7', 6], ['a"b\nc', 3], ['', 4], ['grün', 5], ['`${x}', 8], [']*/', 9]])
  t.is(Object.getPrototypeOf(plain), Object.prototype)
  t.deepEqual(await db.get('SELECT 1 AS x, 2 AS x'), { x: 2 })
  const wide = Array.from({ length: 1500 }, (_, i) => `c${i}`)
  t.deepEqual(await db.get(`SELECT ${wide.map((name, i) => `${i} AS ${name}`).join(', ')}`), Object.fromEntries(wide.map((name, i) => [name, i])))
})

test('rows are plain where Object.prototype is frozen', async (t) => {
  const { spawnSync } = await import('node:child_process')
  const script = `Object.freeze(Object.prototype)
    const { Database } = require('zqlite')
    Database.open(':memory:').then(async (db) => console.log(JSON.stringify(await db.query('SELECT 1 AS a, 2 AS toString, 3 AS valueOf'))))`
  const { stdout } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' })
  t.is(stdout.trim(), '[{"a":1,"toString":2,"valueOf":3}]')
})

test('rows are allocated among the young, however long those of earlier results lived', async (t) => {
  const { spawnSync } = await import('node:child_process')
  const script = `const { Database } = require('zqlite')
    const { getHeapSpaceStatistics } = require('node:v8')
    const old = () => getHeapSpaceStatistics().find((space) => space.space_name === 'old_space').space_used_size
    const bytes = async (db, name) => {
      const statement = db.prepare(\`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i AS \${name}, i + 1 AS b FROM n\`)
      for (let i = 0; i < 300; i++) {
        const rows = await statement.query()
        gc({ type: 'minor' })
        if (rows.length !== 1000) throw new Error('rows are missing')
      }
      gc()
      const before = old()
      for (let i = 0; i < 20; i++) await statement.query()
      return (old() - before) / 20_000
    }
    // The rows of the second are made by a literal, since every object has a property of that name: it shows that this is a test.
    Database.open(':memory:').then(async (db) => console.log(JSON.stringify([await bytes(db, 'a'), await bytes(db, 'valueOf')])))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', '-e', script], { encoding: 'utf8' })
  t.is(stderr, '')
  const [constructed, literal] = JSON.parse(stdout) as [number, number]
  t.true(constructed < 10, `${constructed} bytes a row among the old`)
  t.true(literal > 30, `${literal} bytes a row of a literal among the old`)
})

test('whole numbers of 32 bits are no objects of their own', async (t) => {
  const { spawnSync } = await import('node:child_process')
  const script = `const { Database } = require('zqlite')
    const bytes = async (db, first) => {
      const statement = db.prepare('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) SELECT ? - i AS a, ? - i AS b FROM n')
      await statement.query([10, first, first])
      gc()
      const before = process.memoryUsage().heapUsed
      const rows = await statement.query([100_000, first, first])
      gc()
      return [(process.memoryUsage().heapUsed - before) / rows.length, rows[9].a - first, rows.at(-1).b - first]
    }
    Database.open(':memory:').then(async (db) => console.log(JSON.stringify([await bytes(db, 2 ** 31), await bytes(db, 2 ** 40)])))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', '-e', script], { encoding: 'utf8' })
  t.is(stderr, '')
  const [[small = 0, ...those], [large = 0, ...others]] = JSON.parse(stdout) as [number[], number[]]
  t.deepEqual([those, others], [[-10, -100_000], [-10, -100_000]])
  // Two of 16 bytes each.
  t.true(small < 60 && large - small > 25, `${small} and ${large} bytes a row`)
})

test('text that is not UTF-8 arrives with replacement characters', async (t) => {
  t.deepEqual(await (await opened).get("SELECT CAST(x'61ff62' AS TEXT) AS v, 'ok' AS w"), { v: 'a\ufffdb', w: 'ok' })
})

test('a schema changed under a prepared statement', async (t) => {
  const db = await opened
  await db.execute('CREATE TABLE changing (a)')
  await db.execute('INSERT INTO changing VALUES (1)')
  t.deepEqual(await db.query('SELECT * FROM changing'), [{ a: 1 }])
  await db.execute('ALTER TABLE changing ADD COLUMN b DEFAULT 2')
  t.deepEqual(await db.query('SELECT * FROM changing'), [{ a: 1, b: 2 }])
})

/** The rows of a statement by every call that gives rows, each as objects. */
async function everyWay(db: Database, sql: string, params: Params = []): Promise<Record<string, Record<string, unknown>[]>> {
  const statement = db.prepare(sql)
  const rows = await db.query(sql, params)
  const names = Object.keys(rows[0] ?? {})
  const streamed: Record<string, unknown>[] = []
  for await (const row of statement.stream(params)) streamed.push(row)
  const { rows: count, columns } = await db.columns(sql, params)
  const first = (row: Record<string, unknown> | undefined) => (row === undefined ? [] : [row, ...rows.slice(1)])
  return {
    query: rows,
    get: first(await db.get(sql, params)),
    values: (await db.values(sql, params)).map((row) => Object.fromEntries(row.map((value, i) => [names[i] ?? '', value]))),
    columns: Array.from({ length: count }, (_, i) => Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column[i]]))),
    stream: streamed,
    getSync: first(db.getSync(sql, params)),
    allSync: db.allSync(sql, params),
    prepared: await statement.query(params),
    batch: (await db.executeBatchTransaction([{ sql, params }]))[0]?.rows ?? [],
    batchSync: db.executeBatchTransactionSync([{ sql, params }])[0]?.rows ?? [],
    transaction: await db.transaction(async (tx) => tx.query(sql, params)),
  }
}

test('every call gives the same, whatever the value', async (t) => {
  const db = await fresh(t)
  // Of a newer edition of the language than the types are.
  const resizable: ArrayBuffer & { resize?: (bytes: number) => void } = new (ArrayBuffer as unknown as new (bytes: number, options: object) => ArrayBuffer)(8, { maxByteLength: 16 })
  const following = new Uint8Array(resizable)
  resizable.resize?.(4)
  t.is(following.length, 4)
  const shared = new Uint8Array(new SharedArrayBuffer(4)).fill(9)
  const cases: [Value, unknown][] = [
    [-0, -0],
    [Number.NaN, null],
    [-Infinity, -Infinity],
    [5e-324, 5e-324],
    [2n ** 53n - 1n, 2 ** 53 - 1],
    [2n ** 53n, 2n ** 53n],
    [1n - 2n ** 53n, 1 - 2 ** 53],
    [-(2n ** 53n), -(2n ** 53n)],
    [2n ** 63n - 1n, 2n ** 63n - 1n],
    [-(2n ** 63n), -(2n ** 63n)],
    ['\ud800 a \udc00', '\ufffd a \ufffd'],
    ['\ufeff𝄞\u0000é', '\ufeff𝄞\u0000é'],
    ['é'.repeat(2_000_000), 'é'.repeat(2_000_000)],
    ['a'.repeat(5_000_000), 'a'.repeat(5_000_000)],
    [new Uint8Array(), new Uint8Array()],
    [Buffer.from('abc'), new Uint8Array([97, 98, 99])],
    [new Uint8Array(new Uint8Array([1, 2, 3, 4]).buffer, 1, 2), new Uint8Array([2, 3])],
    [following, new Uint8Array(4)],
    [shared, new Uint8Array(4).fill(9)],
    [new Date(1), '1970-01-01T00:00:00.001Z'],
    [{ ['__proto__']: 1, a: '\ud800' }, String.raw`{"__proto__":1,"a":"\ud800"}`],
  ]
  for (const [value, expected] of cases) {
    for (const [call, rows] of Object.entries(await everyWay(db, 'SELECT ?1 AS "__proto__", typeof(?1) AS "constructor", NULL AS "é", 7 AS "", ?1 AS "a""b"', [value]))) {
      t.is(rows.length, 1, call)
      t.deepEqual(Object.entries(rows[0] ?? {}).map(([name, v]) => (name === 'constructor' ? [name, typeof v] : [name, v])), [['__proto__', expected], ['constructor', 'string'], ['é', null], ['', 7], ['a"b', expected]], call)
      t.is(Object.getPrototypeOf(rows[0]), Object.prototype, call)
    }
  }
  for (const [call, rows] of Object.entries(await everyWay(db, 'SELECT :__proto__ AS x, $a\ud800 AS y, @b AS z', JSON.parse('{"__proto__": 1, "a\ud800": 2, "b": null}') as Params))) t.deepEqual(rows, [{ x: 1, y: 2, z: null }], call)
})

test('every call gives the same, whatever becomes of the table', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a, b, c)')
  const same = async (expected: object[]) => {
    for (const [call, rows] of Object.entries(await everyWay(db, 'SELECT * FROM t'))) t.deepEqual(rows, expected as never, call)
  }
  await same([])
  await db.execute("INSERT INTO t VALUES (1, 'x', NULL), (2n, 0.5, x'00')".replace('2n', '9007199254740993'))
  await same([{ a: 1, b: 'x', c: null }, { a: 9007199254740993n, b: 0.5, c: new Uint8Array(1) }])
  await db.execute('ALTER TABLE t DROP COLUMN b')
  await same([{ a: 1, c: null }, { a: 9007199254740993n, c: new Uint8Array(1) }])
  await db.execute('ALTER TABLE t ADD COLUMN d DEFAULT 9')
  await same([{ a: 1, c: null, d: 9 }, { a: 9007199254740993n, c: new Uint8Array(1), d: 9 }])
  await db.execute('ALTER TABLE t RENAME COLUMN a TO z')
  await db.execute('DELETE FROM t WHERE z > 1')
  await same([{ z: 1, c: null, d: 9 }])
  await db.execute('DELETE FROM t')
  await db.execute('ALTER TABLE t ADD COLUMN e')
  await same([])
  t.deepEqual(Object.keys((await db.columns('SELECT * FROM t')).columns), ['z', 'c', 'd', 'e'])
  await db.execute('DROP TABLE t')
  await db.execute('CREATE TABLE t (q)')
  await db.execute("INSERT INTO t VALUES ('new')")
  await same([{ q: 'new' }])
})

test('rows are made also where code generation is forbidden', async (t) => {
  const { spawnSync } = await import('node:child_process')
  const script = `const { Database } = require('zqlite'); Database.open(':memory:').then(async (db) => console.log(JSON.stringify(await db.query('SELECT 1 AS a, 2 AS "__proto__"'))))`
  const { stdout } = spawnSync(process.execPath, ['--disallow-code-generation-from-strings', '-e', script], { encoding: 'utf8' })
  t.is(stdout.trim(), '[{"a":1,"__proto__":2}]')
})
