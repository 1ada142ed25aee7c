/** An embedded database: SQLite off the JavaScript thread. */
import { Channel, Operation } from './channel'
import { type DatabaseOptions, resolveOptions } from './config'
import { ZqliteError } from './errors'
import { type Metrics, toMetrics } from './metrics'
import type { Params } from './params'
import { type BatchResult, type BatchStatement, type CallOptions, type ExecuteResult, Session } from './session'
import { type Transaction, Transactions } from './transaction'

export type { BatchResult, BatchStatement, CallOptions, ExecuteResult } from './session'

/**
 * A database file, or one in memory. Every call returns at once and is answered from a lane: reads from one of several
 * reader threads, each statement on its own snapshot; writes from the one writer thread, where independent writes that
 * wait together share one commit. A write's promise resolves when the change is on disk, and whatever is asked after that
 * sees it.
 */
export class Database {
  readonly #session: Session
  readonly #transactions: Transactions
  #closing: Promise<void> | undefined

  private constructor(channel: Channel) {
    this.#session = new Session(channel)
    this.#transactions = new Transactions(channel)
  }

  /**
   * Opens a file, creating it (mode 0600) when there is none, or `':memory:'`. One process owns a file; threads of that
   * process share it.
   *
   * @throws {ZqliteError} `ERR_LOCKED_BY_PROCESS`, `ERR_CANNOT_OPEN`, `ERR_NOT_A_DATABASE`, `ERR_CORRUPT`,
   *   `ERR_DISK_FULL`, `ERR_IO`, or `ERR_TYPE` for a wrong option
   */
  static async open(path: string, options: DatabaseOptions = {}): Promise<Database> {
    return new Database(await Channel.open(resolveOptions(path, options)))
  }

  /** Runs one writing statement. Its promise resolves when the change is on disk. */
  async execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult> {
    this.#open()
    this.#transactions.refuseInside('execute()')
    const { changes, lastInsertRowid } = await this.#session.run(Operation.Changes, this.#session.channel.intern(sql), params, options)
    return { changes, lastInsertRowid }
  }

  /** Runs one statement and returns all of its rows, also those of `… RETURNING`. Integers beyond ±(2^53-1) are bigints. */
  async query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]> {
    return (await this.#session.run(Operation.Rows, this.#reading(sql, 'query()'), params, options)).rows as Row[]
  }

  /** Runs one statement and returns its first row. */
  async get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined> {
    return (await this.#session.run(Operation.First, this.#reading(sql, 'get()'), params, options)).rows[0] as Row | undefined
  }

  /**
   * Runs several statements in order, all or nothing, in one trip; it shares its commit with other writes that wait. With
   * {@link BatchStatement.expect} a conditional change needs no callback.
   *
   * @throws {ZqliteError} of the first statement that fails, with its index in `statement`; nothing of the batch remains
   */
  async executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]> {
    this.#open()
    this.#transactions.refuseInside('executeBatchTransaction()')
    return await this.#session.batch(statements, options)
  }

  /**
   * Runs `callback` in a transaction of its own, which owns the writer lane until the callback's promise settles: it is
   * committed when that resolves, rolled back when it rejects. It may take 5 s in all and leave the lane idle for 1 s
   * (`transactions` of {@link DatabaseOptions}); prefer {@link executeBatchTransaction} where the steps are known.
   */
  async transaction<T>(callback: (transaction: Transaction) => Promise<T>): Promise<T> {
    this.#open()
    return await this.#transactions.run(callback)
  }

  /** The counters now. */
  metrics(): Metrics {
    this.#open()
    return toMetrics(this.#session.channel.metrics())
  }

  /** Refuses new calls, waits for those in flight, closes the file. Calling it again waits for the same. */
  async close(): Promise<void> {
    this.#closing ??= this.#session.channel.close()
    await this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #open(): void {
    if (this.#closing) throw new ZqliteError('ERR_CLOSED', 'the database is closed')
  }

  #reading(sql: string, what: string): { id: number; writes: boolean } {
    this.#open()
    const statement = this.#session.channel.intern(sql)
    if (statement.writes) this.#transactions.refuseInside(what)
    return statement
  }
}
