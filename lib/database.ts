/** An embedded database: SQLite off the JavaScript thread. */
import { type Calls, callsOf, type Columns } from './calls'
import { Channel, type Interned, Operation } from './channel'
import { type DatabaseOptions, type Duration, known, parseDuration, resolveOptions, show } from './config'
import { fromNative, ZqliteError } from './errors'
import { type AclIndex, type BitmapIndex, type CidrIndex, NativeAcl, NativeBitmap, NativeCidr } from './indexes'
import { type Metrics, toMetrics } from './metrics'
import { checkedMigrateOptions, type MigrateOptions, migrate, type Migration, type MigrationProgress, type MigrationResult } from './migrate'
import type { Params } from './params'
import { openMetricsText, type PromClientRegistry, prometheusText, registerPromClient, snapshotOf } from './prometheus'
import { type BatchResult, type BatchStatement, type CallOptions, checked, type ExecuteResult, Session, type SyncCall, type SyncCallOptions, withoutOptions } from './session'
import { SessionStatement, type Statement } from './statement'
import { ChannelStream, type RowStream } from './stream'
import { Tracer } from './tracing'
import { type Transaction, type TransactionOptions, Transactions } from './transaction'

export type { BatchResult, BatchStatement, CallOptions, ExecuteResult, SyncCallOptions } from './session'

/** A step of SQLite's plan for a statement. */
export interface QueryPlanStep {
  id: number
  /** The step that this one is part of; 0 for the outermost. */
  parent: number
  detail: string
}

/** Whether the database is well. */
export interface Health {
  connectivityOk: boolean
  /** Milliseconds from the question to the answer. */
  connectivityTimeMs: number
  /** Why it is not. */
  error?: ZqliteError
  lanes: { active: number; idle: number; waiting: number }
  /** Bytes of the write-ahead log in use. */
  walBytes: number
}

/** How far {@link Database.checkpoint} goes. */
export type CheckpointMode = 'passive' | 'full' | 'restart' | 'truncate'

/** What a checkpoint did. */
export interface CheckpointResult {
  /** Whether a reader or writer kept it from going all the way. */
  busy: boolean
  /** Pages in the write-ahead log, and how many of them are in the database file now. */
  logFrames: number
  checkpointedFrames: number
}

/** Options of {@link Database.backup}. */
export interface BackupOptions {
  /** Replace a file that is there; default false. */
  overwrite?: boolean
  /** Pages copied at a time, 1 to 1,000,000; default 1,000. */
  pagesPerStep?: number
  /** Rest between two steps, to leave the disk to others; default 0. */
  pause?: Duration
  /** Told after each step, in pages. */
  progress?: (at: { remaining: number; total: number }) => void
  signal?: AbortSignal
  /** It takes at most this long, else `ERR_DEADLINE`. */
  timeout?: Duration
}

/** The size of a database. */
export interface DatabaseStats {
  /** Bytes of the file, without the write-ahead log. */
  bytes: number
  walBytes: number
  pageSize: number
  pageCount: number
  /** Pages that deleted rows left; {@link Database.vacuum} gives them back. */
  freePages: number
  tables: number
  indexes: number
}

function healthOf(error: ZqliteError | undefined, connectivityTimeMs: number, metrics: Metrics): Health {
  const { connectionsActive: active, connectionsIdle: idle, waiting, walBytes } = metrics
  return { connectivityOk: error === undefined, connectivityTimeMs, ...(error !== undefined && { error }), lanes: { active, idle, waiting }, walBytes }
}

const checkpointModes: readonly CheckpointMode[] = ['passive', 'full', 'restart', 'truncate']
const VACUUM = 0

/**
 * A database file, or one in memory. Every call returns at once and is answered from a lane: reads from one of several
 * reader threads, each statement on its own snapshot; writes from the one writer thread, where independent writes that
 * wait together share one commit. A write's promise resolves when the change is on disk, and whatever is asked after that
 * sees it.
 */
export class Database {
  readonly #session: Session
  readonly #calls: Calls
  readonly #transactions: Transactions
  #closing: Promise<void> | undefined

  private constructor(channel: Channel) {
    // As better-sqlite3 is opened; types do not keep JavaScript from it.
    if (!(channel instanceof Channel)) throw new ZqliteError('ERR_TYPE', 'a database is opened with `await Database.open(path)`, not with new')
    this.#session = new Session(channel)
    this.#calls = callsOf(this.#session)
    this.#transactions = new Transactions(channel)
  }

