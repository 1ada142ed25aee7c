/** Options that are none: every call refuses them, instead of passing over a deadline, a signal or a guard. */
import { join } from 'node:path'
import { inspect } from 'node:util'
import test from 'ava'
import { AclEngine, CidrTable, Database, type Transaction, ZqliteError } from 'zqlite'
import { folder, fresh, rejects } from './helpers'

/** What is no object with options; `null` and functions as Node's own functions refuse them. */
const wrong: unknown[] = [null, 5, Number.NaN, 'x', true, 1n, Symbol('s'), [], [{ timeout: 5 }], () => {}]

const SELECT = 'SELECT 1 AS one'
const INSERT = 'INSERT INTO t VALUES (1)'

/** Calls with options of which none is near that. */
const withoutTimeout = new Set(['open', 'CidrTable', 'CidrTable.load', 'AclEngine', 'AclEngine.difference', 'AclEngine.conflicts'])

/** Makes a call with these options, and settles as it does. */
type Call = (options: never) => unknown

const calls: Record<string, (db: Database, path: string) => Call> = {
  open: (_, path) => async (options) => (await Database.open(path, options)).close(),
  execute: (db) => (options) => db.execute(INSERT, [], options),
  query: (db) => (options) => db.query(SELECT, [], options),
  get: (db) => (options) => db.get(SELECT, [], options),
  values: (db) => (options) => db.values(SELECT, [], options),
  columns: (db) => (options) => db.columns(SELECT, [], options),
  stream: (db) => (options) => db.stream(SELECT, [], options).return?.(),
  executeSync: (db) => (options) => db.executeSync(INSERT, [], options),
  executeBatch: (db) => (options) => db.executeBatch([{ sql: INSERT }], options),
  'executeBatch of none': (db) => (options) => db.executeBatch([], options),
  executeBatchTransaction: (db) => (options) => db.executeBatchTransaction([{ sql: INSERT }], options),
  executeBatchTransactionSync: (db) => (options) => db.executeBatchTransactionSync([{ sql: INSERT }], options),
  transaction: (db) => (options) => db.transaction(() => Promise.resolve(), options),
  explainQuery: (db) => (options) => db.explainQuery(SELECT, [], options),
  healthCheck: (db) => (options) => db.healthCheck(options),
  backup: (db, path) => (options) => db.backup(path, options),
  checkpoint: (db) => (options) => db.checkpoint('passive', options),
  vacuum: (db) => (options) => db.vacuum(options),
  stats: (db) => (options) => db.stats(options),
  migrate: (db) => (options) => db.migrate([], options),
  ...Object.fromEntries(
    (['execute', 'query', 'get', 'values', 'columns', 'executeSync'] as const).map((name) => [
      `a statement's ${name}`,
      (db: Database) => (options: never) => db.prepare(name.startsWith('execute') ? INSERT : SELECT)[name]([], options),
    ]),
  ),
  "a statement's stream": (db) => (options) => db.prepare(SELECT).stream([], options).return?.(),
  CidrTable: () => (options) => new CidrTable(options),
  'CidrTable.load': () => (options) => CidrTable.load(new CidrTable().save(), options),
  AclEngine: () => (options) => new AclEngine(options),
  'AclEngine.difference': () => (options) => new AclEngine().difference(new AclEngine(), options),
  'AclEngine.conflicts': () => (options) => new AclEngine().conflicts(options),
}

for (const [name, of] of Object.entries(calls)) {
  test(`${name} refuses options that are none, and takes undefined`, async (t) => {
    const db = await fresh(t)
    await db.execute('CREATE TABLE t (a)')
    const call = of(db, join(folder(t), 'other.db'))
    for (const options of wrong) {
      const error = await t.throwsAsync(async () => call(options as never), { instanceOf: ZqliteError, code: 'ERR_TYPE' }, inspect(options))
      t.regex(error.message, /^options must be an object, not /, inspect(options))
    }
    const misspelled = await t.throwsAsync(async () => call({ tmeout: 5 } as never), { instanceOf: ZqliteError, code: 'ERR_TYPE' })
    t.is(misspelled.message, `unknown option tmeout${withoutTimeout.has(name) ? '' : '; did you mean timeout?'}`)
    t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 0 }, 'nothing was done')
    await t.notThrowsAsync(async () => call(undefined as never))
  })
}

