/** The calls that a database and a transaction have in common. */
import { type Answer, type Channel, type Interned, Operation, type StatementResult, writeCall } from './channel'
import { type Duration, known, parseDuration, show } from './config'
import { Failure, ZqliteError } from './errors'
import type { Params } from './params'

/** Options of a single call. */
export interface CallOptions {
  /** Waiting and running together take at most this long, else `ERR_DEADLINE`. */
  timeout?: Duration
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

const callOptions: Record<keyof CallOptions, true> = { timeout: true }

/** Sends calls through a channel, within a transaction or not. */
export class Session {
  readonly channel: Channel
  readonly #transaction: number | undefined

  constructor(channel: Channel, transaction?: number) {
    this.channel = channel
    this.#transaction = transaction
  }

  async run(operation: Operation, statement: Interned, params: Params | undefined, options: CallOptions | undefined): Promise<StatementResult> {
    const answer = await this.channel.call(operation, this.#transaction, timeoutOf(options), (writer) => writeCall(writer, statement, params))
    if (answer instanceof Failure) throw answer.toError()
    return answer[0] as StatementResult
  }

  async batch(statements: readonly BatchStatement[], options: CallOptions | undefined): Promise<BatchResult[]> {
    if (!Array.isArray(statements)) throw new ZqliteError('ERR_TYPE', `a batch must be an array, not ${show(statements)}`)
    const interned = statements.map((s) => this.channel.intern(s.sql))
    const answer = await this.channel.call(Operation.Batch, this.#transaction, timeoutOf(options), (writer) => {
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
    return answer as BatchResult[]
  }

  async control(operation: Operation, transaction: number): Promise<void> {
    const answer: Answer = await this.channel.call(operation, transaction, undefined)
    if (answer instanceof Failure) throw answer.toError()
  }
}

function timeoutOf(options: CallOptions | undefined): number | undefined {
  if (options === undefined) return undefined
  known('', options, callOptions)
  return options.timeout === undefined ? undefined : parseDuration('timeout', options.timeout)
}

function count(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) throw new ZqliteError('ERR_TYPE', `${name} must be a whole number, not ${show(value)}`)
  return value
}
