/** Types as `import` gives them. Checked by the compiler and never run: a `@ts-expect-error` that expects nothing is an error. */
import { AclEngine, Database, type DatabaseOptions, type ErrorCode, type Params, type Transaction, type Value, ZqliteError } from 'zqlite'
import type { Database as Required, ZqliteError as RequiredError } from 'zqlite' with { 'resolution-mode': 'require' }

/** True when two types are the same, which is more than that one fits the other. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- how the compiler decides is by this parameter
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
declare function same<A, B>(proof: Same<A, B>): void
declare const db: Database

interface User {
  id: number
  name: string
}

// --- opening ---

same<ReturnType<typeof Database.open>, Promise<Database>>(true)
// @ts-expect-error a constructor cannot wait for the file
void new Database('app.db')
// @ts-expect-error a path is needed
void Database.open()
const options: DatabaseOptions = { readonly: true, cacheSize: '64MB', pool: { connectionTimeout: '30s', maxConnections: 5 }, transactions: { total: 5_000 } }
void Database.open('app.db', options)
// @ts-expect-error a misspelled option
void Database.open('app.db', { readOnly: true })
// @ts-expect-error a misspelled option of the pool
void Database.open('app.db', { pool: { maxConnection: 5 } })
// @ts-expect-error a size is a number or a text
void Database.open('app.db', { cacheSize: true })

// --- calls ---

same<Awaited<ReturnType<typeof db.query<User>>>, User[]>(true)
same<Awaited<ReturnType<typeof db.get<User>>>, User | undefined>(true)
const row = await db.get('SELECT 1 AS one')
same<typeof row, Record<string, unknown> | undefined>(true)
// @ts-expect-error there may be no row
void row.one
const [user] = await db.query<User>('SELECT * FROM users')
// @ts-expect-error there may be no row here either
void user.name
const { changes, lastInsertRowid } = await db.execute('DELETE FROM users')
same<typeof changes, number>(true)
same<typeof lastInsertRowid, number | bigint>(true)
// @ts-expect-error a rowid may be a bigint
const id: number = lastInsertRowid
void id
await db.query('SELECT 1', [], { timeout: '250ms' })
// @ts-expect-error a misspelled option
await db.query('SELECT 1', [], { timeOut: 250 })
// @ts-expect-error SQL is a text
await db.query(1)

const rows = await db.values('SELECT 1')
same<typeof rows, unknown[][]>(true)
const columns = await db.columns('SELECT 1 AS a')
same<typeof columns.rows, number>(true)
// @ts-expect-error columns are found by name, in `columns`
void columns.a
for await (const streamed of db.stream<User>('SELECT * FROM users')) same<typeof streamed, User>(true)
// @ts-expect-error a stream is no array
void db.stream('SELECT 1').length
// @ts-expect-error and no promise
void db.stream('SELECT 1').then
const statement = db.prepare<User>('SELECT * FROM users WHERE id = ?')
same<Awaited<ReturnType<typeof statement.query>>, User[]>(true)
// @ts-expect-error parameters are one array or object
await statement.get(1)
same<ReturnType<typeof db.getSync<User>>, User | undefined>(true)
same<ReturnType<typeof db.allSync<User>>, User[]>(true)
await db.get('SELECT 1', [], { signal: AbortSignal.timeout(100) })
// @ts-expect-error a controller is not its signal
await db.get('SELECT 1', [], { signal: new AbortController() })

await db.vacuum({ timeout: '1m' })
await db.checkpoint('full', { signal: AbortSignal.timeout(100) })
// @ts-expect-error options come second
await db.checkpoint({ timeout: 5 })
await db.stats({ timeout: 5 })
same<Awaited<ReturnType<typeof db.healthCheck>>['connectivityOk'], boolean>(true)
await db.healthCheck({ timeout: 5 })
await db.backup('copy.db', { timeout: '1h', overwrite: true })
await db.migrate('migrations', { timeout: '1m', dryRun: true })
await db.transaction(async () => {}, { timeout: 5, mode: 'deferred', signal: AbortSignal.timeout(100) })
// @ts-expect-error no such mode
await db.transaction(async () => {}, { mode: 'eager' })

// --- values ---

const values: Value[] = [null, 1, 1n, 'a', true, new Date(), new Uint8Array(1), Buffer.alloc(1), { a: [1] }, [1, 'a']]
const byName: Params = { a: 1, b: null, c: { d: 1 } }
await db.query('SELECT ?', values)
await db.query('SELECT :a', byName)
await db.query('SELECT ?', [1, 'a'] as const)
// @ts-expect-error undefined is not NULL
await db.query('SELECT ?', [undefined])
// @ts-expect-error a symbol cannot be bound
await db.query('SELECT :a', { a: Symbol('a') })
// @ts-expect-error a value by itself
await db.query('SELECT ?', 1)
// @ts-expect-error a promise that somebody forgot to await
await db.query('SELECT ?', [Promise.resolve(1)])

// --- batches and transactions ---

const [first] = await db.executeBatchTransaction([{ sql: 'INSERT INTO t VALUES (?) RETURNING a', params: [1], expect: { changes: 1, rows: 1 } }])
same<Exclude<typeof first, undefined>['rows'], Record<string, unknown>[]>(true)
// @ts-expect-error a misspelled guard
await db.executeBatchTransaction([{ sql: 'SELECT 1', expect: { row: 1 } }])
// @ts-expect-error a batch is of objects
await db.executeBatchTransaction(['SELECT 1'])
const settled = await db.executeBatch([{ sql: 'SELECT 1' }])
// @ts-expect-error each statement of a batch may have failed
void settled[0]?.value
const sum = await db.transaction(async (tx) => {
  same<typeof tx, Transaction>(true)
  // @ts-expect-error a transaction ends with its callback, not by a call
  void tx.commit
  // @ts-expect-error nor does it have a connection for itself
  void tx.stream
  await tx.transaction(async (nested) => same<typeof nested, Transaction>(true))
  return (await tx.get<{ sum: number }>('SELECT sum(a) AS sum FROM t'))?.sum
})
same<typeof sum, number | undefined>(true)
// @ts-expect-error a transaction lasts as long as a promise
await db.transaction(() => 1)

// --- errors ---

try {
  await db.close()
} catch (error) {
  if (error instanceof ZqliteError) {
    same<typeof error.code, ErrorCode>(true)
    same<typeof error.retryable, boolean>(true)
    // @ts-expect-error no such code
    void (error.code === 'ERR_NOTHING')
    // @ts-expect-error a code does not change
    error.code = 'ERR_SQL'
  }
}

// --- the rest ---

{
  await using scoped = await Database.open(':memory:')
  void scoped
}
const acl = new AclEngine()
acl.setRules([{ id: 1, priority: 1, action: 'allow', sources: ['*'], destinations: ['*'] }])
// @ts-expect-error no such action
acl.setRules([{ id: 1, priority: 1, action: 'maybe', sources: ['*'], destinations: ['*'] }])

// --- both module kinds have one set of classes: two would not fit each other, for their private fields ---

same<Database, Required>(true)
same<ZqliteError, RequiredError>(true)
declare const required: Required
const imported: Database = required
void imported
