/** Rows one after the other, however many there are. */
import { type Channel, type Interned, Operation } from './channel'
import { Failure, type ZqliteError } from './errors'
import type { Params } from './params'
import type { Layout } from './rows'
import { type CallOptions, checked } from './session'
import { channels } from './tracing'

/** A row, or that there are no more. */
type Step<Row> = IteratorResult<Row, undefined>

const DONE = { done: true, value: undefined } as const

interface Waiter<Row> {
  resolve: (step: Step<Row>) => void
  reject: (error: unknown) => void
}

/**
 * The rows of a statement, read as they are asked for: about 256 KiB of them are on their way at most. It begins with the
 * first `next()`. To leave the loop early frees the connection.
 */
export interface RowStream<Row> extends AsyncIterableIterator<Row, undefined> {
  [Symbol.asyncDispose](): Promise<void>
}

/** A stream over a channel. */
export class ChannelStream<Row> implements RowStream<Row> {
  readonly #channel: Channel
  readonly #begin: () => Promise<void>
  #started = false
  #token: number | undefined
  #chunk: Row[] = []
  #at = 0
  #chunks: Row[][] = []
  #ended = false
  #error: unknown
  #waiters: Waiter<Row>[] = []
  /** Has the channel forget this. */
  #unfollow: (() => void) | undefined

  constructor(channel: Channel, statement: Interned, params: Params | undefined, options: CallOptions | undefined, layout: Layout) {
    this.#channel = channel
    const request = { operation: Operation.Stream, statement, params, layout, onRows: (rows: unknown[], token: number) => this.#take(rows as Row[], token), onSettled: () => (this.#token = undefined), ...checked(options) }
    this.#begin = async () => {
      const context = { operation: 'stream', sql: statement.sql, lane: 'stream' }
      const answer = await channel.tracer.traced(channels.query, context, () => channel.call(request))
      if (answer instanceof Failure) throw answer.toError()
    }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<Step<Row>> {
    if (!this.#started) {
      this.#started = true
      this.#begin().then(
        () => this.#end(undefined),
        (error: unknown) => this.#end(error),
      )
      this.#unfollow = this.#channel.followStream((error) => this.#cut(error))
    }
    const step = this.#step()
    if (step !== undefined) return Promise.resolve(step)
    if (this.#error !== undefined) {
      const error = this.#error
      this.#error = undefined
      return Promise.reject(error as Error)
    }
    if (this.#ended) return Promise.resolve(DONE)
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
    })
  }

  /** Wants no more. */
  return(): Promise<Step<Row>> {
    this.#started = true
    this.#ended = true
    this.#error = undefined
    this.#drop()
    for (const waiter of this.#waiters.splice(0)) waiter.resolve(DONE)
    return Promise.resolve(DONE)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  /** Ends before its time. */
  #cut(error: ZqliteError): void {
    this.#end(error)
    this.#drop()
  }

  #drop(): void {
    this.#unfollow?.()
    this.#chunks = []
    this.#chunk = []
    this.#at = 0
    if (this.#token !== undefined) this.#channel.pull(this.#token, false)
  }

  #step(): Step<Row> | undefined {
    if (this.#at === this.#chunk.length) {
      const next = this.#chunks.shift()
      if (next === undefined) return undefined
      this.#chunk = next
      this.#at = 0
      // Room for another one. The last chunk is not counted, but then there is nobody left to hear of it.
      if (this.#token !== undefined) this.#channel.pull(this.#token, true)
    }
    const value = this.#chunk[this.#at] as Row
    this.#at++
    return { done: false, value }
  }

  #take(rows: Row[], token: number): void {
    if (this.#ended) {
      this.#channel.pull(token, false)
      return
    }
    this.#token = token
    if (rows.length > 0) this.#chunks.push(rows)
    while (this.#waiters.length > 0) {
      const step = this.#step()
      if (step === undefined) break
      this.#waiters.shift()?.resolve(step)
    }
  }

  #end(error: unknown): void {
    this.#unfollow?.()
    const wanted = !this.#ended
    this.#ended = true
    const waiters = this.#waiters.splice(0)
    // After `return()` nobody wants to hear that the stream was cut.
    if (error !== undefined && wanted) {
      const first = waiters.shift()
      if (first === undefined) this.#error = error
      else first.reject(error)
    }
    for (const waiter of waiters) waiter.resolve(DONE)
  }
}
