/** libsql, synchronous. */
import { synchronous } from './better-sqlite3.js'

export const open = synchronous('libsql')
