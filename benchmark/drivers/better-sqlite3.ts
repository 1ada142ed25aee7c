/** better-sqlite3, and libsql's package of the same interface. */
import { createRequire } from 'node:module'
import type { Open, Row } from './driver.js'

interface Statement {
  get: (...params: unknown[]) => Row | undefined
  all: (...params: unknown[]) => Row[]
  iterate: (...params: unknown[]) => Iterable<Row>
  run: (...params: unknown[]) => unknown
}

interface Connection {
  prepare: (sql: string) => Statement
  exec: (sql: string) => void
  transaction: (f: () => void) => { immediate?: () => void } & (() => void)
  close: () => void
}

export function synchronous(name: string): Open {
  return (path, cache) => {
    const Sqlite = createRequire(import.meta.url)(name) as new (path: string) => Connection
    const db = new Sqlite(path)
    db.exec('PRAGMA journal_mode = WAL')
    db.exec('PRAGMA synchronous = FULL')
    db.exec(`PRAGMA cache_size = ${-Math.round(cache / 1024)}`)
    return {
      prepare(sql) {
        const statement = db.prepare(sql)
        return {
          get: (...params) => statement.get(...params),
          all: (...params) => statement.all(...params),
          each(visit, ...params) {
            for (const row of statement.iterate(...params)) visit(row)
          },
          run: (...params) => statement.run(...params),
        }
      },
      transaction(sql, rows) {
        const statement = db.prepare(sql)
        db.transaction(() => {
          for (const params of rows) statement.run(...params)
        })()
      },
      exec: (sql) => db.exec(sql),
      close: () => db.close(),
    }
  }
}

export const open = synchronous('better-sqlite3')
