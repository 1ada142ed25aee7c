/**
 * Who wants to know of calls while they run: tracing channels of `node:diagnostics_channel` for tools, and a hook for slow
 * calls. Neither costs a call more than a few nanoseconds while nobody listens.
 *
 * A channel `zqlite:query` is five ones named `tracing:zqlite:query:start`, `:end`, `:asyncStart`, `:asyncEnd` and
 * `:error`, as Node's `TracingChannel` describes. All five are given one {@link TraceContext} object for each call.
 */
import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import { type Duration, known, parseDuration, show } from './config'
import { ZqliteError } from './errors'

/** What is known of a call. Parameters are never among it. */
export interface TraceContext {
  /** The call, such as `query` or `executeBatchTransaction`. */
  operation: string
  sql?: string
  /** `reader`, `writer` or `sync`, where it is known. */
  lane?: string
  /** Of a batch: its statements. */
  statements?: number
  /** What the call returned, once it has; added by Node. */
  result?: unknown
  /** Why the call failed, once it has; added by Node. */
  error?: unknown
}

type Channel = TracingChannel<unknown, TraceContext>

function zqliteChannel(name: string): Channel {
  return tracingChannel<unknown, TraceContext>(`zqlite:${name}`)
}

/** The channels: single statements, batches, callback transactions as a whole, and their waiting for the writer lane. */
export const channels = {
  query: zqliteChannel('query'),
  batch: zqliteChannel('batch'),
  transaction: zqliteChannel('transaction'),
  acquire: zqliteChannel('acquire'),
} as const

/** A call that took long. */
export interface SlowQuery extends TraceContext {
  /** From the call to its answer, waiting included, in milliseconds. */
  duration: number
}

/** Options of the hook for slow calls. */
export interface SlowQueryOptions {
  /** Calls that take this long or longer are told of. */
  threshold: Duration
  /**
   * Called after the call was answered, or failed. What it throws is an uncaught exception, and no matter of the call. By
   * default the database's logger is told.
   */
  log?: (call: SlowQuery) => void
}

/** Where a database tells what it does: the part of a pino logger that is used. Parameters of calls are never told. */
export interface Logger {
  debug(details: object, message: string): void
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

const loggerMethods = ['debug', 'info', 'warn', 'error'] as const

const slowQueryOptions: Record<keyof SlowQueryOptions, true> = { threshold: true, log: true }

/** Lets the calls of one database be followed. */
export class Tracer {
  /** Given by the opener. */
  readonly logger: Logger | undefined
  /** Milliseconds. */
  readonly #threshold: number = 0
  readonly #log: ((call: SlowQuery) => void) | undefined

  /** @throws {ZqliteError} `ERR_TYPE` naming the option */
  constructor(slowQuery?: SlowQueryOptions, logger?: Logger) {
    for (const method of loggerMethods) {
      if (logger !== undefined && typeof logger?.[method] !== 'function') throw new ZqliteError('ERR_TYPE', `logger must have a method ${method}, as pino's have`)
    }
    this.logger = logger
    if (slowQuery === undefined) return
    known('slowQuery.', slowQuery, slowQueryOptions)
    this.#threshold = parseDuration('slowQuery.threshold', slowQuery.threshold)
    const log = slowQuery.log ?? (logger && ((call) => logger.warn(call, 'slow call')))
    if (typeof log !== 'function') throw new ZqliteError('ERR_TYPE', `slowQuery.log must be a function, not ${show(log)}`)
    this.#log = log
  }

  /** Whether anybody is told of calls on this channel: else there is no need for a context. */
  follows(channel: Channel): boolean {
    return this.#log !== undefined || channel.hasSubscribers
  }

  /** Makes an asynchronous call. */
  traced<T>(channel: Channel, context: TraceContext, call: () => Promise<T>): Promise<T> {
    if (this.#log === undefined && !channel.hasSubscribers) return call()
    return this.#watched(channel, context, call)
  }

  /** Makes a synchronous call. */
  tracedSync<T>(channel: Channel, context: TraceContext, call: () => T): T {
    if (this.#log === undefined && !channel.hasSubscribers) return call()
    const started = performance.now()
    try {
      return channel.traceSync(call, context)
    } catch (error) {
      context.error = error
      throw error
    } finally {
      this.#tell(context, started)
    }
  }

  async #watched<T>(channel: Channel, context: TraceContext, call: () => Promise<T>): Promise<T> {
    const started = performance.now()
    try {
      // Node's own: what is bound to the start channel's stores is bound while the call runs.
      return await channel.tracePromise(call, context)
    } catch (error) {
      // Node notes it only while somebody subscribes.
      context.error = error
      throw error
    } finally {
      this.#tell(context, started)
    }
  }

  #tell(context: TraceContext, started: number): void {
    const log = this.#log
    const duration = performance.now() - started
    if (log === undefined || duration < this.#threshold) return
    const { result: _, ...call } = context
    try {
      log({ ...call, duration })
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}
