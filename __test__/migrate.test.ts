/** Migrations: each step once, whole or not at all; and a file and a program that do not agree are kept apart. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { Database, ZqliteError } from 'zqlite'
import { type Migration, MigrationError, migrate, type MigrationProgress } from '../dist/lib/migrate.js'
import { splitStatements } from '../dist/lib/split.js'
import { folder, fresh, rejects } from './helpers'

const users: Migration = { version: 1, name: 'users', up: 'CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL); CREATE INDEX users_name ON users (name);' }
const rows: Migration = { version: 2, name: 'rows', up: "INSERT INTO users (name) VALUES ('a;b'), ('c')" }
const upper: Migration = {
  version: 3,
  name: 'upper',
  up: async (tx) => {
    for (const { id, name } of await tx.query<{ id: number; name: string }>('SELECT id, name FROM users')) {
      await tx.execute('UPDATE users SET name = ? WHERE id = ?', [name.toUpperCase(), id])
    }
  },
}
const all = [users, rows, upper]

const tables = (db: Database) => db.query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
const versions = async (db: Database) => (await db.query<{ version: number }>('SELECT version FROM zqlite_migration ORDER BY version')).map((row) => row.version)

async function mismatch(t: ExecutionContext, reason: MigrationError['reason'], version: number, promise: Promise<unknown>): Promise<string> {
  const error = await t.throwsAsync(promise, { instanceOf: MigrationError })
  t.true(error instanceof ZqliteError)
  t.deepEqual({ reason: error.reason, version: error.version, retryable: error.retryable }, { reason, version, retryable: false })
  return error.message
}

test('each step is applied once, in order, and recorded', async (t) => {
  const db = await fresh(t)
  t.deepEqual(await migrate(db, [upper, users, rows]), {
    from: 0,
    to: 3,
    steps: [{ version: 1, name: 'users' }, { version: 2, name: 'rows' }, { version: 3, name: 'upper' }],
  })
  t.deepEqual(await db.query('SELECT name FROM users'), [{ name: 'A;B' }, { name: 'C' }])
  t.deepEqual(await migrate(db, all), { from: 3, to: 3, steps: [] })
  t.deepEqual(await db.get('SELECT count(*) AS n FROM users'), { n: 2 })
  const record = await db.get<{ checksum: string; applied_at: string }>('SELECT * FROM zqlite_migration WHERE version = 2')
  t.like(record, { version: 2, name: 'rows' })
  t.regex(record?.checksum ?? '', /^[\da-f]{64}$/)
  t.true(Math.abs(Date.parse(record?.applied_at ?? '') - Date.now()) < 60_000)
})

test('what is added later runs from where the file stands, in a new process too', async (t) => {
  const path = join(folder(t), 'test.db')
  const first = await Database.open(path)
  await migrate(first, [users])
  await first.close()
  const db = await Database.open(path)
  t.teardown(() => db.close())
  t.deepEqual(await migrate(db, all), { from: 1, to: 3, steps: [{ version: 2, name: 'rows' }, { version: 3, name: 'upper' }] })
})

test('a step that fails is undone with its record, the ones before it stay, and it can be corrected', async (t) => {
  const db = await fresh(t)
  const wrong: Migration = { version: 2, name: 'wrong', up: "\n-- first\nINSERT INTO users (name) VALUES ('x');\n\nINSERT INTO users\n(name) VALUES (NULL);" }
  const error = await rejects(t, 'ERR_CONSTRAINT', migrate(db, [users, wrong, upper]))
  t.regex(error.message, /^migration 2 \(wrong\), line 5: .*users\.name/)
  t.is(error.statement, 1)
  t.is(error.constraint, 'notnull')
  t.true(error.cause instanceof ZqliteError)
  t.deepEqual(await versions(db), [1])
  t.deepEqual(await db.query('SELECT * FROM users'), [])
  await migrate(db, all)
  t.deepEqual(await versions(db), [1, 2, 3])
})

test('what a function throws is passed on, and its changes are undone', async (t) => {
  const db = await fresh(t)
  const mine = new Error('mine')
  const failing: Migration = {
    version: 2,
    name: 'failing',
    up: async (tx) => {
      await tx.execute("INSERT INTO users (name) VALUES ('x')")
      throw mine
    },
  }
  t.is(await t.throwsAsync(migrate(db, [users, failing])), mine)
  t.deepEqual(await db.query('SELECT * FROM users'), [])
  t.deepEqual(await versions(db), [1])
})

test('an applied step that was changed is refused; other line endings are no change', async (t) => {
  const db = await fresh(t)
  const text = 'CREATE TABLE a (x);\nCREATE TABLE b (x);\n'
  await migrate(db, [{ version: 1, name: 'ab', up: text }])
  t.deepEqual((await migrate(db, [{ version: 1, name: 'ab', up: text.replaceAll('\n', '\r\n') }])).steps, [])
  const changed: Migration[] = [{ version: 1, name: 'ab', up: `${text} ` }, { version: 2, name: 'c', up: 'CREATE TABLE c (x)' }]
  t.is(await mismatch(t, 'changed', 1, migrate(db, changed)), 'migration 1 (ab) was changed after it had been applied')
  t.deepEqual(await versions(db), [1])
})

test('a function is known by its name, since its text differs from build to build', async (t) => {
  const db = await fresh(t)
  await migrate(db, [{ version: 1, name: 'one', up: async () => {} }])
  t.deepEqual((await migrate(db, [{ version: 1, name: 'one', up: async (tx) => void (await tx.query('SELECT 1')) }])).steps, [])
  await mismatch(t, 'changed', 1, migrate(db, [{ version: 1, name: 'two', up: async () => {} }]))
})

test('a file migrated by a newer program is refused, and so is an applied step that is missing', async (t) => {
  const db = await fresh(t)
  await migrate(db, all)
  t.is(await mismatch(t, 'newer', 3, migrate(db, [users, rows])), "the file has migration 3 (upper), and this program's last is 2")
  await mismatch(t, 'newer', 1, migrate(db, []))
  t.is(await mismatch(t, 'missing', 2, migrate(db, [users, upper])), 'the file has migration 2 (rows), which is not given')
  await db.execute('DELETE FROM zqlite_migration WHERE version = 1')
  t.is(await mismatch(t, 'missing', 1, migrate(db, all)), 'the file has migration 2 (rows) but no record of migration 1')
})

const faults: [string, unknown, RegExp][] = [
  ['a gap', [users, upper], /^migration 2 is not given, but migration 3 \(upper\) is$/],
  ['a first version other than 1', [rows], /^migration 1 is not given/],
  ['a duplicate', [users, { ...rows, version: 1 }], /^migration 1 is given twice: "users" and "rows"$/],
  ['version 0', [{ ...users, version: 0 }], /1 or more, not 0$/],
  ['a fraction', [{ ...users, version: 1.5 }], /not 1\.5$/],
  ['no name', [{ ...users, name: '' }], /^migration 1 needs a name$/],
  ['no SQL', [{ version: 1, name: 'a' }], /up must be SQL or a function, not undefined$/],
  ['no array', { 1: 'CREATE TABLE t (a)' }, /an array or a folder, not an object$/],
]
for (const [what, migrations, message] of faults) {
  test(`refused before anything is changed: ${what}`, async (t) => {
    const db = await fresh(t)
    t.regex((await rejects(t, 'ERR_TYPE', migrate(db, migrations as Migration[]))).message, message)
    t.deepEqual(await tables(db), [])
  })
}

test('a misspelled option is named', async (t) => {
  const db = await fresh(t)
  const error = await rejects(t, 'ERR_TYPE', migrate(db, all, { dryrun: true } as never))
  t.is(error.message, 'unknown option dryrun; did you mean dryRun?')
  t.deepEqual(await tables(db), [])
})

test('dryRun tells and changes nothing', async (t) => {
  const db = await fresh(t)
  const steps = all.map(({ version, name }) => ({ version, name }))
  t.deepEqual(await migrate(db, all, { dryRun: true }), { from: 0, to: 3, steps })
  t.deepEqual(await tables(db), [])
  await migrate(db, [users])
  t.deepEqual(await migrate(db, all, { dryRun: true }), { from: 1, to: 3, steps: steps.slice(1) })
  t.deepEqual(await versions(db), [1])
  await mismatch(t, 'newer', 1, migrate(db, [], { dryRun: true }))
})

test('progress is told before and after each step', async (t) => {
  const db = await fresh(t)
  await migrate(db, [users])
  const seen: MigrationProgress[] = []
  await migrate(db, all, { onProgress: (progress) => seen.push(progress) })
  t.deepEqual(seen, [
    { version: 2, name: 'rows', total: 2, state: 'running', done: 0 },
    { version: 2, name: 'rows', total: 2, state: 'applied', done: 1 },
    { version: 3, name: 'upper', total: 2, state: 'running', done: 1 },
    { version: 3, name: 'upper', total: 2, state: 'applied', done: 2 },
  ])
})

test('the signal ends it, and undoes the step that runs', async (t) => {
  const db = await fresh(t)
  const controller = new AbortController()
  const onProgress = ({ version, state }: MigrationProgress) => {
    if (version === 2 && state === 'running') controller.abort(new Error('enough'))
  }
  const error = await rejects(t, 'ERR_CANCELLED', migrate(db, all, { signal: controller.signal, onProgress }))
  t.is(error.message, 'cancelled at migration 2 (rows)')
  t.is((error.cause as Error).message, 'enough')
  t.deepEqual(await versions(db), [1])
  await rejects(t, 'ERR_CANCELLED', migrate(db, all, { signal: AbortSignal.abort() }))
  t.deepEqual((await migrate(db, all)).steps.map(({ version }) => version), [2, 3])
})

test('its time is for all steps, and for the writer that it waits for', async (t) => {
  const db = await fresh(t)
  await rejects(t, 'ERR_DEADLINE', migrate(db, all, { timeout: 0 }))
  const endless = { version: 1, name: 'endless', up: 'CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n' }
  await rejects(t, 'ERR_DEADLINE', migrate(db, [endless], { timeout: '100ms' }))
  await db.transaction(async () => rejects(t, 'ERR_TRANSACTION_STATE', migrate(db, all)))
  let release = () => {}
  const held = db.transaction(() => new Promise<void>((resolve) => (release = resolve)))
  await rejects(t, 'ERR_DEADLINE', migrate(db, all, { timeout: 50 }))
  release()
  await held
  t.is((await migrate(db, all, { timeout: '20s' })).to, 3)
})

test('two who migrate at once apply each step once', async (t) => {
  const db = await fresh(t)
  const results = await Promise.all([migrate(db, all), migrate(db, all), migrate(db, all)])
  t.is(results.flatMap(({ steps }) => steps).length, 3)
  t.true(results.every(({ to }) => to === 3))
  t.deepEqual(await db.query('SELECT name FROM users'), [{ name: 'A;B' }, { name: 'C' }])
})

test('a folder of files, with a byte order mark, comments and a trigger', async (t) => {
  const db = await fresh(t)
  const path = join(folder(t), 'migrations')
  mkdirSync(path)
  writeFileSync(join(path, '0001_log.sql'), '\ufeffCREATE TABLE log (what TEXT); -- a comment; with a semicolon\n/* another; */ CREATE TABLE item (n INTEGER);\n')
  writeFileSync(join(path, '0002_log_items.sql'), `CREATE TRIGGER logged AFTER INSERT ON item WHEN new.n > 0 BEGIN
  INSERT INTO log VALUES (CASE WHEN new.n > 9 THEN 'large; very' ELSE 'small' END);
  INSERT INTO log VALUES ('end; of it');
END;
INSERT INTO item VALUES (10)`)
  writeFileSync(join(path, '10_README.md'), 'not a migration')
  await rejects(t, 'ERR_TYPE', migrate(db, join(path, 'nowhere')))
  t.deepEqual(await migrate(db, pathToFileURL(path)), { from: 0, to: 2, steps: [{ version: 1, name: 'log' }, { version: 2, name: 'log_items' }] })
  t.deepEqual(await db.query('SELECT what FROM log'), [{ what: 'large; very' }, { what: 'end; of it' }])
  t.deepEqual((await migrate(db, path)).steps, [])
  writeFileSync(join(path, '3-typo.sql'), 'SELECT 1')
  t.is((await rejects(t, 'ERR_TYPE', migrate(db, path))).message, '3-typo.sql is not named like 0001_name.sql')
})

