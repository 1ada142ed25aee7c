/**
 * Brings a file's schema to the version that the program was written for: numbered steps, each applied once, in order, in a
 * transaction of its own together with its record in `zqlite_migration`.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Duration, known, show } from './config'
import { type ErrorCode, ZqliteError } from './errors'
import type { Params } from './params'
import { type CallOptions, checked as checkedCall } from './session'
import { type SqlStatement, splitStatements } from './split'

/** What a migration is given to work with: a {@link Transaction}, or whatever else has these two calls. */
export interface MigrationTransaction {
  execute(sql: string, params?: Params): Promise<unknown>
  query<Row = Record<string, unknown>>(sql: string, params?: Params): Promise<Row[]>
}

/** What {@link migrate} needs of a database. */
export interface MigrationDatabase<Tx extends MigrationTransaction = MigrationTransaction> {
  query<Row = Record<string, unknown>>(sql: string, params?: Params, options?: CallOptions): Promise<Row[]>
  transaction<T>(callback: (transaction: Tx) => Promise<T>, options?: CallOptions): Promise<T>
}

/** One step of the schema. */
export interface Migration<Tx extends MigrationTransaction = MigrationTransaction> {
  /** From 1 on, without gaps. */
  version: number
  name: string
  /**
   * SQL, any number of statements; or a function, which must change nothing but through the transaction that it is given.
   * What a function does cannot be checked later, since its text differs from build to build: its name is, instead.
   */
  up: string | ((transaction: Tx) => Promise<void>)
}

/** Which step something is about. */
export interface MigrationStep {
  version: number
  name: string
}

/** How far {@link migrate} has come. */
export interface MigrationProgress extends MigrationStep {
  state: 'running' | 'applied'
  /** Steps that were applied by this call so far. */
  done: number
  /** Steps that this call has to apply. */
  total: number
}

/** Options of {@link migrate}. */
export interface MigrateOptions {
  /** Only say what would be done; nothing is changed. Default false. */
  dryRun?: boolean
  /** Called before and after each step. What it throws ends the migration at that place. */
  onProgress?: (progress: MigrationProgress) => void
  /** Undoes the step that runs, and ends the migration. Steps that were applied remain. */
  signal?: AbortSignal
  /** All steps together take at most this long, else `ERR_DEADLINE`, as with the signal. */
  timeout?: Duration
}

/** What {@link migrate} did. */
export interface MigrationResult {
  /** The version before, 0 for a new file. */
  from: number
  /** The version now; with `dryRun`, the version that would be reached. */
  to: number
  /** The steps that this call applied; with `dryRun`, those that it would apply. */
  steps: MigrationStep[]
}

const migrateOptions: Record<keyof MigrateOptions, true> = { dryRun: true, onProgress: true, signal: true, timeout: true }

const migrationFields: Record<keyof Migration, true> = { version: true, name: true, up: true }

const MISMATCH: ErrorCode = 'ERR_MIGRATION'

/** The file and the program do not agree on what has been applied. Nothing was changed. */
export class MigrationError extends ZqliteError {
  /**
   * `changed`: the step was applied with another content. `missing`: it was applied, and the program does not have it.
   * `newer`: it was applied by a newer program, and this one would work on a schema that it does not know.
   */
  readonly reason: 'changed' | 'missing' | 'newer'
  /** The step that does not agree. */
  readonly version: number

  constructor(reason: MigrationError['reason'], version: number, message: string) {
    super(MISMATCH, message)
    this.reason = reason
    this.version = version
  }
}

/** The checksum is SHA-256 in hexadecimal, the time ISO 8601 in UTC. */
const CREATE_TABLE = `CREATE TABLE IF NOT EXISTS zqlite_migration (
  version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL
) STRICT`

interface Planned<Tx extends MigrationTransaction> extends Migration<Tx> {
  checksum: string
}

interface Applied extends MigrationStep {
  checksum: string
}

/**
 * Applies the migrations that have not been applied yet. Several callers may do so at once; each step is applied once.
 *
 * A step is a callback transaction: it has the time of one (`transactions` of {@link DatabaseOptions}; an index on a large
 * table may need more than the default 5 s), and foreign keys are enforced in it, also while a table is replaced.
 *
 * @param migrations an array in any order, or a folder of files `0001_name.sql`
 * @throws {MigrationError} when an applied migration was changed or is missing, or the file was migrated by newer code
 * @throws {ZqliteError} `ERR_TYPE` for gaps, duplicates or a wrong option; `ERR_CANCELLED`, `ERR_DEADLINE`; or the code of the
 *   statement that failed, with the migration and line in the message, its index in `statement`, and that error as `cause`.
 *   What the function of a migration throws is passed on as it is. In each case that step is undone and those before it stay.
 */
