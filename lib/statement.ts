/** A statement that is run again and again. */
import type { Calls, Columns } from './calls'
import { type Interned, Operation } from './channel'
import type { Params } from './params'
import { type CallOptions, type ExecuteResult, type Session, type SyncCall, type SyncCallOptions, withoutOptions } from './session'
import { ChannelStream, type RowStream } from './stream'

/**
 * One SQL text with its calls, from {@link Database.prepare}. Each lane prepares it once and keeps it; text that is given to
 * the database itself is kept just the same, so this saves looking the text up, and typing.
 */
export interface Statement<Row = Record<string, unknown>> {
  /** The SQL text. */
  readonly sql: string
  /** As {@link Database.execute}. */
  execute(params?: Params, options?: CallOptions): Promise<ExecuteResult>
  /** As {@link Database.executeSync}. */
  executeSync(params?: Params, options?: SyncCallOptions): ExecuteResult
  /** As {@link Database.query}. */
  query(params?: Params, options?: CallOptions): Promise<Row[]>
  /** As {@link Database.get}. */
  get(params?: Params, options?: CallOptions): Promise<Row | undefined>
  /** As {@link Database.values}. */
  values(params?: Params, options?: CallOptions): Promise<unknown[][]>
  /** As {@link Database.columns}. */
  columns(params?: Params, options?: CallOptions): Promise<Columns>
  /** As {@link Database.stream}. */
  stream(params?: Params, options?: CallOptions): RowStream<Row>
  /** As {@link Database.getSync}. */
  getSync(params?: Params): Row | undefined
  /** As {@link Database.allSync}. */
  allSync(params?: Params): Row[]
}

/** A statement over a session. */
export class SessionStatement<Row> implements Statement<Row> {
  readonly sql: string
  readonly #session: Session
  readonly #calls: Calls
  /** The statement as the channel knows it now, and the check that it may be run; `sync` is a synchronous call. */
  readonly #find: (sync?: SyncCall) => Interned

  constructor(sql: string, session: Session, calls: Calls, find: (sync?: SyncCall) => Interned) {
    this.sql = sql
    this.#session = session
    this.#calls = calls
    this.#find = find
  }

  async execute(params?: Params, options?: CallOptions): Promise<ExecuteResult> {
    return await this.#calls.execute(this.#find(), params, options)
  }

  executeSync(params?: Params, options?: SyncCallOptions): ExecuteResult {
    return this.#session.executeSync(this.#find('executeSync'), params, options)
  }

  async query(params?: Params, options?: CallOptions): Promise<Row[]> {
    return (await this.#calls.query(this.#find(), params, options)) as Row[]
  }

  async get(params?: Params, options?: CallOptions): Promise<Row | undefined> {
    return (await this.#calls.get(this.#find(), params, options)) as Row | undefined
  }

  async values(params?: Params, options?: CallOptions): Promise<unknown[][]> {
    return await this.#calls.values(this.#find(), params, options)
  }

  async columns(params?: Params, options?: CallOptions): Promise<Columns> {
    return await this.#calls.columns(this.#find(), params, options)
  }

  stream(params?: Params, options?: CallOptions): RowStream<Row> {
    return new ChannelStream<Row>(this.#session.channel, this.#find(), params, options, 'objects')
  }

  getSync(params?: Params, options?: unknown): Row | undefined {
    withoutOptions('getSync()', options)
    return this.#session.runSync(Operation.First, this.#find('getSync'), params).rows[0] as Row | undefined
  }

  allSync(params?: Params, options?: unknown): Row[] {
    withoutOptions('allSync()', options)
    return this.#session.runSync(Operation.Rows, this.#find('allSync'), params).rows as Row[]
  }
}
