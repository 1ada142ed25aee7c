/** One catalogue of everything that can go wrong: the same list as in Rust and in `docs/errors.md`. */

/** Every code with what it means and whether the same call may succeed later without being changed. */
export const errorCatalogue = {
  ERR_SQL: { retryable: false, description: 'SQLite refused the statement: a syntax error, an unknown name, or a run-time failure such as an overflow.' },
  ERR_CONSTRAINT: { retryable: false, description: 'A UNIQUE, CHECK, NOT NULL, PRIMARY KEY, foreign-key or trigger constraint refused the change.' },
  ERR_EXPECTATION_FAILED: { retryable: false, description: 'A statement of a batch returned another number of rows or changes than it was told to expect; the batch was rolled back.' },
  ERR_PARAMETERS: { retryable: false, description: 'The parameters do not fit the statement: too few, too many, or an unknown name.' },
  ERR_TYPE: { retryable: false, description: 'A value or option has a type or range that is not accepted.' },
  ERR_NOT_ALLOWED: { retryable: false, description: 'The statement changes the state of a connection (transaction control, TEMP, ATTACH, a connection pragma, changes()), which calls share.' },
  ERR_CLOSED: { retryable: false, description: 'The database is closed or closing.' },
  ERR_BUSY: { retryable: true, description: "Another process holds SQLite's lock on the file." },
  ERR_LOCKED_BY_PROCESS: { retryable: true, description: 'Another process owns the database file.' },
  ERR_QUEUE_FULL: { retryable: true, description: 'Too many calls are waiting; nothing was started.' },
  ERR_DEADLINE: { retryable: true, description: "The call's time ran out; it was rolled back." },
  ERR_POOL_TIMEOUT: { retryable: true, description: 'No connection was free within connectionTimeout; nothing was started.' },
  ERR_CANCELLED: { retryable: false, description: 'The caller cancelled the call; it was rolled back.' },
  ERR_SNAPSHOT_TOO_OLD: { retryable: true, description: 'A read held its snapshot for so long that the write-ahead log could not be kept within its limit.' },
  ERR_STEP_BUDGET: { retryable: false, description: 'A synchronous call took more steps than it may take on the JavaScript thread; make it an asynchronous one.' },
  ERR_TRANSACTION_TIMEOUT: { retryable: true, description: 'A callback transaction held the writer lane for too long, or left it idle; it was rolled back.' },
  ERR_TRANSACTION_STATE: { retryable: false, description: 'The call does not fit the state of the transaction: it has ended, or a database object was used within its own callback, or at once on its thread.' },
  ERR_READONLY: { retryable: false, description: 'The database was opened read-only, or went read-only after a failed commit; reopen it.' },
  ERR_COMMIT_UNKNOWN: { retryable: false, description: 'The disk failed during COMMIT: the change may or may not survive. The database is read-only until it is reopened.' },
  ERR_DISK_FULL: { retryable: true, description: 'The disk, or a limit on the size of the database, is full; nothing was changed.' },
  ERR_IO: { retryable: true, description: 'Reading or writing the file failed; nothing was changed.' },
  ERR_CORRUPT: { retryable: false, description: 'The database file is damaged.' },
  ERR_NOT_A_DATABASE: { retryable: false, description: 'The file is not a SQLite database, or is encrypted.' },
  ERR_CANNOT_OPEN: { retryable: false, description: 'The database file cannot be opened: the folder is missing, or permission is denied.' },
  ERR_TOO_LARGE: { retryable: false, description: 'A value, a statement or a request is larger than the limit.' },
  ERR_OUT_OF_MEMORY: { retryable: true, description: 'There was not enough memory for the call.' },
  ERR_MIGRATION: { retryable: false, description: 'The migrations given and those applied to the file do not agree: one was changed or is missing, or the file was migrated by newer code; nothing was changed.' },
  ERR_CIDR_SYNTAX: { retryable: false, description: 'The text is not an address, prefix or range.' },
  ERR_ACL_RULE: { retryable: false, description: 'The access rule or peer is not valid.' },
  ERR_ACL_UNKNOWN: { retryable: false, description: 'No peer or class of the engine has this number.' },
  ERR_ADDON: { retryable: false, description: 'The native addon does not load: no prebuilt binary is installed for this platform, or the system refuses it.' },
  ERR_INDEX_DEFINITION: { retryable: false, description: 'The index cannot be: its kind, table, columns or options are wrong, or its name is taken.' },
  ERR_INDEX_ROW: { retryable: false, description: 'A row does not fit an index of its table: a value does not parse; nothing was changed.' },
  ERR_INDEX_UNKNOWN: { retryable: false, description: 'There is no index of this name and kind.' },
  ERR_INDEX_UNUSABLE: { retryable: false, description: 'The index cannot answer: its definition no longer fits its table, or a row that was there before it was opened does not parse.' },
  ERR_FILTER_SYNTAX: { retryable: false, description: 'The filter of a bitmap index is not understood.' },
  ERR_INTERNAL: { retryable: false, description: 'A defect in zqlite; please report it.' },
} as const satisfies Record<string, { retryable: boolean; description: string }>