  /**
   * Opens a file, creating it (mode 0600) when there is none, or `':memory:'`. One process owns a file; threads of that
   * process share it.
   *
   * @throws {ZqliteError} `ERR_LOCKED_BY_PROCESS`, `ERR_CANNOT_OPEN`, `ERR_NOT_A_DATABASE`, `ERR_CORRUPT`,
   *   `ERR_DISK_FULL`, `ERR_IO`, or `ERR_TYPE` for a wrong option
   */
  static async open(path: string, options: DatabaseOptions = {}): Promise<Database> {
    const native = resolveOptions(path, options)
    const tracer = new Tracer(options.slowQuery, options.logger)
    const started = performance.now()
    const database = new Database(await Channel.open(native, tracer))
    tracer.logger?.debug({ path, duration: performance.now() - started }, 'database opened')
    return database
  }

  /** Runs one writing statement. Its promise resolves when the change is on disk. */
  async execute(sql: string, params?: Params, options?: CallOptions): Promise<ExecuteResult> {
    this.#open()
    this.#transactions.refuseInside('execute()')
    return await this.#calls.execute(this.#session.channel.intern(sql), params, options)
  }

  /** Runs one statement and returns all of its rows, also those of `… RETURNING`. Integers beyond ±(2^53-1) are bigints. */
  async query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]> {
    return (await this.#calls.query(this.#reading(sql, 'query()'), params, options)) as Row[]
  }

  /** Runs one statement and returns its first row. */
  async get<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row | undefined> {
    return (await this.#calls.get(this.#reading(sql, 'get()'), params, options)) as Row | undefined
  }

  /** As {@link query}, each row an array in the order of the columns: also of those that share a name. */
  async values(sql: string, params?: Params, options?: CallOptions): Promise<unknown[][]> {
    return await this.#calls.values(this.#reading(sql, 'values()'), params, options)
  }

  /** As {@link query}, whole columns instead of rows: numbers in typed arrays. */
  async columns(sql: string, params?: Params, options?: CallOptions): Promise<Columns> {
    return await this.#calls.columns(this.#reading(sql, 'columns()'), params, options)
  }

  /**
   * The rows of a reading statement one after the other, for results that memory should not hold at once. It has a
   * connection of its own until the last row, or until the loop is left; the rows are of the moment of the first one.
   *
   * @throws {ZqliteError} from `next()`; `ERR_SNAPSHOT_TOO_OLD` when it keeps the write-ahead log at its limit and takes longer
   *   than 30 s, or writes wait and nothing was taken of it for 2 s
   */
  stream<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): RowStream<Row> {
    this.#open()
    return new ChannelStream<Row>(this.#session.channel, this.#session.channel.intern(sql), params, options, 'objects')
  }

  /** A statement to run again and again. What is wrong with it shows when it first runs. */
  prepare<Row = Record<string, unknown>>(sql: string): Statement<Row> {
    this.#reading(sql, 'prepare()')
    return new SessionStatement<Row>(sql, this.#session, this.#calls, (sync) => (sync === undefined ? this.#reading(sql, 'a prepared statement') : this.#atOnce(sql, sync)))
  }

  /**
   * The first row of a reading statement, at once, on this thread: for a lookup in a table that is in memory anyway.
   * Nothing else happens on this thread meanwhile, so it waits for no lock, and has a budget of steps (`syncSteps` of
   * {@link DatabaseOptions}). It sees what was committed before. Only on `':memory:'`, which has one connection, it waits for
   * what the writer is at.
   *
   * @throws {ZqliteError} `ERR_STEP_BUDGET`; `ERR_NOT_ALLOWED` for a statement that writes; on `':memory:'`
   *   `ERR_TRANSACTION_STATE` while a transaction goes on
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as in get(), for callers
  getSync<Row = Record<string, unknown>>(sql: string, params?: Params): Row | undefined
  getSync(sql: string, params?: Params, options?: unknown): unknown {
    withoutOptions('getSync()', options)
    return this.#session.runSync(Operation.First, this.#atOnce(sql, 'getSync'), params).rows[0]
  }

  /** All rows of a reading statement, at once; see {@link getSync}. */
  allSync<Row = Record<string, unknown>>(sql: string, params?: Params): Row[]
  allSync(sql: string, params?: Params, options?: unknown): unknown[] {
    withoutOptions('allSync()', options)
    return this.#session.runSync(Operation.Rows, this.#atOnce(sql, 'allSync'), params).rows
  }

  /**
   * Runs one writing statement at once, on this thread, which waits until the change is on disk: nothing else happens on it
   * meanwhile, so this is for scripts and for what starts up. While other writes wait it waits its turn among them.
   *
   * @throws {ZqliteError} as {@link execute}; `ERR_TRANSACTION_STATE` while a transaction of this thread goes on in the
   *   same file
   */
  executeSync(sql: string, params?: Params, options?: SyncCallOptions): ExecuteResult {
    return this.#session.executeSync(this.#atOnce(sql, 'executeSync'), params, options)
  }

  /** As {@link executeBatchTransaction}, at once, on this thread; see {@link executeSync}. */
  executeBatchTransactionSync(statements: readonly BatchStatement[], options?: SyncCallOptions): BatchResult[] {
    this.#open()
    this.#transactions.refuseMeanwhile('executeBatchTransactionSync()')
    return this.#session.batchSync(statements, options)
  }

  /**
   * Runs several independent statements in one trip. Each succeeds or fails for itself, as with `Promise.allSettled`;
   * those that write share commits.
   */
  async executeBatch(statements: readonly BatchStatement[], options?: CallOptions): Promise<PromiseSettledResult<BatchResult>[]> {
    this.#open()
    this.#transactions.refuseInside('executeBatch()')
    if (!Array.isArray(statements)) throw new ZqliteError('ERR_TYPE', `a batch must be an array, not ${show(statements)}`)
    checked(options)
    return await Promise.allSettled(Array.from(statements as readonly BatchStatement[], async (statement) => (await this.#session.batch([statement], options))[0] as BatchResult))
  }

  /**
   * Runs several statements in order, all or nothing, in one trip; it shares its commit with other writes that wait. With
   * {@link BatchStatement.expect} a conditional change needs no callback.
   *
   * @throws {ZqliteError} of the first statement that fails, with its index in `statement`; nothing of the batch remains
   */
  async executeBatchTransaction(statements: readonly BatchStatement[], options?: CallOptions): Promise<BatchResult[]> {
    this.#open()
    this.#transactions.refuseInside('executeBatchTransaction()')
    return await this.#session.batch(statements, options)
  }

  /**
   * Runs `callback` in a transaction of its own, which owns the writer lane until the callback's promise settles: it is
   * committed when that resolves, rolled back when it rejects. It may take 5 s in all and leave the lane idle for 1 s
   * (`transactions` of {@link DatabaseOptions}); prefer {@link executeBatchTransaction} where the steps are known.
   */
  async transaction<T>(callback: (transaction: Transaction) => Promise<T>, options?: TransactionOptions): Promise<T> {
    this.#open()
    return await this.#transactions.run(callback, options)
  }

  /**
   * The index of kind `cidr` with this name, to be asked at once, on this thread.
   *
   * @throws {ZqliteError} `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`
   */
  cidr(name: string): CidrIndex {
    this.#open()
    if (typeof name !== 'string') throw new ZqliteError('ERR_TYPE', `name must be a string, not ${show(name)}`)
    return new NativeCidr(this.#session.channel.cidrIndex(name))
  }

  /**
   * The index of kind `bitmap` with this name, to be asked at once, on this thread.
   *
   * @throws {ZqliteError} `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`
   */
  bitmap(name: string): BitmapIndex {
    this.#open()
    if (typeof name !== 'string') throw new ZqliteError('ERR_TYPE', `name must be a string, not ${show(name)}`)
    return new NativeBitmap(this.#session.channel.bitmapIndex(name))
  }

  /**
   * The index of kind `acl` with this name, to be asked at once, on this thread.
   *
   * @throws {ZqliteError} `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`
   */
  acl(name: string): AclIndex {
    this.#open()
    if (typeof name !== 'string') throw new ZqliteError('ERR_TYPE', `name must be a string, not ${show(name)}`)
    return new NativeAcl(this.#session.channel.aclIndex(name))
  }

  /** SQLite's plan for a statement, which is not run. */
  async explainQuery(sql: string, params?: Params, options?: CallOptions): Promise<QueryPlanStep[]> {
    if (typeof sql !== 'string') throw new ZqliteError('ERR_TYPE', 'sql must be a string')
    const rows = await this.query<QueryPlanStep>(`EXPLAIN QUERY PLAN ${sql}`, params, options)
    return rows.map(({ id, parent, detail }) => ({ id, parent, detail }))
  }

  /**
   * Asks, beside all lanes, whether the database can be read. What is wrong is told in the answer, also that there was none
   * within `timeout` (default: `pool.connectionTimeout`); it rejects only when it is cancelled or the database was closed before.
   */
  async healthCheck(options?: CallOptions): Promise<Health> {
    this.#open()
    const { channel } = this.#session
    const { timeout = channel.connectionTimeout, signal } = checked(options) ?? {}
    const started = performance.now()
    try {
      const { health, metrics } = await channel.health(timeout, signal)
      return healthOf(health.failure == null ? undefined : fromNative(new Error(health.failure)), health.elapsedMs, toMetrics(metrics))
    } catch (error) {
      if (!(error instanceof ZqliteError && error.code === 'ERR_DEADLINE')) throw error
      return healthOf(error, performance.now() - started, toMetrics(channel.metrics()))
    }
  }

  /**
   * Copies the database as it is now to another file, while reads and writes go on. The copy has its name only when it is
   * complete and on disk. It needs no more memory than a few pages; the write-ahead log grows by what is written meanwhile.
   *
   * @returns the pages copied
   * @throws {ZqliteError} `ERR_CANNOT_OPEN` when the file is there already, comes to be meanwhile, is in use, or cannot be made,
   *   `ERR_LOCKED_BY_PROCESS` when another process uses it or another backup goes there, `ERR_BUSY` when another program keeps the
   *   unfinished copy locked, `ERR_DISK_FULL`, `ERR_IO`, `ERR_CANCELLED`, `ERR_DEADLINE`;
   *   `ERR_NOT_ALLOWED` for `':memory:'`
   */
  async backup(path: string, options: BackupOptions = {}): Promise<number> {
    this.#open()
    known('', options, { overwrite: true, pagesPerStep: true, pause: true, progress: true, signal: true, timeout: true })
    if (typeof path !== 'string' || path === '' || path.includes('\0')) throw new ZqliteError('ERR_TYPE', `path must be a file name, not ${show(path)}`)
    const { overwrite = false, pagesPerStep = 1_000, pause = 0, progress = () => {}, signal, timeout } = options
    const bounds = checked({ ...(signal !== undefined && { signal }), ...(timeout !== undefined && { timeout }) })
    if (!Number.isInteger(pagesPerStep) || pagesPerStep < 1 || pagesPerStep > 1_000_000) {
      throw new ZqliteError('ERR_TYPE', `pagesPerStep must be a whole number from 1 to 1000000, not ${show(pagesPerStep)}`)
    }
    if (typeof overwrite !== 'boolean') throw new ZqliteError('ERR_TYPE', `overwrite must be true or false, not ${show(overwrite)}`)
    if (typeof progress !== 'function') throw new ZqliteError('ERR_TYPE', `progress must be a function, not ${show(progress)}`)
    const native = { path, overwrite, pages: pagesPerStep, pause: parseDuration('pause', pause), ...(bounds?.timeout !== undefined && { timeout: bounds.timeout }) }
    const started = performance.now()
    const { total } = await this.#session.channel.backup(native, progress, signal)
    this.#session.channel.tracer.logger?.info({ path, pages: total, duration: performance.now() - started }, 'backup made')
    return total
  }

  /** Moves the write-ahead log into the database file. That happens by itself; this is for who copies the file. */
  async checkpoint(mode: CheckpointMode = 'passive', options?: CallOptions): Promise<CheckpointResult> {
    this.#open()
    this.#transactions.refuseInside('checkpoint()')
    const number = checkpointModes.indexOf(mode)
    if (number < 0) throw new ZqliteError('ERR_TYPE', `a checkpoint is ${checkpointModes.join(', ')}, not ${show(mode)}`)
    const result = await this.#session.control(Operation.Maintain, number + 1, options)
    const [row] = (result?.rows ?? []) as { busy: number; log: number; checkpointed: number }[]
    const { busy = 0, log = 0, checkpointed = 0 } = row ?? {}
    return { busy: busy !== 0, logFrames: log, checkpointedFrames: checkpointed }
  }

  /** Rewrites the file without its free pages. Writes wait meanwhile; the file's size is needed once more on disk. */
  async vacuum(options?: CallOptions): Promise<void> {
    this.#open()
    this.#transactions.refuseInside('vacuum()')
    await this.#session.control(Operation.Maintain, VACUUM, options)
  }

  /** The size of the database and what it consists of. */
  async stats(options?: CallOptions): Promise<DatabaseStats> {
    const row = await this.get<Omit<DatabaseStats, 'bytes' | 'walBytes'>>(
      `SELECT page_size AS pageSize, page_count AS pageCount, freelist_count AS freePages,
         (SELECT count(*) FROM sqlite_schema WHERE type = 'table') AS tables, (SELECT count(*) FROM sqlite_schema WHERE type = 'index') AS indexes
       FROM pragma_page_size, pragma_page_count, pragma_freelist_count`,
      [],
      options,
    )
    const { pageSize = 0, pageCount = 0, freePages = 0, tables = 0, indexes = 0 } = row ?? {}
    return { bytes: pageSize * pageCount, walBytes: this.metrics().walBytes, pageSize, pageCount, freePages, tables, indexes }
  }

  /** The counters now. */
  metrics(): Metrics {
    this.#open()
    return toMetrics(this.#session.channel.metrics())
  }

  /** The counters as Prometheus reads them: text format 0.0.4, or OpenMetrics 1.0. */
  prometheus(format: 'prometheus' | 'openmetrics' = 'prometheus'): string {
    if (format !== 'prometheus' && format !== 'openmetrics') throw new ZqliteError('ERR_TYPE', `format must be 'prometheus' or 'openmetrics', not ${show(format)}`)
    const snapshot = snapshotOf(this.metrics())
    return format === 'openmetrics' ? openMetricsText(snapshot) : prometheusText(snapshot)
  }

  /** Adds the counters to a registry of the package prom-client. Returns what takes them out again, to be called before {@link close}. */
  registerPromClient(register: PromClientRegistry): () => void {
    return registerPromClient(register, () => snapshotOf(this.metrics()))
  }

  /**
   * Brings the file to the newest version: applies the migrations that it has not seen, in order, each in a transaction.
   *
   * @param migrations a list, or a folder of files such as `0001_peers.sql`
   * @throws {ZqliteError} `ERR_MIGRATION` when one that was applied is missing or was changed, or newer code has been here
   */
  async migrate(migrations: readonly Migration<Transaction>[] | string | URL, options: MigrateOptions = {}): Promise<MigrationResult> {
    this.#open()
    const given = checkedMigrateOptions(options)
    const { logger } = this.#session.channel.tracer
    const onProgress = (progress: MigrationProgress): void => {
      if (progress.state === 'applied') logger?.info({ version: progress.version, name: progress.name }, 'migration applied')
      given.onProgress?.(progress)
    }
    return await migrate<Transaction>(this, migrations, { ...given, onProgress })
  }

  /**
   * Refuses new calls, ends streams (with `ERR_CLOSED`, as they may be read at any pace), waits for the other calls in flight and
   * for transactions, closes the file. Calling it again waits for the same.
   *
   * @throws {ZqliteError} `ERR_TRANSACTION_STATE` within a transaction's callback, which it would wait for
   */
  async close(): Promise<void> {
    this.#transactions.refuseInside('close()')
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    const { channel } = this.#session
    await this.#transactions.ended()
    await channel.close()
    channel.tracer.logger?.debug({}, 'database closed')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #open(): void {
    if (this.#closing) throw new ZqliteError('ERR_CLOSED', 'the database is closed')
  }

  #atOnce(sql: string, call: SyncCall): Interned {
    this.#open()
    // What reads a file waits for nobody.
    if (call === 'executeSync' || this.#session.channel.inMemory) this.#transactions.refuseMeanwhile(`${call}()`)
    return this.#session.channel.intern(sql)
  }

  #reading(sql: string, what: string): Interned {
    this.#open()
    const statement = this.#session.channel.intern(sql)
    if (statement.writes) this.#transactions.refuseInside(what)
    return statement
  }
}