const inside: Record<string, (tx: Transaction) => Call> = {
  execute: (tx) => (options) => tx.execute(INSERT, [], options),
  query: (tx) => (options) => tx.query(SELECT, [], options),
  get: (tx) => (options) => tx.get(SELECT, [], options),
  values: (tx) => (options) => tx.values(SELECT, [], options),
  columns: (tx) => (options) => tx.columns(SELECT, [], options),
  executeBatchTransaction: (tx) => (options) => tx.executeBatchTransaction([{ sql: INSERT }], options),
}

for (const bounds of [undefined, { timeout: '20s' }, { signal: new AbortController().signal }]) {
  test(`so do the calls within a transaction with ${bounds === undefined ? 'no bounds' : Object.keys(bounds).join()}`, async (t) => {
    const db = await fresh(t)
    await db.execute('CREATE TABLE t (a)')
    await db.transaction(async (tx) => {
      for (const [name, of] of Object.entries(inside)) {
        for (const options of wrong) {
          const error = await rejects(t, 'ERR_TYPE', Promise.resolve(of(tx)(options as never)))
          t.regex(error.message, /^options must be an object, not /, `${name}: ${inspect(options)}`)
        }
        t.regex((await rejects(t, 'ERR_TYPE', Promise.resolve(of(tx)({ tmeout: 5 } as never)))).message, /did you mean timeout/)
      }
      t.deepEqual(await tx.get('SELECT count(*) AS n FROM t'), { n: 0 }, 'nothing was done')
    }, bounds)
  })
}

test('calls without options refuse some', async (t) => {
  const db = await fresh(t)
  type Any = (...given: unknown[]) => unknown
  const statement = db.prepare(SELECT)
  const given = { timeout: 5 }
  for (const call of [() => (db.getSync as Any)(SELECT, [], given), () => (db.allSync as Any)(SELECT, [], given), () => (statement.getSync as Any)([], given), () => (statement.allSync as Any)([], given)]) {
    t.throws(call.bind(undefined), { instanceOf: ZqliteError, code: 'ERR_TYPE', message: /takes no options/ })
  }
  await db.transaction(async (tx) => {
    await rejects(t, 'ERR_TYPE', (tx.transaction as Any).call(tx, () => Promise.resolve(), given) as Promise<unknown>)
    await rejects(t, 'ERR_TYPE', (tx.transaction as Any).call(tx, 5) as Promise<unknown>)
    t.is(await tx.transaction(() => Promise.resolve(7)), 7, 'it goes on')
  })
})

test('an option that is null is no default', async (t) => {
  const path = join(folder(t), 'test.db')
  for (const name of ['readonly', 'shared', 'cacheSize', 'parallelWrites', 'pool', 'transactions', 'wal', 'attach', 'pragmas', 'limits', 'extensions', 'slowQuery', 'logger', 'syncSteps']) {
    const error = await rejects(t, 'ERR_TYPE', Database.open(path, { [name]: null }))
    t.true(error.message.startsWith(name), error.message)
  }
  for (const options of [{ pool: { maxConnections: null } }, { pool: { minConnections: null } }, { wal: { limit: null } }, { transactions: { idle: null } }]) {
    await rejects(t, 'ERR_TYPE', Database.open(path, options as never))
  }
  const db = await fresh(t)
  for (const options of [{ timeout: null }, { signal: null }]) await rejects(t, 'ERR_TYPE', db.get(SELECT, [], options as never))
  for (const options of [{ dryRun: null }, { dryRun: 'false' }, { onProgress: 5 }, { signal: 5 }, { timeout: -1 }]) await rejects(t, 'ERR_TYPE', db.migrate([], options as never))
})

