/** What the packages with synchronous calls have in common. */
import type { Driver, Row } from './driver.js'

/** A statement of such a package. */
export interface Statement {
  get: (...params: unknown[]) => Row | undefined
  all: (...params: unknown[]) => Row[]
  iterate: (...params: unknown[]) => Iterable<Row>
  run: (...params: unknown[]) => unknown
}

/** A connection of such a package. */
export interface Connection {
  prepare: (sql: string) => Statement
  exec: (sql: string) => void
  close: () => void
}

/** A driver over a connection. A text is prepared once. */
export function synchronous(db: Connection, cache: number): Driver {
  db.exec('PRAGMA journal_mode = WAL')
  db.exec('PRAGMA synchronous = FULL')
  db.exec(`PRAGMA cache_size = ${-Math.round(cache / 1024)}`)
  const statements = new Map<string, Statement>()
  const prepare = (sql: string): Statement => {
    const statement = statements.get(sql) ?? db.prepare(sql)
    statements.set(sql, statement)
    return statement
  }
  return {
    prepare(sql) {
      const statement = prepare(sql)
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
      const statement = prepare(sql)
      prepare('BEGIN IMMEDIATE').run()
      for (const params of rows) statement.run(...params)
      prepare('COMMIT').run()
    },
    exec: (sql) => db.exec(sql),
    close: () => db.close(),
  }
}
