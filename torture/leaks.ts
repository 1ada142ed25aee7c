/** `leaks`: a database is opened, used in every way and closed, again and again: memory, files and threads stay as they are. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Database } from 'zqlite'
import type { Report } from './report.js'

/** Bytes a round that the process may grow by: below a page cache or a thread's stack, above the noise of an allocator. */
const MOST_GROWTH = 48 * 1024
/** Bytes of buffers that one database has: not one may stay. */
const BUFFERS = 256 * 1024

const numberOf = (folder: string): number => readdirSync(folder).length
const resident = (): number => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024

async function use(path: string): Promise<void> {
  const db = await Database.open(path)
  await db.execute('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT)')
  await Promise.all(Array.from({ length: 50 }, (_, i) => db.execute('INSERT OR REPLACE INTO t VALUES (?, ?)', [i, 'x'.repeat(1_000)])))
  await db.transaction((tx) => tx.execute('DELETE FROM t WHERE id = 1'))
  await db.query('SELECT * FROM t')
  for await (const _ of db.stream('SELECT * FROM t')) break
  db.allSync('SELECT * FROM t')
  await db.execute('not SQL').catch(() => {})
  await db.backup(`${path}-copy`, { overwrite: true })
  await db.close()
}

export async function leaks(rounds: number, seed: number, report: Report): Promise<void> {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'torture-'))
  const path = join(folder, 'test.db')
  const collect = async (): Promise<void> => {
    // What is collected lets go of more, on a later turn.
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.()
      await new Promise(setImmediate)
    }
  }
  let done = 0
  const round = async (check: () => void): Promise<void> => {
    const failure = await use(path).then(check).then(
      () => undefined,
      (error: unknown) => error,
    )
    report.round(`leaks --seed ${seed} --rounds ${rounds}`, failure)
    // The garbage collector would come late, and leave the process larger than it must be.
    if (++done % 5 === 0) await collect()
  }
  // The allocator takes its time to find the size that it needs.
  const warm = Math.min(100, Math.ceil(rounds / 3))
  for (let i = 0; i < warm; i++) await round(() => {})
  await collect()
  const { arrayBuffers } = process.memoryUsage()
  const before = { files: numberOf('/proc/self/fd'), threads: numberOf('/proc/self/task'), bytes: resident(), arrayBuffers }
  for (let i = warm; i < rounds && !report.over; i++) {
    await round(() => assert(numberOf('/proc/self/fd') <= before.files + 2, `${numberOf('/proc/self/fd')} files are open, there were ${before.files}`))
  }
  await collect()
  const growth = (resident() - before.bytes) / Math.max(rounds - warm, 1)
  report.detail('bytes a round', Math.round(growth))
  report.detail('threads', [before.threads, numberOf('/proc/self/task')])
  await round(() => {
    assert(process.memoryUsage().arrayBuffers < before.arrayBuffers + 4 * BUFFERS, 'buffers of closed databases stay')
    assert(numberOf('/proc/self/task') <= before.threads + 1, `${numberOf('/proc/self/task')} threads run, there were ${before.threads}`)
    assert(growth < MOST_GROWTH || rounds < 200, `the process grows by ${growth} bytes a round`)
  })
  rmSync(folder, { recursive: true, force: true })
}
