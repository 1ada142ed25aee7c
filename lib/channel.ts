/**
 * The way to the native part and back: calls made in one turn of the event loop leave together, answers come back many at
 * a time. One channel serves one {@link Database}.
 */
import * as native from '../native'
import { fromNative, Failure, ZqliteError } from './errors'
import { type Params, writeParams, Writer } from './params'
import { type MakeRows, Reader, rowMaker } from './rows'

/** What one statement did. */
export interface StatementResult {
  changes: number
  lastInsertRowid: number | bigint
  rows: unknown[]
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
}

/** A SQL text known to the native part. */
export interface Interned {
  id: number
  /** Whether its first word is one that writes. */
  writes: boolean
}

interface Pending {
  results: StatementResult[]
  rows: unknown[]
  resolve: (answer: Answer) => void
}

const IN_TRANSACTION = 1
const HAS_DEADLINE = 2

const FLAG_ROWS = 1
const FLAG_ITEM = 2
const FLAG_LAST = 4
const FLAG_ERROR = 8

const STATUS_MORE = 1
const STATUS_GROW = 2

const MAX_STATEMENTS = 4096
const MAX_SHAPES = 1024
const BUFFER_BYTES = 256 << 10
/** Milliseconds of decoding in one turn of the event loop. */
const TURN = 1

export class Channel {
  readonly #native: native.NativeDatabase
  readonly #writer = new Writer()
  readonly #statements = new Map<string, Interned>()
  readonly #shapes = new Map<number, MakeRows>()
  readonly #columns: unknown[][] = []
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

  private constructor(database: native.NativeDatabase) {
    this.#native = database
  }

  static async open(options: native.NativeOptions): Promise<Channel> {
    let channel: Channel | undefined
    // Opening may take a while, and nothing else may be keeping the process alive.
    const alive = setInterval(() => {}, 2 ** 31 - 1)
    try {
      channel = new Channel(await native.openDatabase(options, () => channel?.collect()))
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

  /** Waits for the calls in flight, then lets go of the file. */
  async close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#idle = resolve))
    try {
      this.#alive.ref()
      await this.#native.close()
    } finally {
      clearInterval(this.#alive)
    }
  }

  intern(sql: string): Interned {
    let interned = this.#statements.get(sql)
    if (interned === undefined) {
      if (typeof sql !== 'string') throw new ZqliteError('ERR_TYPE', 'sql must be a string')
      try {
        interned = { id: this.#native.intern(sql), writes: WRITES.test(sql) }
      } catch (error) {
        throw fromNative(error)
      }
      this.#statements.set(sql, interned)
    }
    return interned
  }

  /** Sends one call; `write` adds its body. When `write` throws, nothing is sent. */
  call(operation: Operation, transaction: number | undefined, timeout: number | undefined, write?: (writer: Writer) => void): Promise<Answer> {
    if (this.#failure) throw this.#failure
    if (this.#writing) throw new ZqliteError('ERR_TYPE', 'a toJSON() of a parameter used the database')
    const writer = this.#writer
    const start = writer.at
    const token = this.#free.pop() ?? this.#pending.length
    this.#writing = true
    try {
      const length = writer.hole()
      writer.u32(token)
      writer.u8(operation)
      writer.u8((transaction === undefined ? 0 : IN_TRANSACTION) | (timeout === undefined ? 0 : HAS_DEADLINE))
      if (transaction !== undefined) writer.u32(transaction)
      if (timeout !== undefined) writer.u32(timeout)
      write?.(writer)
      writer.patch(length, writer.at - length - 4)
    } catch (error) {
      writer.at = start
      this.#free.push(token)
      if (token === this.#pending.length) this.#pending.push(undefined)
      throw error
    } finally {
      this.#writing = false
    }
    if (this.#inFlight++ === 0) this.#alive.ref()
    if (!this.#flushing) {
      this.#flushing = true
      queueMicrotask(() => this.#flush())
    }
    return new Promise((resolve) => {
      this.#pending[token] = { results: [], rows: [], resolve }
    })
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

  /** Takes the answers that have come. */
  collect(): void {
    const end = performance.now() + TURN
    for (;;) {
      const text = this.#native.collect(this.#reader.bytes)
      this.#reader.at = 0
      const words = this.#reader.low(0)
      const status = this.#reader.high(0)
      if (status === STATUS_GROW) {
        this.#reader = new Reader(8 * words)
        continue
      }
      this.#read(words, text)
      if (status !== STATUS_MORE) break
      if (performance.now() > end) {
        setImmediate(() => this.collect())
        break
      }
    }
    if (this.#reader.bytes.length > BUFFER_BYTES) this.#reader = new Reader(BUFFER_BYTES)
  }

  #read(words: number, text: string): void {
    const reader = this.#reader
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
      const pending = this.#pending[token]
      reader.at += 3
      if (pending !== undefined) {
        if (flags & FLAG_ERROR) {
          const failure = new Failure(reader.low(0), reader.cut(units), reader.high(0) !== 0, reader.low(1), reader.high(1))
          this.#settle(token, pending, failure)
        } else {
          this.#accept(pending, flags, shape)
          if (flags & FLAG_LAST) this.#settle(token, pending, pending.results)
        }
      }
      reader.at = start + length
    }
    reader.text = ''
  }

  #accept(pending: Pending, flags: number, shape: number): void {
    const reader = this.#reader
    let changes = 0
    let lastInsertRowid: number | bigint = 0
    if (flags & FLAG_ITEM) {
      changes = reader.double(0)
      lastInsertRowid = reader.integer(1)
      reader.at += 2
    }
    if (flags & FLAG_ROWS) {
      const columns = this.#columns
      const count = reader.chunk(columns)
      this.#maker(shape)(columns, count, pending.rows)
      columns.length = 0
    }
    if (flags & FLAG_ITEM) {
      pending.results.push({ changes, lastInsertRowid, rows: pending.rows })
      pending.rows = []
    }
  }

  #maker(shape: number): MakeRows {
    let maker = this.#shapes.get(shape)
    if (maker === undefined) {
      if (this.#shapes.size >= MAX_SHAPES) this.#shapes.clear()
      maker = rowMaker(this.#native.columns(shape))
      this.#shapes.set(shape, maker)
    }
    return maker
  }

  #settle(token: number, pending: Pending, answer: Answer): void {
    this.#pending[token] = undefined
    this.#free.push(token)
    if (--this.#inFlight === 0) {
      this.#alive.unref()
      this.#idle?.()
    }
    pending.resolve(answer)
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

const WRITES = /^[\s(]*(?:insert|update|delete|replace|create|drop|alter|reindex|analyze)\b/i

function codeNumber(error: ZqliteError): number {
  return native.errorCatalogue().findIndex((entry) => entry.code === error.code)
}

/** Writes the body of a call that runs one statement. */
export function writeCall(writer: Writer, statement: Interned, params: Params | undefined): void {
  writer.u32(statement.id)
  writeParams(writer, params)
}
