/** What several tests need: temporary folders and child processes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { Database, type DatabaseOptions, type ErrorCode, ZqliteError } from 'zqlite'

/** A folder that is gone after the test. */
export function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'zqlite-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** An open database in a folder of its own, closed after the test. */
export async function fresh(t: ExecutionContext, options?: DatabaseOptions): Promise<Database & { path: string }> {
  const path = join(folder(t), 'test.db')
  const db = await Database.open(path, options)
  t.teardown(() => db.close())
  return Object.assign(db, { path })
}

/** Asserts that a promise rejects with this code, and returns the error. */
export async function rejects(t: ExecutionContext, code: ErrorCode, promise: Promise<unknown>): Promise<ZqliteError> {
  const error = await t.throwsAsync(promise, { instanceOf: ZqliteError })
  t.is(error.code, code, error.message)
  return error
}
