/** What a database package has to offer to be measured: each file beside this one is one package. */

/** A table row. */
export type Row = Record<string, unknown>

/** A prepared statement. A driver answers at once or with a promise, as its package does. */
export interface Prepared {
  get: (...params: unknown[]) => Row | undefined | Promise<Row | undefined>
  all: (...params: unknown[]) => Row[] | Promise<Row[]>
  /** Visits every row. */
  each: (visit: (row: Row) => void, ...params: unknown[]) => void | Promise<void>
  run: (...params: unknown[]) => unknown
}

/** An open database, durable with every commit (WAL, synchronous=FULL). */
export interface Driver {
  prepare: (sql: string) => Prepared | Promise<Prepared>
  /** Runs one statement with each of the parameter lists, in one transaction. */
  transaction: (sql: string, rows: readonly unknown[][]) => unknown
  exec: (sql: string) => unknown
  close: () => unknown
}

/** @param cache bytes of page cache */
export type Open = (path: string, cache: number) => Driver | Promise<Driver>
