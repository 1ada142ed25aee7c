/** zqlite, with its synchronous calls. */
import type { Params } from 'zqlite'
import type { Open } from './driver.js'
import { driver } from './zqlite.js'

export const open: Open = async (path, cache) => {
  const { db, ...asynchronous } = await driver(path, cache)
  return {
    ...asynchronous,
    prepare(sql) {
      const statement = db.prepare(sql)
      return {
        get: (...params) => statement.getSync(params as Params),
        all: (...params) => statement.allSync(params as Params),
        each(visit, ...params) {
          for (const row of statement.allSync(params as Params)) visit(row)
        },
        run: (...params) => statement.executeSync(params as Params),
      }
    },
    transaction: (sql, rows) => db.executeBatchTransactionSync(rows.map((params) => ({ sql, params: params as Params }))),
  }
}
