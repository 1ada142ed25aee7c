/** zqlite, asynchronous. */
import { Database, type Params } from 'zqlite'
import type { Open } from './driver.js'

export const open: Open = async (path, cache) => {
  const db = await Database.open(path, { cacheSize: cache })
  return {
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
  } satisfies Awaited<ReturnType<Open>>
}

