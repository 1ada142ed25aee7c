/** The calls that a database and a transaction have in common. */
import { type Answer, type Channel, type Interned, Operation, type StatementResult, writeCall } from './channel'
import { type Duration, known, parseDuration, show } from './config'
import { Failure, ZqliteError } from './errors'
import type { Params, Writer } from './params'
import type { Layout } from './rows'
import { channels } from './tracing'

/** Options of a single call. */
export interface CallOptions {
  /** Waiting and running together take at most this long, else `ERR_DEADLINE`. */
  timeout?: Duration
  /** Gives the call up: it rejects with `ERR_CANCELLED` and nothing of it remains, unless it was past the point of no return. */
  signal?: AbortSignal
}

/** What a writing statement did. */
export interface ExecuteResult {
  /** Rows inserted, updated or deleted by the statement itself, not by its triggers. */
  changes: number
  /** The rowid of the last row inserted, 0 when there was none; a bigint beyond ±(2^53-1). */
  lastInsertRowid: number | bigint
}

/** A synchronous call of one statement. */
export type SyncCall = 'getSync' | 'allSync' | 'executeSync'

/** Options of a synchronous call that writes. */
export type SyncCallOptions = Pick<CallOptions, 'timeout'>

/** A statement of a batch. */
export interface BatchStatement {
  sql: string
  params?: Params
  /** A guard: the batch is rolled back with `ERR_EXPECTATION_FAILED` unless this many rows are returned or changed. */
  expect?: { rows?: number; changes?: number }
}

/** What a statement of a batch did and returned. */
export interface BatchResult<Row = Record<string, unknown>> extends ExecuteResult {
  rows: Row[]
}

const NO_BOUNDS: { timeout?: number; signal?: AbortSignal } = {}
const callOptions: Record<keyof CallOptions, true> = { timeout: true, signal: true }
const syncCallOptions: Record<keyof SyncCallOptions, true> = { timeout: true }
const batchFields: Record<keyof BatchStatement, true> = { sql: true, params: true, expect: true }
const expectFields: Record<keyof NonNullable<BatchStatement['expect']>, true> = { rows: true, changes: true }

/** A statement of a batch, looked at once: a getter may answer otherwise the next time. */
interface BatchItem {
  statement: Interned
  params: Params | undefined
  rows: number | undefined
  changes: number | undefined
}

/** Sends calls through a channel, within a transaction or not. */
export class Session {
  readonly channel: Channel
  readonly #transaction: number | undefined

  constructor(channel: Channel, transaction?: number) {
    this.channel = channel
    this.#transaction = transaction
  }

