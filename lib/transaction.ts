/** Callback transactions. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type Channel, Operation } from './channel'
import { ZqliteError } from './errors'
import type { Params } from './params'
import { type BatchResult, type BatchStatement, type CallOptions, type ExecuteResult, Session } from './session'

/** Options of {@link Database.transaction}. */
export interface TransactionOptions {}

/** The database as the callback of a transaction sees it: its own changes included, nobody else's. */
export interface Transaction {
  /** As {@link Database.execute}. */
  execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult>
  /** As {@link Database.query}. */
  query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]>
  /** As {@link Database.get}. */
  get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined>
  /** As {@link Database.executeBatchTransaction}: all or nothing within the transaction. */
  executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]>
}

/** Runs callback transactions on a channel. */
export class Transactions {
  readonly #channel: Channel
  #next = 1
  #running = 0
  /** Only there while a transaction runs: following asynchronous calls costs every promise of the process a little. */
  #inside: AsyncLocalStorage<symbol> | undefined

  constructor(channel: Channel) {
    this.#channel = channel
  }

  /** Throws when the caller is within a transaction's callback: it would wait for itself. */
  refuseInside(what: string): void {
    if (this.#running > 0 && this.#inside?.getStore() !== undefined) {
      throw new ZqliteError('ERR_TRANSACTION_STATE', `${what} on the database object inside a transaction's callback would wait for that transaction; use the object given to the callback`)
    }
  }

  async run<T>(callback: (transaction: Transaction) => Promise<T>): Promise<T> {
    this.refuseInside('a transaction')
    const id = this.#next++
    const control = new Session(this.#channel)
    await control.control(Operation.Begin, id)
    this.#inside ??= new AsyncLocalStorage()
    this.#running++
    try {
      const result = await this.#inside.run(Symbol('transaction'), callback, new CallbackTransaction(this.#channel, id))
      await control.control(Operation.Commit, id)
      return result
    } catch (error) {
      // It may have ended already: by a statement that rolled it back, or by a timer.
      await control.control(Operation.Rollback, id).catch(() => {})
      throw error
    } finally {
      if (--this.#running === 0) {
        this.#inside?.disable()
        this.#inside = undefined
      }
    }
  }
}

class CallbackTransaction implements Transaction {
  readonly #session: Session

  constructor(channel: Channel, id: number) {
    this.#session = new Session(channel, id)
  }

  async execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult> {
    const { changes, lastInsertRowid } = await this.#session.run(Operation.Changes, this.#session.channel.intern(sql), params, options)
    return { changes, lastInsertRowid }
  }

  async query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]> {
    return (await this.#session.run(Operation.Rows, this.#session.channel.intern(sql), params, options)).rows as Row[]
  }

  async get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined> {
    return (await this.#session.run(Operation.First, this.#session.channel.intern(sql), params, options)).rows[0] as Row | undefined
  }

  async executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]> {
    return await this.#session.batch(statements, options)
  }
}
