/** Registration over REST: request, validation, key check, addresses, durable commit, answer. */
import { execFileSync } from 'node:child_process'
import { closeSync, fdatasyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { median } from '../subject.js'
import type { Suite } from '../suite.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

export const suite: Suite = {
  name: 'register',
  cases: [
    { name: '1-in-flight', unit: 'us p50', better: 'lower', must: 800 },
    { name: '256-in-flight', unit: 'per second', better: 'higher', must: 5000 },
  ],
  subjects: [
    { name: 'zqlite', program: 'register/zqlite.ts' },
    { name: 'better-sqlite3', program: 'register/better-sqlite3.ts', requires: 'better-sqlite3' },
  ],
  prepare: () => execFileSync('cargo', ['build', '--quiet', '--release', '-p', 'benchmark-load'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }),
  context: () => ({ fsync: `${Math.round(fsyncTime())} us (median of 200 times 4 KiB, the disk that the databases are on)` }),
}

/** Microseconds that the disk takes to make 4 KiB durable: no registration can be faster than that. */
function fsyncTime(): number {
  const folder = join(root, 'benchmark/results')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, 'fsync.tmp')
  const file = openSync(path, 'w')
  const times: number[] = []
  for (let i = 0; i < 200; i++) {
    writeSync(file, Buffer.alloc(4096, i), 0, 4096, i * 4096)
    const start = performance.now()
    fdatasyncSync(file)
    times.push(1000 * (performance.now() - start))
  }
  closeSync(file)
  rmSync(path)
  return median(times)
}