/** A code of the catalogue. */
export type ErrorCode = keyof typeof errorCatalogue

/** The codes by their number in the native part. */
const codes = Object.keys(errorCatalogue) as ErrorCode[]

/** What is known of a failure beyond its code and message. */
export interface ErrorDetails {
  /** For `ERR_CONSTRAINT`: `unique`, `check`, `notnull`, `primarykey`, `foreignkey`, `trigger`, … */
  constraint?: string
  /** In a batch: the statement that failed, counted from 0. */
  statement?: number
  /** SQLite's extended result code. */
  sqliteCode?: number
  /** `'unknown'` when a change may or may not have happened; absent when nothing of it happened. */
  outcome?: 'unknown'
  /** The error behind this one. */
  cause?: unknown
}

/** A failure of zqlite. */
export class ZqliteError extends Error {
  override readonly name = 'ZqliteError'
  /** Which line of the catalogue. */
  readonly code: ErrorCode
  /** Whether the same call may succeed later without being changed. */
  readonly retryable: boolean
  declare readonly constraint?: string
  declare readonly statement?: number
  declare readonly sqliteCode?: number
  declare readonly outcome?: 'unknown'

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    const { cause, ...rest } = details
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.retryable = errorCatalogue[code].retryable
    Object.assign(this, rest)
  }
}

/** A failure as the native part packs it, not yet an error: the caller's `await` makes it one, and so gives it its stack. */
export class Failure {
  constructor(
    readonly code: number,
    readonly text: string,
    readonly unknown: boolean,
    readonly statement: number,
    readonly sqliteCode: number,
  ) {}

  /** The error; to be called in the async function that the caller awaits. */
  toError(): ZqliteError {
    const end = this.text.lastIndexOf('\0')
    return makeError({
      code: codes[this.code] ?? 'ERR_INTERNAL',
      message: this.text.slice(0, end),
      constraint: this.text.slice(end + 1) || null,
      statement: this.statement < 0 ? null : this.statement,
      sqliteCode: this.sqliteCode,
      unknown: this.unknown,
    })
  }
}

interface NativeFields {
  code: ErrorCode
  message: string
  constraint?: string | null
  statement?: number | null
  sqliteCode?: number
  unknown?: boolean
}

function makeError(fields: NativeFields): ZqliteError {
  return new ZqliteError(fields.code, fields.message, {
    ...(fields.constraint != null && { constraint: fields.constraint }),
    ...(fields.statement != null && { statement: fields.statement }),
    ...(fields.sqliteCode && { sqliteCode: fields.sqliteCode }),
    ...(fields.unknown && { outcome: 'unknown' as const }),
  })
}

/** Turns what a synchronous native call threw, or an opening rejected with, into a {@link ZqliteError}. */
export function fromNative(error: unknown): ZqliteError {
  if (error instanceof ZqliteError) return error
  const message = error instanceof Error ? error.message : String(error)
  if (message.startsWith('{')) {
    try {
      return makeError(JSON.parse(message) as NativeFields)
    } catch {
      // Not ours after all.
    }
  }
  // napi's own complaint about an argument.
  return new ZqliteError('ERR_TYPE', message, { cause: error })
}

/** Makes a synchronous native call; what it throws becomes a {@link ZqliteError}. */
export function callNative<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}