export async function migrate<Tx extends MigrationTransaction>(
  db: MigrationDatabase<Tx>,
  migrations: readonly Migration<Tx>[] | string | URL,
  options: MigrateOptions = {},
): Promise<MigrationResult> {
  const { dryRun, onProgress, signal, timeout } = checkedMigrateOptions(options)
  const end = timeout === undefined ? undefined : performance.now() + timeout
  const bounds = (): CallOptions => ({
    ...(signal !== undefined && { signal }),
    ...(end !== undefined && { timeout: Math.max(0, end - performance.now()) }),
  })
  const given = typeof migrations === 'string' || migrations instanceof URL ? await readFolder(migrations) : migrations
  const plan = checked<Tx>(given)
  const [table] = await db.query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'zqlite_migration'", [], bounds())
  const applied = table === undefined ? [] : await readApplied(db, bounds())
  compare(plan, applied)
  refuseGaps(plan)

  const from = applied.length
  const pending = plan.slice(from)
  const steps: MigrationStep[] = []
  for (const migration of pending) {
    const { version, name } = migration
    cancelled(signal, migration)
    if (end !== undefined && performance.now() >= end) throw new ZqliteError('ERR_DEADLINE', `the time ran out at ${title(migration)}`)
    if (!dryRun) {
      const progress = { version, name, total: pending.length }
      onProgress?.({ ...progress, state: 'running', done: steps.length })
      const done = await apply(db, plan, migration, bounds()).catch((error: unknown) => {
        if (error instanceof ZqliteError && error.code === 'ERR_CANCELLED') cancelled(signal, migration)
        throw error
      })
      if (!done) continue
      onProgress?.({ ...progress, state: 'applied', done: steps.length + 1 })
    }
    steps.push({ version, name })
  }
  return { from, to: plan.length, steps }
}

/** Options with `dryRun`, and the timeout in milliseconds. Throws `ERR_TYPE` naming the option. */
export function checkedMigrateOptions(options: MigrateOptions): MigrateOptions & { dryRun: boolean; timeout?: number } {
  known('', options, migrateOptions)
  // By name: options may be inherited, and a function may want its object.
  const { dryRun = false, onProgress, signal, timeout } = options
  if (typeof dryRun !== 'boolean') throw new ZqliteError('ERR_TYPE', `dryRun must be true or false, not ${show(dryRun)}`)
  if (onProgress !== undefined && typeof onProgress !== 'function') throw new ZqliteError('ERR_TYPE', `onProgress must be a function, not ${show(onProgress)}`)
  const bounds = { ...(signal !== undefined && { signal }), ...(timeout !== undefined && { timeout }) }
  return { dryRun, ...(onProgress !== undefined && { onProgress: onProgress.bind(options) }), ...checkedCall(bounds) }
}

/** Applies one step; false when somebody else has done so meanwhile. */
async function apply<Tx extends MigrationTransaction>(db: MigrationDatabase<Tx>, plan: readonly Planned<Tx>[], migration: Planned<Tx>, bounds: CallOptions): Promise<boolean> {
  return await db.transaction(async (tx) => {
    await tx.execute(CREATE_TABLE)
    const applied = await readApplied(tx)
    compare(plan, applied)
    if (applied.length >= migration.version) return false
    if (typeof migration.up === 'string') await runSql(tx, migration, migration.up)
    else await migration.up(tx)
    await tx.execute('INSERT INTO zqlite_migration VALUES (?, ?, ?, ?)', [migration.version, migration.name, migration.checksum, new Date()])
    return true
  }, bounds)
}

async function runSql(tx: MigrationTransaction, migration: MigrationStep, sql: string): Promise<void> {
  for (const [i, statement] of splitStatements(sql).entries()) {
    try {
      await tx.query(statement.sql)
    } catch (error) {
      throw error instanceof ZqliteError ? located(error, migration, i, statement) : error
    }
  }
}

function located(error: ZqliteError, migration: MigrationStep, index: number, { line }: SqlStatement): ZqliteError {
  const { constraint, sqliteCode, outcome } = error
  return new ZqliteError(error.code, `${title(migration)}, line ${line}: ${error.message}`, {
    statement: index,
    cause: error,
    ...(constraint !== undefined && { constraint }),
    ...(sqliteCode !== undefined && { sqliteCode }),
    ...(outcome !== undefined && { outcome }),
  })
}

