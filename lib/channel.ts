/**
 * The way to the native part and back: calls made in one turn of the event loop leave together, answers come back many at
 * a time. One channel serves one {@link Database}.
 */
import { setMaxListeners } from 'node:events'
import * as native from '../native'
import { callNative, fromNative, Failure, ZqliteError } from './errors'
import { type Params, writeParams, Writer } from './params'
import { Decoder, type Layout, Reader } from './rows'
import { writes } from './split'
import type { Tracer } from './tracing'

/** What one statement did. */
export interface StatementResult {
  changes: number
  lastInsertRowid: number | bigint
  rows: unknown[]
  /** Names of the columns, where there were rows. */
  names: readonly string[]
}

/** The answer to a call: a result for each of its statements. */
export type Answer = StatementResult[] | Failure

/** The operations, as `crates/zqlite-node/src/request.rs` numbers them. */
export const enum Operation {
  Changes = 0,
  First = 1,
  Rows = 2,
  Batch = 3,
  Begin = 4,
  Commit = 5,
  Rollback = 6,
  Stream = 7,
  Maintain = 8,
  Nest = 9,
}

/** What a call is, beside its body. */
export interface Request {
  operation: Operation
  /** Within which transaction. */
  transaction?: number | undefined
  /** Milliseconds. */
  timeout?: number | undefined
  signal?: AbortSignal | undefined
  /** Of a call that runs one statement, which is all of its body. */
  statement?: Interned | undefined
  params?: Params | undefined
  /** Default: objects. */
  layout?: Layout | undefined
  /** Takes rows as they come, instead of the answer. */
  onRows?: ((rows: unknown[], token: number) => void) | undefined
  /** Told as soon as the token may stand for another call. */
  onSettled?: (() => void) | undefined
}

/** A SQL text known to the native part. */
export interface Interned {
  id: number
  sql: string
  /** Whether its first word is one that writes. */
  writes: boolean
}

interface Pending {
  /** Arrays are made when there is something to hold: most calls are many, small and in flight together. */
  results: StatementResult[] | undefined
  rows: unknown[] | undefined
  /** The columns of the last rows. */
  names: readonly string[]
  layout: Layout
  onRows: Request['onRows']
  onSettled: Request['onSettled']
  /** Has the native part forget what can be said of the call. */
  settled: (() => void) | undefined
  resolve: (answer: Answer) => void
}

const IN_TRANSACTION = 1
const HAS_DEADLINE = 2
const MAY_BE_CANCELLED = 4

const FLAG_ROWS = 1
const FLAG_ITEM = 2
const FLAG_LAST = 4
const FLAG_ERROR = 8

const STATUS_MORE = 1
const STATUS_GROW = 2

const MAX_STATEMENTS = 4096
const MAX_SHAPES = 1024
const BUFFER_BYTES = 256 << 10
const NOTHING: readonly never[] = []
/** Milliseconds of decoding in one turn of the event loop. */
const TURN = 1

/** The columns of a result and what decodes them. */
interface Shape {
  names: readonly string[]
  decoders: Partial<Record<Layout, Decoder>>
}

export class Channel {
  /** Lets the calls be followed. */
  readonly tracer: Tracer
  /** The number of the open store, which other channels of the process on the same file share. */
  readonly store: number
  /** Whether the database is in memory: synchronous reads wait for the writer there. */
  readonly inMemory: boolean
  readonly #native: native.NativeDatabase
  readonly #writer = new Writer()
  readonly #statements = new Map<string, Interned>()
  readonly #shapes = new Map<number, Shape>()
  readonly #syncWriter = new Writer()
  #boundRequest: Buffer | undefined
  #boundAnswer: Buffer | undefined
  #syncPending: Pending | undefined
  readonly #pending: (Pending | undefined)[] = []
  readonly #free: number[] = []
  #reader = new Reader(BUFFER_BYTES)
  #inFlight = 0
  #flushing = false
  #writing = false
  #failure: ZqliteError | undefined
  /** Keeps the process alive while calls are in flight; the native part's wake-up does not. */
  readonly #alive = setInterval(() => {}, 2 ** 31 - 1).unref()
  #idle: (() => void) | undefined
  #nextBackup = 1
  /** Has each open stream end with an error. */
  readonly #streams = new Set<(error: ZqliteError) => void>()
  /** Milliseconds, as the database was opened with. */
  readonly connectionTimeout: number
  readonly transactionTotal: number

