/** zqlite, with the synchronous calls where it has them: for reads. */
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
        run: (...params) => statement.execute(params as Params),
      }
    },
  }
}