async function readApplied(db: Pick<MigrationDatabase, 'query'>, options?: CallOptions): Promise<Applied[]> {
  return await db.query<Applied>('SELECT version, name, checksum FROM zqlite_migration ORDER BY version', [], options)
}

/** Throws unless what was applied is the beginning of the plan. */
function compare(plan: readonly Planned<never>[], applied: readonly Applied[]): void {
  const last = plan.at(-1)?.version ?? 0
  for (const [i, was] of applied.entries()) {
    if (was.version > last) throw new MigrationError('newer', was.version, `the file has ${title(was)}, and this program's last is ${last}`)
    if (was.version !== i + 1) throw new MigrationError('missing', i + 1, `the file has ${title(was)} but no record of migration ${i + 1}`)
    const now = plan.find(({ version }) => version === was.version)
    if (now === undefined) throw new MigrationError('missing', was.version, `the file has ${title(was)}, which is not given`)
    if (was.checksum !== now.checksum) throw new MigrationError('changed', was.version, `${title(was)} was changed after it had been applied`)
  }
}

function refuseGaps(plan: readonly MigrationStep[]): void {
  for (const [i, migration] of plan.entries()) {
    if (migration.version !== i + 1) throw new ZqliteError('ERR_TYPE', `migration ${i + 1} is not given, but ${title(migration)} is`)
  }
}

/** Checks the migrations one by one, and puts them in order with their checksums. */
function checked<Tx extends MigrationTransaction>(migrations: readonly Migration<Tx>[]): Planned<Tx>[] {
  if (!Array.isArray(migrations)) throw new ZqliteError('ERR_TYPE', `migrations must be an array or a folder, not ${show(migrations)}`)
  const plan = new Map<number, Planned<Tx>>()
  for (const [i, migration] of (migrations as readonly Migration<Tx>[]).entries()) {
    if (typeof migration !== 'object' || migration === null) throw new ZqliteError('ERR_TYPE', `migrations[${i}] must be an object, not ${show(migration)}`)
    known(`migrations[${i}].`, migration, migrationFields)
    const { version, name, up } = migration
    if (!Number.isSafeInteger(version) || version < 1) throw new ZqliteError('ERR_TYPE', `the version of a migration must be 1 or more, not ${show(version)}`)
    if (typeof name !== 'string' || name === '') throw new ZqliteError('ERR_TYPE', `migration ${version} needs a name`)
    if (typeof up !== 'string' && typeof up !== 'function') {
      throw new ZqliteError('ERR_TYPE', `${title(migration)}: up must be SQL or a function, not ${show(up)}`)
    }
    const twin = plan.get(version)
    if (twin !== undefined) throw new ZqliteError('ERR_TYPE', `migration ${version} is given twice: ${show(twin.name)} and ${show(name)}`)
    plan.set(version, { version, name, up, checksum: checksum(typeof up === 'string' ? up : name) })
  }
  return [...plan.values()].sort((a, b) => a.version - b.version)
}

/** SHA-256 of a text, whatever its line endings: version control may change those. */
function checksum(text: string): string {
  return createHash('sha256').update(text.replaceAll('\r\n', '\n')).digest('hex')
}

async function readFolder(folder: string | URL): Promise<(MigrationStep & { up: string })[]> {
  const path = typeof folder === 'string' ? folder : fileURLToPath(folder)
  try {
    const files = (await readdir(path)).filter((file) => file.endsWith('.sql'))
    return await Promise.all(files.map(async (file) => {
      const [, version, name] = /^(\d{1,9})_(.+)\.sql$/.exec(file) ?? []
      // One that is passed over for its name would be missed much later.
      if (version === undefined || name === undefined) throw new ZqliteError('ERR_TYPE', `${file} is not named like 0001_name.sql`)
      // A byte order mark is no part of the SQL.
      return { version: Number(version), name, up: (await readFile(join(path, file), 'utf8')).replace(/^\ufeff/, '') }
    }))
  } catch (error) {
    if (error instanceof ZqliteError) throw error
    throw new ZqliteError('ERR_TYPE', `the migrations in ${show(path)} cannot be read`, { cause: error })
  }
}

function cancelled(signal: AbortSignal | undefined, migration: MigrationStep): void {
  if (signal?.aborted) throw new ZqliteError('ERR_CANCELLED', `cancelled at ${title(migration)}`, { cause: signal.reason })
}

function title({ version, name }: MigrationStep): string {
  return `migration ${version} (${name})`
}
