/** The calls that run one statement, as a database, a transaction and a prepared statement offer them. */
import { type Interned, Operation } from './channel'
import type { Params } from './params'
import { type Column, joinColumns, type Layout } from './rows'
import type { CallOptions, ExecuteResult, Session } from './session'

/** Whole columns of a result. */
export interface Columns {
  rows: number
  /**
   * By name: a `Float64Array` where every value is a number, also where there is none, else an array of values. Of columns
   * that share a name the last one stands.
   */
  columns: Record<string, Column>
}

/** One statement on its way through a session. */
export interface Calls {
  execute: (statement: Interned, params?: Params, options?: CallOptions) => Promise<ExecuteResult>
  query: (statement: Interned, params?: Params, options?: CallOptions) => Promise<unknown[]>
  get: (statement: Interned, params?: Params, options?: CallOptions) => Promise<unknown>
  values: (statement: Interned, params?: Params, options?: CallOptions) => Promise<unknown[][]>
  columns: (statement: Interned, params?: Params, options?: CallOptions) => Promise<Columns>
}

/** The calls of a session. */
export function callsOf(session: Session): Calls {
  const rows = async (statement: Interned, layout: Layout, params: Params | undefined, options: CallOptions | undefined) =>
    (await session.run(Operation.Rows, statement, params, options, { layout })).rows
  return {
    async execute(statement, params, options) {
      const { changes, lastInsertRowid } = await session.run(Operation.Changes, statement, params, options)
      return { changes, lastInsertRowid }
    },
    query: (statement, params, options) => rows(statement, 'objects', params, options),
    get: async (statement, params, options) => (await session.run(Operation.First, statement, params, options)).rows[0],
    values: (statement, params, options) => rows(statement, 'arrays', params, options) as Promise<unknown[][]>,
    async columns(statement, params, options) {
      const result = await session.run(Operation.Rows, statement, params, options, { layout: 'columns' })
      const chunks = result.rows as Column[][]
      return { rows: chunks.reduce((sum, chunk) => sum + (chunk[0]?.length ?? 0), 0), columns: joinColumns(result.names, chunks) }
    },
  }
}
