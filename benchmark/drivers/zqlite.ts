/** zqlite, asynchronous. */
import { Database, type Params } from 'zqlite'
import type { Driver, Open } from './driver.js'

/** The driver, and the database that it is of. */
export async function driver(path: string, cache: number): Promise<Driver & { db: Database }> {
  const db = await Database.open(path, { cacheSize: cache })
  return {
    db,
    prepare(sql) {
      const statement = db.prepare(sql)
      return {
        get: (...params) => statement.get(params as Params),
        all: (...params) => statement.query(params as Params),
        async each(visit, ...params) {
          for (const row of await statement.query(params as Params)) visit(row)
        },
        run: (...params) => statement.execute(params as Params),
      }
    },
    transaction: (sql, rows) => db.executeBatchTransaction(rows.map((params) => ({ sql, params: params as Params }))),
    exec: (sql) => db.execute(sql),
    close: () => db.close(),
  }
}

export const open: Open = driver

