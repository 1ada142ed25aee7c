/** Callback transactions. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type Calls, callsOf, type Columns } from './calls'
import { type Channel, Operation } from './channel'
import { type Duration, known, show } from './config'
import { ZqliteError } from './errors'
import type { Params } from './params'
import { type BatchResult, type BatchStatement, type CallOptions, checked, type ExecuteResult, Session, withoutOptions } from './session'
import { channels } from './tracing'

/** Options of {@link Database.transaction}. */
export interface TransactionOptions {
  /** Gives the transaction up: it is rolled back, and rejects with `ERR_CANCELLED`. */
  signal?: AbortSignal
  /** Waiting for the writer lane and all of the transaction together take at most this long, else `ERR_DEADLINE`. */
  timeout?: Duration
  /**
   * When it takes the write lock of the file: at once (`immediate`, the default, and `exclusive`), or with its first write
   * (`deferred`), which makes a difference only to other processes that share the file.
   */
  mode?: 'immediate' | 'deferred' | 'exclusive'
}

/** The modes, as `crates/zqlite-node/src/request.rs` numbers them. */
const modes: readonly string[] = ['immediate', 'deferred', 'exclusive']

/** The database as the callback of a transaction sees it: its own changes included, nobody else's. */
export interface Transaction {
  /** As {@link Database.execute}. */
  execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult>
  /** As {@link Database.query}. */
  query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]>
  /** As {@link Database.get}. */
  get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined>
  /** As {@link Database.values}. */
  values(sql: string, params?: Params, options?: CallOptions): Promise<unknown[][]>
  /** As {@link Database.columns}. */
  columns(sql: string, params?: Params, options?: CallOptions): Promise<Columns>
  /** As {@link Database.executeBatchTransaction}: all or nothing within the transaction. */
  executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]>
  /**
   * Runs `callback` in a transaction nested in this one (a savepoint): when its promise rejects, what it did is undone and
   * this one goes on. One at a time, and nothing else of this transaction meanwhile.
   */
  transaction<T>(callback: (transaction: Transaction) => Promise<T>): Promise<T>
}

/** The steps of a nested transaction, as `crates/zqlite-node/src/request.rs` numbers them. */
const NEST_BEGIN = 0
const NEST_RELEASE = 1
const NEST_UNDO = 2

/** Transactions of this thread on one file, by whichever of its database objects. */
interface Ongoing {
  /** Those that have the writer, or wait for it. */
  begun: Set<Owner>
  /** Those whose callback runs. */
  running: number
  /** Only there while one runs: following asynchronous calls costs every promise of the process a little. */
  inside: AsyncLocalStorage<symbol> | undefined
}

/** A transaction that has the writer, or waits for it. */
interface Owner {
  /** When its time is over, so that it has the writer no longer, whatever its callback does; on the clock of `performance`. */
  until: number
}

/** By the number of the store; only those on which there is one. */
const ongoing = new Map<number, Ongoing>()

/** Runs callback transactions on a channel. */
export class Transactions {
  readonly #channel: Channel
  #next = 1
  /** Those of this object that have the writer, or wait for it. */
  #begun = 0
  #settled: (() => void) | undefined

  constructor(channel: Channel) {
    this.#channel = channel
  }

