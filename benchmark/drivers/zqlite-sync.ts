/** zqlite, with the synchronous calls where it has them: for reads. */
import { Database, type Params } from 'zqlite'
import type { Open } from './driver.js'

export const open: Open = async (path, cache) => {
  const db = await Database.open(path, { cacheSize: cache })
  return {
    prepare(sql) {
      const statement = db.prepare(sql)
      return {
        get: (...params) => statement.getSync(params as Params),
        all: (...params) => statement.allSync(params as Params),
        each(visit, ...params) {
          for (const row of statement.allSync(params as Params)) visit(row)
        },
        run: (...params) => statement.execute(params as Params),
      }
    },
    transaction: (sql, rows) => db.executeBatchTransaction(rows.map((params) => ({ sql, params: params as Params }))),
    exec: (sql) => db.execute(sql),
    close: () => db.close(),
  } satisfies Awaited<ReturnType<Open>>
}