test('a statement of a batch that is none, a field that is none, a guard that guards nothing', async (t) => {
  const db = await fresh(t)
  await db.execute('CREATE TABLE t (a)')
  // oxlint-disable-next-line no-sparse-arrays -- what is not there is no statement either
  const holes = [, { sql: INSERT }]
  const batches: [unknown, RegExp][] = [
    [[{ sql: INSERT }, null], /^statements\[1\] must be an object with sql, not null$/],
    [[{ sql: INSERT }, INSERT], /^statements\[1\] must be an object with sql, not "INSERT/],
    [holes, /^statements\[0\] must be an object with sql, not undefined$/],
    [[{ sql: INSERT, parms: [1] }], /^unknown option statements\[0\]\.parms; did you mean statements\[0\]\.params\?$/],
    [[{ sql: INSERT, expect: 1 }], /^statements\[0\]\.expect must be an object, not 1$/],
    [[{ sql: INSERT, expect: null }], /^statements\[0\]\.expect must be an object, not null$/],
    [[{ sql: INSERT, expect: { change: 1 } }], /^unknown option statements\[0\]\.expect\.change; did you mean statements\[0\]\.expect\.changes\?$/],
    [[{ sql: INSERT, expect: { changes: -1 } }], /^expect\.changes must be a whole number/],
    [[{}], /^sql must be a string/],
  ]
  for (const [statements, message] of batches) {
    t.regex((await rejects(t, 'ERR_TYPE', db.executeBatchTransaction(statements as never))).message, message)
    t.regex(t.throws(() => db.executeBatchTransactionSync(statements as never), { instanceOf: ZqliteError, code: 'ERR_TYPE' }).message, message)
    const outcomes = await db.executeBatch([...(statements as never[])])
    const reason = (outcomes.find(({ status }) => status === 'rejected') as PromiseRejectedResult).reason as unknown
    t.true(reason instanceof ZqliteError && reason.code === 'ERR_TYPE', String(reason))
    await db.execute('DELETE FROM t')
  }
  // One that grows and shrinks while it is read is sent as it was found, and nobody else's call suffers.
  const changing: object[] = [{ sql: 'INSERT INTO t VALUES (?)', params: [{ toJSON: () => changing.splice(0) && 1 }] }, { sql: INSERT }]
  await db.executeBatchTransaction(changing as never)
  t.deepEqual(await db.get('SELECT count(*) AS n FROM t'), { n: 2 })
})

test('the form of metrics is one of two', async (t) => {
  const db = await fresh(t)
  for (const format of ['json', null, 5]) t.throws(() => db.prometheus(format as never), { instanceOf: ZqliteError, code: 'ERR_TYPE', message: /format must be/ })
  t.true(db.prometheus('openmetrics').endsWith('# EOF\n'))
})

/** Options as a program's own class may have them. */
class Inherited {
  get signal(): AbortSignal {
    return AbortSignal.abort()
  }
}

test('options that are inherited count as others do', async (t) => {
  const db = await fresh(t)
  const migration = { version: 1, name: 'one', up: 'CREATE TABLE one (a)' }
  await rejects(t, 'ERR_CANCELLED', db.migrate([migration], new Inherited()))
  await rejects(t, 'ERR_CANCELLED', db.transaction(() => Promise.resolve(), new Inherited()))
})

test('a function among options has its object', async (t) => {
  const db = await fresh(t)
  class Telling {
    #told: string[] = []
    onProgress({ state }: { state: string }): void {
      this.#told.push(state)
    }

    get told(): string[] {
      return this.#told
    }
  }
  const options = new Telling()
  await db.migrate([{ version: 1, name: 'one', up: 'CREATE TABLE one (a)' }], options as { onProgress: Telling['onProgress'] })
  t.deepEqual(options.told, ['running', 'applied'])
})
