/** better-sqlite3. */
import { createRequire } from 'node:module'
import type { Open } from './driver.js'
import { type Connection, synchronous } from './synchronous.js'

export const open: Open = (path, cache) => {
  const Sqlite = createRequire(import.meta.url)('better-sqlite3') as new (path: string) => Connection
  return synchronous(new Sqlite(path), cache)
}
