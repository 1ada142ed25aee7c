/** The calls that a database and a transaction have in common. */
import { type Answer, type Channel, type Interned, Operation, type Request, type StatementResult, writeCall } from './channel'
import { type Duration, known, parseDuration, show } from './config'
import { Failure, ZqliteError } from './errors'
import type { Params } from './params'
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

const callOptions: Record<keyof CallOptions, true> = { timeout: true, signal: true }

/** How a call is made, beside what it runs. */
export type Manner = Pick<Request, 'layout' | 'onRows'>

/** Sends calls through a channel, within a transaction or not. */
export class Session {
  readonly channel: Channel
  readonly #transaction: number | undefined

  constructor(channel: Channel, transaction?: number) {
    this.channel = channel
    this.#transaction = transaction
  }

  run(operation: Operation, statement: Interned, params: Params | undefined, options: CallOptions | undefined, manner?: Manner): Promise<StatementResult> {
    if (!this.channel.tracer.follows(channels.query)) return this.#run(operation, statement, params, options, manner)
    const lane = statement.writes || this.#transaction !== undefined ? 'writer' : 'reader'
    const context = { operation: nameOf(operation, manner), sql: statement.sql, lane }
    return this.channel.tracer.traced(channels.query, context, () => this.#run(operation, statement, params, options, manner))
  }

  async #run(operation: Operation, statement: Interned, params: Params | undefined, options: CallOptions | undefined, manner?: Manner): Promise<StatementResult> {
    const request = { operation, transaction: this.#transaction, layout: manner?.layout, onRows: manner?.onRows, ...checked(options) }
    const answer = await this.channel.call(request, (writer) => writeCall(writer, statement, params))
    if (answer instanceof Failure) throw answer.toError()
    return answer[0] as StatementResult
  }

  runSync(operation: Operation, statement: Interned, params: Params | undefined, manner?: Manner): StatementResult {
    const call = (): StatementResult => this.channel.callSync({ operation, layout: manner?.layout }, (writer) => writeCall(writer, statement, params))
    if (!this.channel.tracer.follows(channels.query)) return call()
    const context = { operation: operation === Operation.First ? 'getSync' : 'allSync', sql: statement.sql, lane: 'sync' }
    return this.channel.tracer.tracedSync(channels.query, context, call)
  }

  batch(statements: readonly BatchStatement[], options: CallOptions | undefined): Promise<BatchResult[]> {
    const context = { operation: 'executeBatchTransaction', lane: 'writer', statements: statements?.length ?? 0 }
    return this.channel.tracer.traced(channels.batch, context, () => this.#batch(statements, options))
  }

  async #batch(statements: readonly BatchStatement[], options: CallOptions | undefined): Promise<BatchResult[]> {
    if (!Array.isArray(statements)) throw new ZqliteError('ERR_TYPE', `a batch must be an array, not ${show(statements)}`)
    const interned = statements.map((s) => this.channel.intern(s.sql))
    const request = { operation: Operation.Batch, transaction: this.#transaction, ...checked(options) }
    const answer = await this.channel.call(request, (writer) => {
      writer.u32(statements.length)
      statements.forEach(({ params, expect }, i) => {
        const { rows, changes } = expect ?? {}
        writer.u8((rows === undefined ? 0 : 1) | (changes === undefined ? 0 : 2))
        if (rows !== undefined) writer.u32(count('expect.rows', rows))
        if (changes !== undefined) writer.u32(count('expect.changes', changes))
        writeCall(writer, interned[i] as Interned, params)
      })
    })
    if (answer instanceof Failure) throw answer.toError()
    return answer.map(({ changes, lastInsertRowid, rows }) => ({ changes, lastInsertRowid, rows })) as BatchResult[]
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

function nameOf(operation: Operation, manner: Manner | undefined): string {
  if (operation === Operation.Changes) return 'execute'
  if (operation === Operation.First) return 'get'
  return manner?.layout === 'arrays' ? 'values' : manner?.layout === 'columns' ? 'columns' : 'query'
}

/** The options of a call as a request has them. */
export function checked(options: CallOptions | undefined): { timeout?: number; signal?: AbortSignal } | undefined {
  if (options === undefined) return undefined
  known('', options, callOptions)
  const { timeout, signal } = options
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new ZqliteError('ERR_TYPE', `signal must be an AbortSignal, not ${show(signal)}`)
  return { ...(timeout !== undefined && { timeout: parseDuration('timeout', timeout) }), ...(signal !== undefined && { signal }) }
}

function count(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) throw new ZqliteError('ERR_TYPE', `${name} must be a whole number, not ${show(value)}`)
  return value
}