  /** Runs one statement; its promise resolves with what `pick` takes of the result. */
  run<T>(operation: Operation, statement: Interned, params: Params | undefined, options: CallOptions | undefined, layout: Layout, pick: (result: StatementResult) => T): Promise<T> {
    if (!this.channel.tracer.follows(channels.query)) return this.#run(operation, statement, params, options, layout, pick)
    const lane = statement.writes || this.#transaction !== undefined ? 'writer' : 'reader'
    const context = { operation: nameOf(operation, layout), sql: statement.sql, lane }
    return this.channel.tracer.traced(channels.query, context, () => this.#run(operation, statement, params, options, layout, pick))
  }

  async #run<T>(operation: Operation, statement: Interned, params: Params | undefined, options: CallOptions | undefined, layout: Layout, pick: (result: StatementResult) => T): Promise<T> {
    const { timeout, signal } = checked(options) ?? NO_BOUNDS
    const answer = await this.channel.call({ operation, transaction: this.#transaction, timeout, signal, statement, params, layout })
    if (answer instanceof Failure) throw answer.toError()
    return pick(answer[0] as StatementResult)
  }

  runSync(operation: Operation, statement: Interned, params: Params | undefined): StatementResult {
    if (!this.channel.tracer.follows(channels.query)) return this.channel.callSync(operation, 'objects', statement, params)
    const context = { operation: operation === Operation.First ? 'getSync' : 'allSync', sql: statement.sql, lane: 'sync' }
    return this.channel.tracer.tracedSync(channels.query, context, () => this.channel.callSync(operation, 'objects', statement, params))
  }

  /** Runs one writing statement on this thread, which waits for the commit. */
  executeSync(statement: Interned, params: Params | undefined, options: SyncCallOptions | undefined): ExecuteResult {
    const call = (): ExecuteResult => {
      const [result] = this.channel.writeSync({ operation: Operation.Changes, statement, params, ...checked(options, syncCallOptions) })
      return { changes: result?.changes ?? 0, lastInsertRowid: result?.lastInsertRowid ?? 0 }
    }
    if (!this.channel.tracer.follows(channels.query)) return call()
    return this.channel.tracer.tracedSync(channels.query, { operation: 'executeSync', sql: statement.sql, lane: 'writer' }, call)
  }

  batch(statements: readonly BatchStatement[], options: CallOptions | undefined): Promise<BatchResult[]> {
    const context = { operation: 'executeBatchTransaction', lane: 'writer', statements: statements?.length ?? 0 }
    return this.channel.tracer.traced(channels.batch, context, () => this.#batch(statements, options))
  }

  async #batch(statements: readonly BatchStatement[], options: CallOptions | undefined): Promise<BatchResult[]> {
    const write = this.#batchWriter(statements)
    const request = { operation: Operation.Batch, transaction: this.#transaction, ...checked(options) }
    const answer = await this.channel.call(request, write)
    if (answer instanceof Failure) throw answer.toError()
    return answer.map(toBatchResult)
  }

  /** As {@link batch}, on this thread, which waits for the commit. */
  batchSync(statements: readonly BatchStatement[], options: SyncCallOptions | undefined): BatchResult[] {
    const context = { operation: 'executeBatchTransactionSync', lane: 'writer', statements: statements?.length ?? 0 }
    return this.channel.tracer.tracedSync(channels.batch, context, () => {
      const write = this.#batchWriter(statements)
      return this.channel.writeSync({ operation: Operation.Batch, ...checked(options, syncCallOptions) }, write).map(toBatchResult)
    })
  }

  #batchWriter(statements: readonly BatchStatement[]): (writer: Writer) => void {
    if (!Array.isArray(statements)) throw new ZqliteError('ERR_TYPE', `a batch must be an array, not ${show(statements)}`)
    const items = Array.from(statements as readonly BatchStatement[], (statement, at) => this.#batchItem(statement, at))
    return (writer) => {
      writer.u32(items.length)
      for (const { statement, params, rows, changes } of items) {
        writer.u8((rows === undefined ? 0 : 1) | (changes === undefined ? 0 : 2))
        if (rows !== undefined) writer.u32(rows)
        if (changes !== undefined) writer.u32(changes)
        writeCall(writer, statement, params)
      }
    }
  }

  #batchItem(given: BatchStatement, at: number): BatchItem {
    if (typeof given !== 'object' || given === null) throw new ZqliteError('ERR_TYPE', `statements[${at}] must be an object with sql, not ${show(given)}`)
    for (const field in given) if (!Object.hasOwn(batchFields, field)) known(`statements[${at}].`, given, batchFields)
    const { sql, params, expect } = given
    const item: BatchItem = { statement: this.channel.intern(sql), params, rows: undefined, changes: undefined }
    if (expect !== undefined) {
      known(`statements[${at}].expect.`, expect, expectFields)
      const { rows, changes } = expect
      if (rows !== undefined) item.rows = count('expect.rows', rows)
      if (changes !== undefined) item.changes = count('expect.changes', changes)
    }
    return item
  }

  /** Sends what has no statement of the caller's; `byte` tells variants apart. */
  async control(operation: Operation, byte?: number, options?: CallOptions): Promise<StatementResult | undefined> {
    const request = { operation, transaction: this.#transaction, ...checked(options) }
    const answer: Answer = await this.channel.call(request, (writer) => {
      if (byte !== undefined) writer.u8(byte)
    })
    if (answer instanceof Failure) throw answer.toError()
    return answer[0]
  }
}

function nameOf(operation: Operation, layout: Layout): string {
  if (operation === Operation.Changes) return 'execute'
  if (operation === Operation.First) return 'get'
  return layout === 'arrays' ? 'values' : layout === 'columns' ? 'columns' : 'query'
}

/** For a call without options: one that is given some would pass over a deadline. */
export function withoutOptions(call: string, options: unknown): void {
  if (options !== undefined) throw new ZqliteError('ERR_TYPE', `${call} takes no options, but was given ${show(options)}`)
}

/** The options of a call as a request has them. */
export function checked(options: CallOptions | undefined, names: Record<string, true> = callOptions): { timeout?: number; signal?: AbortSignal } | undefined {
  if (options === undefined) return undefined
  known('', options, names)
  const { timeout, signal } = options
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new ZqliteError('ERR_TYPE', `signal must be an AbortSignal, not ${show(signal)}`)
  return { ...(timeout !== undefined && { timeout: parseDuration('timeout', timeout) }), ...(signal !== undefined && { signal }) }
}

function toBatchResult({ changes, lastInsertRowid, rows }: StatementResult): BatchResult {
  return { changes, lastInsertRowid, rows: rows as BatchResult['rows'] }
}

function count(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) throw new ZqliteError('ERR_TYPE', `${name} must be a whole number, not ${show(value)}`)
  return value
}
