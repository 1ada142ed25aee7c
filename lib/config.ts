/** Options of a database: their defaults, units and limits. */
import type { NativeOptions } from '../native'
import { ZqliteError } from './errors'
import { didYouMean } from './nearest'
import type { Logger, SlowQueryOptions } from './tracing'

/** Milliseconds, or a number with a unit: `'250ms'`, `'30s'`, `'10m'`, `'1h'`. */
export type Duration = number | string
/** Bytes, or a number with a unit: `'64KB'`, `'512MB'`, `'2GB'` (powers of 1024). */
export type Size = number | string

/** Bounds of lanes and waiting calls. */
export interface PoolOptions {
  /** Connections that stay open however long they are idle, 1 to 200; default 10. */
  minConnections?: number
  /** Connections and waiting slots at most, 5 to 200; default 100. */
  maxConnections?: number
  /** How long a call waits for a lane; default 30 s. */
  connectionTimeout?: Duration
  /** An idle connection above the minimum is closed after this long; default 10 min. */
  idleTimeout?: Duration
  /** A connection is replaced after this long; default 30 min. */
  maxLifetime?: Duration
  /** How often it is checked that the database can be read, which is logged and counted when it cannot; default 60 s. */
  healthCheckInterval?: Duration
  /** Calls that may wait; one more fails with `ERR_QUEUE_FULL`. Default 65,536. */
  queueLimit?: number
}

/** Bounds of callback transactions, which own the writer lane. */
export interface TransactionLimits {
  /** From BEGIN to COMMIT; default 5 s. */
  total?: Duration
  /** Between two calls; default 1 s. */
  idle?: Duration
}

/** Bounds of the write-ahead log. */
export interface WalLimits {
  /**
   * Writes wait at three quarters of this until the log can begin anew, so only a commit of more than the last quarter makes it
   * larger, and writes while that is moved, by as much as the limit; at least 4 MB, default 64 MB.
   */
  limit?: Size
  /** A read older than this that they wait for ends in `ERR_SNAPSHOT_TOO_OLD`; default 30 s. */
  maxReadAge?: Duration
}

/** Options of {@link Database.open}. */
export interface DatabaseOptions {
  /** Open an existing file without writing; default false. */
  readonly?: boolean
  /**
   * Let other processes that open it shared use the file too; default false. Writes of another process are waited for, at
   * most 5 s, then `ERR_BUSY`. See docs/database.md for what it costs.
   */
  shared?: boolean
  /** The page cache of all connections together; default 64 MB. */
  cacheSize?: Size
  /** Whether independent writes that wait together share one commit (group commit); default true. */
  parallelWrites?: boolean
  pool?: PoolOptions
  transactions?: TransactionLimits
  wal?: WalLimits
  /** Further database files by the name of their schema. Commits that change several files are atomic in each, not across. */
  attach?: Record<string, string | { path: string; readonly?: boolean }>
  /**
   * Pragmas for every connection, other than those that zqlite sets itself; `page_size`, `auto_vacuum` and `encoding` hold for
   * a new file, those that begin with `zqlite_` for the database.
   */
  pragmas?: Record<string, string | number | boolean>
  /** SQLite's run-time limits for every connection. */
  limits?: Limits
  /** Shared libraries with SQL functions or virtual tables to load into every connection; default none. */
  extensions?: readonly string[]
  /** Tells of calls that take long. */
  slowQuery?: SlowQueryOptions
  /** Is told of opening, closing, backups, migrations, slow calls, and of a commit whose outcome is unknown. */
  logger?: Logger
  /** Steps of SQLite's virtual machine that a synchronous call may take; default 10 million, some hundred milliseconds. */
  syncSteps?: number
}

/** SQLite's run-time limits, see https://sqlite.org/limits.html. Values above those that it was compiled with change nothing. */
export interface Limits {
  /** Bytes of a text, blob or row. */
  length?: number
  /** Bytes of a statement. */
  sqlLength?: number
  column?: number
  exprDepth?: number
  compoundSelect?: number
  vdbeOp?: number
  functionArg?: number
  attached?: number
  likePatternLength?: number
  variableNumber?: number
  triggerDepth?: number
}

const limitNames: Record<keyof Limits, true> = {
  length: true,
  sqlLength: true,
  column: true,
  exprDepth: true,
  compoundSelect: true,
  vdbeOp: true,
  functionArg: true,
  attached: true,
  likePatternLength: true,
  variableNumber: true,
  triggerDepth: true,
}

