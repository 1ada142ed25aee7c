/** The calls that run one statement, as a database, a transaction and a prepared statement offer them. */
import { type Interned, Operation, type StatementResult } from './channel'
import type { Params } from './params'
import { type Column, joinColumns } from './rows'
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
  return {
    execute: (statement, params, options) => session.run(Operation.Changes, statement, params, options, 'objects', changesOf),
    query: (statement, params, options) => session.run(Operation.Rows, statement, params, options, 'objects', rowsOf),
    get: (statement, params, options) => session.run(Operation.First, statement, params, options, 'objects', firstOf),
    values: (statement, params, options) => session.run(Operation.Rows, statement, params, options, 'arrays', rowsOf) as Promise<unknown[][]>,
    columns: (statement, params, options) => session.run(Operation.Rows, statement, params, options, 'columns', columnsOf),
  }
}

const changesOf = ({ changes, lastInsertRowid }: StatementResult): ExecuteResult => ({ changes, lastInsertRowid })
const rowsOf = ({ rows }: StatementResult): unknown[] => rows
const firstOf = ({ rows }: StatementResult): unknown => rows[0]

function columnsOf({ rows, names }: StatementResult): Columns {
  const chunks = rows as Column[][]
  return { rows: chunks.reduce((sum, chunk) => sum + (chunk[0]?.length ?? 0), 0), columns: joinColumns(names, chunks) }
}