test('transaction control in a migration is refused: a step is a transaction', async (t) => {
  const db = await fresh(t)
  await rejects(t, 'ERR_NOT_ALLOWED', migrate(db, [{ version: 1, name: 'commit', up: 'CREATE TABLE t (a); COMMIT; CREATE TABLE u (a)' }]))
  t.deepEqual(await tables(db), [])
})

// --- statements of a text ---

const cuts: [string, string[]][] = [
  ['', []],
  [' ;; -- nothing\n;/* ; */', []],
  ['SELECT 1', ['SELECT 1']],
  ['SELECT 1 ; SELECT 2;', ['SELECT 1', 'SELECT 2']],
  ["SELECT 'a;''b;', \"c;\"\"\", `d;`, [e;];SELECT 2", ["SELECT 'a;''b;', \"c;\"\"\", `d;`, [e;]", 'SELECT 2']],
  ['SELECT 1 -- one;\n, 2; SELECT /* ; */ 3', ['SELECT 1 -- one;\n, 2', 'SELECT /* ; */ 3']],
  ["SELECT '--', 1; SELECT '/*', 2; SELECT 3 - -4", ["SELECT '--', 1", "SELECT '/*', 2", 'SELECT 3 - -4']],
  ["SELECT 'not closed; SELECT 2", ["SELECT 'not closed; SELECT 2"]],
  ['SELECT 1 /* not closed; SELECT 2', ['SELECT 1']],
  ['create temp trigger a after insert on t begin select 1; end; SELECT 2', ['create temp trigger a after insert on t begin select 1; end', 'SELECT 2']],
  ['CREATE /* x */ TRIGGER a BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; /* ; END; */ END /* done */ ; SELECT 2', ['CREATE /* x */ TRIGGER a BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; /* ; END; */ END', 'SELECT 2']],
  ['EXPLAIN QUERY PLAN CREATE TEMPORARY TRIGGER a BEGIN SELECT 1; END; SELECT 2', ['EXPLAIN QUERY PLAN CREATE TEMPORARY TRIGGER a BEGIN SELECT 1; END', 'SELECT 2']],
  ['CREATE TABLE trigger_begin (a); SELECT 2', ['CREATE TABLE trigger_begin (a)', 'SELECT 2']],
  ['CREATE TABLE end_ (a); END; SELECT 2', ['CREATE TABLE end_ (a)', 'END', 'SELECT 2']],
]
for (const [text, statements] of cuts) {
  test(`statements of ${JSON.stringify(text)}`, (t) => {
    t.deepEqual(splitStatements(text).map(({ sql }) => sql), statements)
  })
}