const defaults = {
  readonly: false,
  shared: false,
  cacheSize: 64 * 2 ** 20,
  parallelWrites: true,
  pool: {
    minConnections: 10,
    maxConnections: 100,
    connectionTimeout: 30_000,
    idleTimeout: 600_000,
    maxLifetime: 1_800_000,
    healthCheckInterval: 60_000,
    queueLimit: 65_536,
  },
  transactions: { total: 5_000, idle: 1_000 },
  wal: { limit: 64 * 2 ** 20, maxReadAge: 30_000 },
  attach: {},
  pragmas: {},
  limits: {},
  extensions: [],
  slowQuery: undefined,
  logger: undefined,
  syncSteps: 10_000_000,
} as const

/** What {@link resolveOptions} reads, all of it there. */
type Given = Required<Omit<DatabaseOptions, 'slowQuery' | 'logger'>>

/** Options with the defaults of those that are `undefined`. What is `null` was given, and is no value of any. */
function filled<All extends object>(options: Partial<All>, all: All): All {
  const given = { ...all }
  for (const name of Object.keys(all) as (keyof All)[]) {
    const value = options[name]
    if (value !== undefined) given[name] = value as All[typeof name]
  }
  return given
}

/** Fills in the defaults and checks every value. Throws `ERR_TYPE` naming the option. */
export function resolveOptions(path: string, options: DatabaseOptions): NativeOptions {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new ZqliteError('ERR_TYPE', `path must be a file name or ':memory:', not ${show(path)}`)
  }
  known('', options, defaults)
  const given = filled<Given>(options, defaults)
  known('pool.', given.pool, defaults.pool)
  known('transactions.', given.transactions, defaults.transactions)
  known('wal.', given.wal, defaults.wal)
  const pool = filled<Required<PoolOptions>>(given.pool, defaults.pool)
  const limits = filled<Required<TransactionLimits>>(given.transactions, defaults.transactions)
  const wal = filled<Required<WalLimits>>(given.wal, defaults.wal)
  const walLimit = parseSize('wal.limit', wal.limit)
  if (walLimit < 4 * 2 ** 20) throw new ZqliteError('ERR_TYPE', `wal.limit must be at least 4 MB, not ${show(wal.limit)}`)
  const maxConnections = integer('pool.maxConnections', pool.maxConnections, 5, 200)
  const isMinGiven = given.pool.minConnections !== undefined
  const minConnections = integer('pool.minConnections', isMinGiven ? pool.minConnections : Math.min(pool.minConnections, maxConnections), 1, 200)
  if (minConnections > maxConnections) {
    throw new ZqliteError('ERR_TYPE', `pool.minConnections (${minConnections}) is above pool.maxConnections (${maxConnections})`)
  }
  return {
    ...(path !== ':memory:' && { path }),
    readonly: boolean('readonly', given.readonly),
    shared: boolean('shared', given.shared),
    cacheSize: parseSize('cacheSize', given.cacheSize),
    parallelWrites: boolean('parallelWrites', given.parallelWrites),
    minConnections,
    maxConnections,
    connectionTimeout: parseDuration('pool.connectionTimeout', pool.connectionTimeout, 1),
    idleTimeout: parseDuration('pool.idleTimeout', pool.idleTimeout),
    maxLifetime: parseDuration('pool.maxLifetime', pool.maxLifetime, 100),
    healthCheckInterval: parseDuration('pool.healthCheckInterval', pool.healthCheckInterval),
    queueLimit: integer('pool.queueLimit', pool.queueLimit, 1, 2 ** 24),
    transactionTotal: parseDuration('transactions.total', limits.total, 1),
    transactionIdle: parseDuration('transactions.idle', limits.idle, 1),
    walLimit,
    maxReadAge: parseDuration('wal.maxReadAge', wal.maxReadAge),
    syncSteps: integer('syncSteps', given.syncSteps, 1_000, Number.MAX_SAFE_INTEGER),
    attach: Object.entries(record('attach', given.attach)).map(([name, value]) => attached(name, value)),
    pragmas: Object.entries(record('pragmas', given.pragmas)).map(([name, value]) => ({ name: identifier('pragmas', name), value: pragmaValue(name, value) })),
    limits: limitsOf(given.limits),
    extensions: extensionsOf(given.extensions),
  }
}

function attached(name: string, value: unknown): NativeOptions['attach'][number] {
  const option = `attach.${identifier('attach', name)}`
  const given = typeof value === 'string' ? { path: value } : record(option, value)
  known(`${option}.`, given, { path: true, readonly: true })
  const { path, readonly = false } = given as { path?: unknown; readonly?: unknown }
  if (typeof path !== 'string' || path === '' || path === ':memory:' || path.includes('\0')) throw new ZqliteError('ERR_TYPE', `${option} must be a file name, not ${show(path)}`)
  return { name, path, readonly: boolean(`${option}.readonly`, readonly) }
}