  /** Has the native part's wake-up, which lives as long as the native part does, forget this. */
  readonly #detach: () => void

  private constructor(database: native.NativeDatabase, { connectionTimeout, transactionTotal, path }: native.NativeOptions, tracer: Tracer, detach: () => void) {
    this.#native = database
    this.connectionTimeout = connectionTimeout
    this.transactionTotal = transactionTotal
    this.inMemory = path === undefined
    this.store = database.storeNumber
    this.tracer = tracer
    this.#detach = detach
  }

  static async open(options: native.NativeOptions, tracer: Tracer): Promise<Channel> {
    let channel: Channel | undefined
    // Opening may take a while, and nothing else may be keeping the process alive.
    const alive = setInterval(() => {}, 2 ** 31 - 1)
    try {
      channel = new Channel(await native.openDatabase(options, () => channel?.collect()), options, tracer, () => {
        channel = undefined
      })
      return channel
    } catch (error) {
      throw fromNative(error)
    } finally {
      clearInterval(alive)
    }
  }

  metrics(): native.NativeMetrics {
    return this.#native.metrics()
  }

  /** Ends the open streams, waits for the other calls in flight, then lets go of the file. */
  async close(): Promise<void> {
    for (const end of this.#streams) end(new ZqliteError('ERR_CLOSED', 'the database was closed before the stream was at its end'))
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#idle = resolve))
    try {
      this.#alive.ref()
      await this.#native.close()
    } finally {
      clearInterval(this.#alive)
      this.#detach()
    }
  }

  intern(sql: string): Interned {
    let interned = this.#statements.get(sql)
    if (interned === undefined) {
      if (typeof sql !== 'string') throw new ZqliteError('ERR_TYPE', 'sql must be a string')
      try {
        interned = { id: this.#native.intern(sql), sql, writes: writes(sql) }
      } catch (error) {
        throw fromNative(error)
      }
      this.#statements.set(sql, interned)
    }
    return interned
  }

  /** Sends one call; `write` adds its body. When `write` throws, nothing is sent. */
  call(request: Request, write?: (writer: Writer) => void): Promise<Answer> {
    if (this.#failure) throw this.#failure
    const { signal } = request
    if (signal?.aborted) throw cancelled(signal)
    const token = this.#free.pop() ?? this.#pending.length
    try {
      this.#write(this.#writer, token, request, write)
    } catch (error) {
      this.#free.push(token)
      if (token === this.#pending.length) this.#pending.push(undefined)
      throw error
    }
    if (this.#inFlight++ === 0) this.#alive.ref()
    if (!this.#flushing) {
      this.#flushing = true
      queueMicrotask(() => this.#flush())
    }
    return new Promise((resolve) => {
      this.#pending[token] = {
        results: undefined,
        rows: undefined,
        names: NOTHING,
        layout: request.layout ?? 'objects',
        onRows: request.onRows,
        onSettled: request.onSettled,
        settled: signal === undefined && request.onRows === undefined ? undefined : this.#follow(token, signal),
        resolve,
      }
    })
  }

  /**
   * Runs one reading statement on this thread.
   * @throws {ZqliteError} also what an asynchronous call would reject with
   */
  callSync(operation: Operation, layout: Layout, statement: Interned, params: Params | undefined): StatementResult {
    this.#alone()
    const writer = this.#syncWriter
    try {
      writer.u8(operation)
      writeCall(writer, statement, params)
      this.#bind()
      return this.#readSync(this.#native.runSync(writer.at), layout)[0] as StatementResult
    } catch (error) {
      throw fromNative(error)
    } finally {
      writer.reset()
    }
  }

  /**
   * Runs one statement or batch on this thread, which waits for its commit. What was called before goes first.
   * @throws {ZqliteError} also what an asynchronous call would reject with
   */
  writeSync(request: Request, write?: (writer: Writer) => void): StatementResult[] {
    this.#alone()
    const writer = this.#syncWriter
    try {
      this.#flush()
      this.#writeRequest(writer, 0, request, write)
      this.#bind()
      return this.#readSync(this.#native.writeSync(writer.at), 'objects')
    } catch (error) {
      throw fromNative(error)
    } finally {
      writer.reset()
    }
  }

  /** Throws when the database cannot be reached, or when a request is being written. */
  #alone(): void {
    if (this.#failure) throw this.#failure
    if (this.#writing || this.#syncWriter.at > 0) throw new ZqliteError('ERR_TYPE', 'a toJSON() of a parameter used the database')
  }

  /** Tells the native part of the buffers, where they are others than the last time. */
  #bind(): void {
    const request = this.#syncWriter.bytes
    const answer = this.#reader.bytes
    if (request === this.#boundRequest && answer === this.#boundAnswer) return
    this.#native.bindSync(request, answer)
    this.#boundRequest = request
    this.#boundAnswer = answer
  }

  /** Reads the answer to a synchronous call. */
  #readSync(text: string, layout: Layout): StatementResult[] {
    const pending: Pending = { results: undefined, rows: undefined, names: NOTHING, layout, onRows: undefined, onSettled: undefined, settled: undefined, resolve: () => {} }
    this.#syncPending = pending
    while (this.#readPart(text, this.#takeSync) !== 0) {
      this.#bind()
      text = this.#native.collectSync()
    }
    return pending.results ?? []
  }

  readonly #takeSync = (_token: number, flags: number, shape: number, units: number): void => {
    if (flags & FLAG_ERROR) throw this.#readFailure(units).toError()
    this.#accept(this.#syncPending as Pending, flags, shape, 0)
  }

  #write(writer: Writer, token: number, request: Request, write?: (writer: Writer) => void): void {
    if (this.#writing) throw new ZqliteError('ERR_TYPE', 'a toJSON() of a parameter used the database')
    const start = writer.at
    this.#writing = true
    try {
      const length = writer.hole()
      this.#writeRequest(writer, token, request, write)
      writer.patch(length, writer.at - length - 4)
    } catch (error) {
      writer.at = start
      throw error
    } finally {
      this.#writing = false
    }
  }

  /** Writes a request without its length. */
  #writeRequest(writer: Writer, token: number, { operation, transaction, timeout, signal, statement, params }: Request, write?: (writer: Writer) => void): void {
    writer.u32(token)
    writer.u8(operation)
    writer.u8((transaction === undefined ? 0 : IN_TRANSACTION) | (timeout === undefined ? 0 : HAS_DEADLINE) | (signal === undefined ? 0 : MAY_BE_CANCELLED))
    if (transaction !== undefined) writer.u32(transaction)
    if (timeout !== undefined) writer.u32(timeout)
    if (statement !== undefined) writeCall(writer, statement, params)
    write?.(writer)
  }

  /** Passes an abort on. Returns what is to be done when the call is answered. */
  #follow(token: number, signal: AbortSignal | undefined): () => void {
    const abort = (): void => {
      this.#flush()
      this.#native.cancel(token)
    }
    if (signal !== undefined) listen(signal, abort)
    return () => {
      signal?.removeEventListener('abort', abort)
      this.#native.settled(token)
    }
  }

  /** The reader of a stream is done with a chunk, or wants no more. */
  pull(token: number, more: boolean): void {
    this.#flush()
    this.#native.pull(token, more)
  }

  /** Has `end` called when the database is closed; returns what takes that back. */
  followStream(end: (error: ZqliteError) => void): () => void {
    this.#streams.add(end)
    return () => this.#streams.delete(end)
  }

  cidrIndex(name: string): native.NativeCidrIndex {
    return callNative(() => this.#native.cidrIndex(name))
  }

  bitmapIndex(name: string): native.NativeBitmapIndex {
    return callNative(() => this.#native.bitmapIndex(name))
  }

  aclIndex(name: string): native.NativeAclIndex {
    return callNative(() => this.#native.aclIndex(name))
  }

  /**
   * Asks whether the database can be read, and how it is then.
   * @throws {ZqliteError} `ERR_DEADLINE` when it does not answer within `timeout` milliseconds; `ERR_CANCELLED`
   */
  async health(timeout: number, signal: AbortSignal | undefined): Promise<{ health: native.NativeHealth; metrics: native.NativeMetrics }> {
    if (signal?.aborted) throw cancelled(signal)
    const late = new ZqliteError('ERR_DEADLINE', `the database did not answer within ${timeout} ms`)
    if (timeout <= 0) throw late
    let giveUp: ((error: ZqliteError) => void) | undefined
    const givenUp = new Promise<never>((_, reject) => (giveUp = reject))
    const timer = setTimeout(() => giveUp?.(late), Math.min(timeout, 2 ** 31 - 1))
    const abort = (): void => giveUp?.(new ZqliteError('ERR_CANCELLED', 'the call was cancelled', { cause: signal?.reason }))
    if (signal !== undefined) listen(signal, abort)
    if (this.#inFlight++ === 0) this.#alive.ref()
    try {
      return { health: await Promise.race([this.#native.health(), givenUp]), metrics: this.metrics() }
    } catch (error) {
      throw fromNative(error)
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      this.#left()
    }
  }

  async backup(options: native.NativeBackup, progress: (at: native.NativeProgress) => void, signal: AbortSignal | undefined): Promise<native.NativeProgress> {
    if (signal?.aborted) throw cancelled(signal)
    const id = this.#nextBackup++
    const abort = (): void => this.#native.cancelBackup(id)
    if (signal !== undefined) listen(signal, abort)
    if (this.#inFlight++ === 0) this.#alive.ref()
    try {
      return await this.#native.backup(id, options, progress)
    } catch (error) {
      throw fromNative(error)
    } finally {
      signal?.removeEventListener('abort', abort)
      // It has ended; this has the native part forget it.
      abort()
      this.#left()
    }
  }

  #flush(): void {
    this.#flushing = false
    if (this.#writer.at === 0) return
    try {
      this.#native.submit(this.#writer.written)
    } catch (error) {
      this.#fail(fromNative(error))
    }
    this.#writer.reset()
    // Now no request names a statement by its number any more.
    if (this.#statements.size > MAX_STATEMENTS) {
      this.#statements.clear()
      this.#native.forgetStatements()
    }
  }

  /** Takes the answers that have come. One that cannot be taken, for want of memory, must not leave its caller waiting. */
  collect(): void {
    try {
      this.#collect()
    } catch (error) {
      this.#fail(new ZqliteError(error instanceof RangeError ? 'ERR_OUT_OF_MEMORY' : 'ERR_INTERNAL', `an answer could not be taken: ${String(error)}`, { cause: error }))
    }
  }

  #collect(): void {
    const end = performance.now() + TURN
    for (;;) {
      const status = this.#readPart(this.#native.collect(this.#reader.bytes), this.#take)
      if (status === STATUS_MORE && performance.now() > end) {
        setImmediate(() => this.collect())
        break
      }
      if (status === 0) break
    }
    if (this.#reader.bytes.length > BUFFER_BYTES) this.#reader = new Reader(BUFFER_BYTES)
  }

  readonly #take = (token: number, flags: number, shape: number, units: number): void => {
    const pending = this.#pending[token]
    if (pending === undefined) return
    if (flags & FLAG_ERROR) {
      this.#settle(token, pending, this.#readFailure(units))
    } else {
      this.#accept(pending, flags, shape, token)
      if (flags & FLAG_LAST) this.#settle(token, pending, pending.results ?? [])
    }
  }

  #readFailure(units: number): Failure {
    const reader = this.#reader
    return new Failure(reader.low(0), reader.cut(units), reader.high(0) !== 0, reader.low(1), reader.high(1))
  }

  /** Reads what the buffer holds, one record after the other. Returns whether there is more: 0, or a status. */
  #readPart(text: string, take: (token: number, flags: number, shape: number, units: number) => void): number {
    const reader = this.#reader
    reader.at = 0
    const words = reader.low(0)
    const status = reader.high(0)
    if (status === STATUS_GROW) {
      this.#reader = new Reader(8 * words)
      return status
    }
    reader.text = text
    reader.at = 1
    while (reader.at < words) {
      const start = reader.at
      const length = reader.low(0)
      const token = reader.high(0)
      const flags = reader.low(1)
      const shape = reader.high(1)
      reader.textAt = reader.low(2)
      const units = reader.high(2)
      reader.at += 3
      take(token, flags, shape, units)
      reader.at = start + length
    }
    reader.text = ''
    return status
  }

  #accept(pending: Pending, flags: number, shape: number, token: number): void {
    const reader = this.#reader
    let changes = 0
    let lastInsertRowid: number | bigint = 0
    if (flags & FLAG_ITEM) {
      changes = reader.double(0)
      lastInsertRowid = reader.integer(1)
      reader.at += 2
    }
    if (flags & FLAG_ROWS) {
      const { names, decoders } = this.#shape(shape)
      pending.names = names
      decoders[pending.layout] ??= new Decoder(names, pending.layout)
      const rows = (pending.rows ??= [])
      decoders[pending.layout]?.read(reader, rows)
      if (pending.onRows !== undefined) {
        pending.onRows(rows, token)
        pending.rows = undefined
      }
    }
    if (flags & FLAG_ITEM) {
      const result = { changes, lastInsertRowid, rows: pending.rows ?? [], names: pending.names }
      // Not by push() for the first one, which makes room for 17.
      if (pending.results === undefined) pending.results = [result]
      else pending.results.push(result)
      pending.rows = undefined
    }
  }

  #shape(id: number): Shape {
    let shape = this.#shapes.get(id)
    if (shape === undefined) {
      if (this.#shapes.size >= MAX_SHAPES) this.#shapes.clear()
      shape = { names: this.#native.columns(id), decoders: {} }
      this.#shapes.set(id, shape)
    }
    return shape
  }

  #settle(token: number, pending: Pending, answer: Answer): void {
    this.#pending[token] = undefined
    this.#free.push(token)
    if (answer instanceof Failure && answer.unknown) {
      const { code, message } = answer.toError()
      this.tracer.logger?.error({ code }, message)
    }
    pending.settled?.()
    pending.onSettled?.()
    this.#left()
    pending.resolve(answer)
  }

  /** One call less is in flight. */
  #left(): void {
    if (--this.#inFlight === 0) {
      this.#alive.unref()
      this.#idle?.()
    }
  }

  /** The native part cannot be reached: every call fails, now and from now on. */
  #fail(error: ZqliteError): void {
    this.#failure = error
    const index = codeNumber(error)
    this.#pending.forEach((pending, token) => {
      if (pending) this.#settle(token, pending, new Failure(index, `${error.message}\0`, false, -1, 0))
    })
  }
}

const listenedTo = new WeakSet<AbortSignal>()

/** One signal may be that of any number of calls, which is no leak that Node should warn of. */
function listen(signal: AbortSignal, abort: () => void): void {
  if (!listenedTo.has(signal)) {
    listenedTo.add(signal)
    setMaxListeners(0, signal)
  }
  signal.addEventListener('abort', abort, { once: true })
}

/** For a call that was given up before it was sent. */
function cancelled(signal: AbortSignal): ZqliteError {
  return new ZqliteError('ERR_CANCELLED', 'the call was cancelled before it began', { cause: signal.reason })
}

function codeNumber(error: ZqliteError): number {
  return native.errorCatalogue().findIndex((entry) => entry.code === error.code)
}

/** Writes the body of a call that runs one statement. */
export function writeCall(writer: Writer, statement: Interned, params: Params | undefined): void {
  writer.u32(statement.id)
  writeParams(writer, params)
}