test('lines are counted through strings and comments', (t) => {
  const text = "SELECT '\n\n';\n/*\n*/ -- x\nSELECT 2;\nSELECT 3"
  t.deepEqual(splitStatements(text).map(({ line }) => line), [1, 6, 7])
})

test('statements of every shape are found again, whatever stands between them', (t) => {
  const quoted = fc.constantFrom("'", '"', '`').chain((quote) =>
    fc.string({ unit: fc.constantFrom(';', 'a', '\n', '-', '/', '*', 'END', 'é') }).map((text) => `${quote}${text}${quote}`),
  )
  const word = fc.constantFrom('SELECT', 'x', '1', ',', '(', ')', '-', 'END', 'BEGIN', '+')
  const plain = fc.array(fc.oneof(word, quoted), { minLength: 1 }).map((words) => words.join(' '))
  const trigger = fc.array(plain, { minLength: 1 }).map((body) => `CREATE TRIGGER t BEGIN ${body.map((s) => `x ${s};`).join('\n')} END`)
  const space = fc.array(fc.constantFrom(' ', '\n', '-- ;\n', '/* ; \' */', ';'), { minLength: 1 }).map((parts) => parts.join(''))
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.oneof(plain, trigger), space)), (parts) => {
      const text = parts.map(([statement, between]) => `${statement};${between}`).join('')
      t.deepEqual(splitStatements(text).map(({ sql }) => sql), parts.map(([statement]) => statement))
    }),
  )
})

test('a text of megabytes is cut in one pass', (t) => {
  const long = `'${"x''".repeat(1_000_000)}'`
  const started = performance.now()
  t.is(splitStatements(`SELECT ${long}; /* ${'*'.repeat(1_000_000)} */ ${'SELECT 1;'.repeat(20_000)}`).length, 20_001)
  t.true(performance.now() - started < 5_000)
})
