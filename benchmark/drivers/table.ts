/** The table that the suites of databases read and write, and how they ask. */
import { join } from 'node:path'
import type { Driver, Open } from './driver.js'
import type { Effort } from '../suite.js'

/** Rows of the table. */
export const ROWS = 100_000
/** Bytes that they take in the file, about. */
export const BYTES = 16 << 20

/** A generator of numbers that is the same in every run (mulberry32), so that all subjects are asked the same. */
export function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const words = 'alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo sierra tango'.split(' ')

/** The values of one row without its id: name, email, age, score, about. */
export function values(next: () => number): unknown[] {
  const word = (): string => words[Math.floor(next() * words.length)] ?? ''
  const name = `${word()} ${word()}`
  const about = Array.from({ length: 6 + Math.floor(next() * 12) }, word).join(' ')
  return [name, `${name.replace(' ', '.')}@${word()}.example`, Math.floor(next() * 90), next() * 1000, about]
}

export const INSERT = 'INSERT INTO person (name, email, age, score, about) VALUES (?, ?, ?, ?, ?)'

/** Opens a database with the filled table. `cache` is what the package's page cache may take, in bytes. */
export async function filled(open: Open, { folder }: Effort, cache: number): Promise<Driver> {
  const driver = await open(join(folder, 'test.db'), cache)
  await driver.exec('CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, email TEXT, age INTEGER, score REAL, about TEXT)')
  const next = random(1)
  for (let done = 0; done < ROWS; done += 5_000) {
    await driver.transaction(INSERT, Array.from({ length: 5_000 }, () => values(next)))
  }
  return driver
}

/** How long a measurement lasts, in seconds. */
export const seconds = ({ quick }: Effort): number => (quick ? 1 : 4)

/** Does `step` for some time, after a third of it unmeasured; returns how often a second. */
export async function perSecond(effort: Effort, step: () => unknown): Promise<number> {
  const length = 1000 * seconds(effort)
  const run = async (ms: number): Promise<number> => {
    const start = performance.now()
    let count = 0
    for (;;) {
      for (let i = 0; i < 16; i++) {
        const result = step()
        if (result instanceof Promise) await result
      }
      count += 16
      const elapsed = performance.now() - start
      if (elapsed >= ms) return (1000 * count) / elapsed
    }
  }
  await run(length / 3)
  return run(length)
}