function pragmaValue(name: string, value: unknown): string {
  if (typeof value === 'boolean') return value ? '1' : '0'
  if ((typeof value === 'number' && Number.isFinite(value)) || typeof value === 'string') return String(value)
  throw new ZqliteError('ERR_TYPE', `pragmas.${name} must be a text, number or boolean, not ${show(value)}`)
}

function limitsOf(limits: unknown): NativeOptions['limits'] {
  const given = record('limits', limits)
  known('limits.', given, limitNames)
  return Object.entries(given).map(([name, value]) => ({ name, value: integer(`limits.${name}`, value, 0, 2 ** 31 - 1) }))
}

function extensionsOf(extensions: unknown): string[] {
  if (!Array.isArray(extensions) || !extensions.every((path) => typeof path === 'string' && path !== '' && !path.includes('\0'))) {
    throw new ZqliteError('ERR_TYPE', `extensions must be a list of file names, not ${show(extensions)}`)
  }
  return [...(extensions as string[])]
}

function record(name: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ZqliteError('ERR_TYPE', `${name} must be an object, not ${show(value)}`)
  return value as Record<string, unknown>
}

function identifier(option: string, name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(name)) throw new ZqliteError('ERR_TYPE', `${option}: ${show(name)} is not a name`)
  return name
}

/**
 * Refuses options that are no object, `null`, arrays and functions too, as Node's own functions do; and a misspelled one, naming the
 * one that was probably meant. `prefix` is what they are part of, with a dot.
 */
export function known(prefix: string, given: object, allowed: object): void {
  record(prefix.slice(0, -1) || 'options', given)
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(allowed, name)) {
      throw new ZqliteError('ERR_TYPE', `unknown option ${prefix}${name}${didYouMean(name, Object.keys(allowed), prefix)}`)
    }
  }
}

/** Throws `ERR_TYPE` for the first of these that has a field it should not: what is misspelled would be passed over. */
export function knownFields<Item extends object>(name: (item: Item) => string, items: readonly Item[], allowed: Readonly<Record<string, unknown>>): void {
  // Whatever else is wrong with a list is told by whoever reads it.
  if (!Array.isArray(items)) return
  for (const item of items as readonly (Item | null | undefined)[]) {
    if (typeof item !== 'object' || item === null) return
    for (const field in item) {
      if (!Object.hasOwn(allowed, field)) throw new ZqliteError('ERR_TYPE', `${name(item)} has no field ${field}${didYouMean(field, Object.keys(allowed))}`)
    }
  }
}

const durationUnits: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 }
const sizeUnits: Record<string, number> = { B: 1, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }

/** Milliseconds of a {@link Duration}, at most 30 days. Throws `ERR_TYPE` naming the option. */
export function parseDuration(name: string, value: Duration, min = 0): number {
  const ms = withUnit(name, value, durationUnits, 30 * 86_400_000, "milliseconds or a text such as '30s'")
  if (ms < min) throw new ZqliteError('ERR_TYPE', `${name} must be at least ${min} ms, not ${show(value)}`)
  return ms
}

/** Bytes of a {@link Size}. Throws `ERR_TYPE` naming the option. */
export function parseSize(name: string, value: Size): number {
  return withUnit(name, value, sizeUnits, Number.MAX_SAFE_INTEGER, "bytes or a text such as '512MB'")
}

function withUnit(name: string, value: number | string, units: Record<string, number>, max: number, wanted: string): number {
  let result = Number.NaN
  if (typeof value === 'number') {
    result = value
  } else if (typeof value === 'string') {
    const [, number, unit] = /^(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]+)$/.exec(value) ?? []
    if (number !== undefined && unit !== undefined && Object.hasOwn(units, unit)) result = Number(number) * (units[unit] ?? Number.NaN)
  }
  if (!(result >= 0 && result <= max)) throw new ZqliteError('ERR_TYPE', `${name} must be ${wanted}, not ${show(value)}`)
  return Math.round(result)
}

function integer(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new ZqliteError('ERR_TYPE', `${name} must be a whole number from ${min} to ${max}, not ${show(value)}`)
  }
  return value
}

function boolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw new ZqliteError('ERR_TYPE', `${name} must be true or false, not ${show(value)}`)
  return value
}

/** A short picture of a value for an error message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object'
  return String(value)
}
