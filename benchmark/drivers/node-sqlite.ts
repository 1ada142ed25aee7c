/** node:sqlite of a newer Node, from the npm package `node`. */
import type { Open, Row } from './driver.js'

interface Statement {
  get: (...params: unknown[]) => Row | undefined
  all: (...params: unknown[]) => Row[]
  iterate: (...params: unknown[]) => Iterable<Row>
  run: (...params: unknown[]) => unknown
}

export const open: Open = async (path, cache) => {
  const name = 'node:sqlite'
  const { DatabaseSync } = (await import(name)) as { DatabaseSync: new (path: string) => { prepare: (sql: string) => Statement; exec: (sql: string) => void; close: () => void } }
  const db = new DatabaseSync(path)
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = ${-Math.round(cache / 1024)}`)
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
      db.exec('BEGIN IMMEDIATE')
      for (const params of rows) statement.run(...params)
      db.exec('COMMIT')
    },
    exec: (sql) => db.exec(sql),
    close: () => db.close(),
  }
}