  /** Throws when the caller is within a transaction's callback: it would wait for itself. */
  refuseInside(what: string): void {
    if (ongoing.size > 0 && ongoing.get(this.#channel.store)?.inside?.getStore() !== undefined) {
      throw new ZqliteError('ERR_TRANSACTION_STATE', `${what} on a database object inside a transaction's callback would wait for that transaction; use the object given to the callback`)
    }
  }

  /** Throws while a transaction of this thread goes on: it could not, if this thread waited for the writer. */
  refuseMeanwhile(what: string): void {
    if (ongoing.size === 0) return
    const now = performance.now()
    const here = ongoing.get(this.#channel.store)
    if (here !== undefined && [...here.begun].some(({ until }) => now < until)) {
      throw new ZqliteError('ERR_TRANSACTION_STATE', `${what} would wait for a transaction of this thread, which could not go on meanwhile; use the asynchronous form`)
    }
  }

  /** Waits for those that have begun, no longer than one may take. */
  async ended(): Promise<void> {
    if (this.#begun === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#settled = resolve
      timer = setTimeout(resolve, Math.min(this.#channel.transactionTotal, 2 ** 31 - 1))
    })
    clearTimeout(timer)
  }

  run<T>(callback: (transaction: Transaction) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    return this.#channel.tracer.traced(channels.transaction, { operation: 'transaction', lane: 'writer' }, () => this.#run(callback, options))
  }

  async #run<T>(callback: (transaction: Transaction) => Promise<T>, options: TransactionOptions): Promise<T> {
    if (typeof callback !== 'function') throw new ZqliteError('ERR_TYPE', `a transaction needs a function, not ${show(callback)}`)
    known('', options, { signal: true, timeout: true, mode: true })
    const { mode = 'immediate', signal, timeout } = options
    const bounds = new Bounds({ ...(signal !== undefined && { signal }), ...(timeout !== undefined && { timeout }) })
    if (!modes.includes(mode)) throw new ZqliteError('ERR_TYPE', `mode must be one of ${modes.join(', ')}, not ${show(mode)}`)
    this.refuseInside('a transaction')
    const session = new Session(this.#channel, this.#next++)
    const begin = () => session.control(Operation.Begin, modes.indexOf(mode), bounds.of(undefined))
    const { store } = this.#channel
    const here = ongoing.get(store) ?? { begun: new Set(), running: 0, inside: undefined }
    ongoing.set(store, here)
    const owner: Owner = { until: Number.POSITIVE_INFINITY }
    here.begun.add(owner)
    this.#begun++
    try {
      await this.#channel.tracer.traced(channels.acquire, { operation: 'transaction', lane: 'writer' }, begin)
      owner.until = performance.now() + this.#channel.transactionTotal
      return await this.#call(here, callback, session, bounds)
    } finally {
      here.begun.delete(owner)
      if (here.begun.size === 0) ongoing.delete(store)
      if (--this.#begun === 0) this.#settled?.()
    }
  }

  async #call<T>(here: Ongoing, callback: (transaction: Transaction) => Promise<T>, session: Session, bounds: Bounds): Promise<T> {
    here.inside ??= new AsyncLocalStorage()
    here.running++
    try {
      const result = await here.inside.run(Symbol('transaction'), callback, new CallbackTransaction(session, bounds))
      bounds.check()
      await session.control(Operation.Commit)
      return result
    } catch (error) {
      // It may have ended already: by a statement that rolled it back, or by a timer.
      await session.control(Operation.Rollback).catch(() => {})
      throw error
    } finally {
      if (--here.running === 0) {
        here.inside?.disable()
        here.inside = undefined
      }
    }
  }
}

/** Until when a transaction may go on. */
class Bounds {
  readonly #signal: AbortSignal | undefined
  /** On the clock of `performance`. */
  readonly #end: number | undefined

  constructor(options: CallOptions) {
    const { signal, timeout } = checked(options) ?? {}
    this.#signal = signal
    this.#end = timeout === undefined ? undefined : performance.now() + timeout
  }

  /** The options of a call: its own signal, or the transaction's; its own time, as far as the transaction has it left. */
  of(options: CallOptions | undefined): CallOptions | undefined {
    if (this.#signal === undefined && this.#end === undefined) return options
    const { timeout: own = Number.POSITIVE_INFINITY, signal = this.#signal } = checked(options) ?? {}
    const timeout = Math.min(own, this.#end === undefined ? Number.POSITIVE_INFINITY : this.#left())
    return { ...(signal !== undefined && { signal }), ...(timeout !== Number.POSITIVE_INFINITY && { timeout }) }
  }

  /** Throws when the transaction may not be committed any more. */
  check(): void {
    if (this.#signal?.aborted) throw new ZqliteError('ERR_CANCELLED', 'the transaction was cancelled and rolled back', { cause: this.#signal.reason })
    if (this.#end !== undefined && performance.now() >= this.#end) throw new ZqliteError('ERR_DEADLINE', 'the transaction ran past its deadline and was rolled back')
  }

  #left(): number {
    return Math.max(0, (this.#end ?? 0) - performance.now())
  }
}

class CallbackTransaction implements Transaction {
  readonly #session: Session
  readonly #calls: Calls
  readonly #bounds: Bounds
  /** While a nested transaction runs, this one's calls would be part of it. */
  #nested = false

  constructor(session: Session, bounds: Bounds) {
    this.#session = session
    this.#calls = callsOf(session)
    this.#bounds = bounds
  }

  async execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult> {
    return await this.#calls.execute(this.#statement(sql), params, this.#with(options))
  }

  async query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]> {
    return (await this.#calls.query(this.#statement(sql), params, this.#with(options))) as Row[]
  }

  async get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined> {
    return (await this.#calls.get(this.#statement(sql), params, this.#with(options))) as Row | undefined
  }

  async values(sql: string, params?: Params, options?: CallOptions): Promise<unknown[][]> {
    return await this.#calls.values(this.#statement(sql), params, this.#with(options))
  }

  async columns(sql: string, params?: Params, options?: CallOptions): Promise<Columns> {
    return await this.#calls.columns(this.#statement(sql), params, this.#with(options))
  }

  async executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]> {
    this.#alone()
    return await this.#session.batch(statements, this.#with(options))
  }

  async transaction<T>(callback: (transaction: Transaction) => Promise<T>, options?: unknown): Promise<T> {
    this.#alone()
    if (typeof callback !== 'function') throw new ZqliteError('ERR_TYPE', `a transaction needs a function, not ${show(callback)}`)
    withoutOptions('a nested transaction', options)
    this.#nested = true
    try {
      await this.#session.control(Operation.Nest, NEST_BEGIN)
      try {
        const result = await callback(new CallbackTransaction(this.#session, this.#bounds))
        await this.#session.control(Operation.Nest, NEST_RELEASE)
        return result
      } catch (error) {
        // The whole transaction may have ended already.
        await this.#session.control(Operation.Nest, NEST_UNDO).catch(() => {})
        throw error
      }
    } finally {
      this.#nested = false
    }
  }

  #statement(sql: string) {
    this.#alone()
    return this.#session.channel.intern(sql)
  }

  #alone(): void {
    if (this.#nested) throw new ZqliteError('ERR_TRANSACTION_STATE', 'a nested transaction is running; use the object given to its callback')
  }

  #with(options: CallOptions | undefined): CallOptions | undefined {
    return this.#bounds.of(options)
  }
}
