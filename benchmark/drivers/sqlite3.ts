/** sqlite3 (node-sqlite3): callbacks, on the threads of libuv. */
import { createRequire } from 'node:module'
import type { Open, Row } from './driver.js'

type Done<T> = (error: Error | null, value: T) => void

interface Statement {
  get: (params: unknown[], done: Done<Row | undefined>) => void
  all: (params: unknown[], done: Done<Row[]>) => void
  each: (params: unknown[], visit: Done<Row>, done: Done<number>) => void
  run: (params: unknown[], done: Done<void>) => void
}

interface Connection extends Statement {
  prepare: (sql: string, done: Done<void>) => Statement
  exec: (sql: string, done: Done<void>) => void
  serialize: (f: () => void) => void
}

function promise<T>(call: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error ? reject(error) : resolve(value)))
  })
}

export const open: Open = async (path, cache) => {
  const sqlite3 = createRequire(import.meta.url)('sqlite3') as { Database: new (path: string, done: Done<void>) => Connection }
  const db = await new Promise<Connection>((resolve, reject) => {
    const opened: Connection = new sqlite3.Database(path, (error) => (error ? reject(error) : resolve(opened)))
  })
  const exec = (sql: string) => promise<void>((done) => db.exec(sql, done))
  await exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = ${-Math.round(cache / 1024)}`)
  const statements = new Map<string, Statement>()
  // A text is prepared once.
  const prepared = async (sql: string): Promise<Statement> => {
    let statement = statements.get(sql)
    if (statement !== undefined) return statement
    await promise<void>((done) => {
      statement = db.prepare(sql, done)
    })
    statements.set(sql, statement as unknown as Statement)
    return statement as unknown as Statement
  }
  return {
    async prepare(sql) {
      const statement = await prepared(sql)
      return {
        get: (...params) => promise((done) => statement.get(params, done)),
        all: (...params) => promise((done) => statement.all(params, done)),
        each: async (visit, ...params) => {
          await promise<number>((done) => statement.each(params, (_, row) => visit(row), done))
        },
        run: (...params) => promise<void>((done) => statement.run(params, done)),
      }
    },
    async transaction(sql, rows) {
      const statement = await prepared(sql)
      await exec('BEGIN IMMEDIATE')
      await Promise.all(rows.map((params) => promise<void>((done) => statement.run(params, done))))
      await exec('COMMIT')
    },
    exec,
    // It refuses while statements are not finalized; the process ends with it anyway.
    close: () => undefined,
  }
}
