/** `measure.ts DRIVER EFFORT`: one case of the suite with one driver. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { Driver, Open } from '../drivers/driver.js'
import { BYTES, filled, INSERT, random, ROWS, seconds, values } from '../drivers/table.js'
import { median, subject } from '../subject.js'
import type { Effort } from '../suite.js'

/** How long, in milliseconds, calls are made before they count: until then V8 still interprets much of what makes them. */
const warm = (effort: Effort): number => 300 * seconds(effort)

const next = random(3)
const id = (): number => 1 + Math.floor(next() * ROWS)

subject(async (effort, name) => {
  const { open } = (await import(`../drivers/${name}.ts`)) as { open: Open }
  const driver = await filled(open, effort, 4 * BYTES)
  try {
    const [, callers] = /^get-(\d+)$/.exec(effort.case) ?? []
    if (callers !== undefined) {
      const statement = await driver.prepare('SELECT * FROM person WHERE id = ?')
      return await crowd(effort, Number(callers), () => statement.get(id()))
    }
    if (effort.case.endsWith('/64-a-transaction') && name !== 'zqlite') {
      const chunk = (): unknown[][] => Array.from({ length: 64 }, () => values(next))
      return 64 * (await crowd(effort, 1, () => driver.transaction(INSERT, chunk())))
    }
    if (effort.case.startsWith('insert-64-callers')) {
      const statement = await driver.prepare(INSERT)
      return await crowd(effort, 64, () => statement.run(...values(next)))
    }
    if (effort.case.startsWith('rows-')) return await rows(effort, driver)
    if (effort.case === 'loop-delay') return await loopDelay(effort, driver)
    return await mixed(effort, driver)
  } finally {
    await driver.close()
  }
})

/** Calls a second of so many callers, each waiting for its answer before it calls again. */
async function crowd(effort: Effort, callers: number, call: () => unknown): Promise<number> {
  const run = async (ms: number): Promise<number> => {
    const start = performance.now()
    let count = 0
    const caller = async (): Promise<void> => {
      while (performance.now() - start < ms) {
        // Also where the answer is there at once, somebody else gets a turn now and then.
        await call()
        count++
      }
    }
    await Promise.all(Array.from({ length: callers }, caller))
    return (1000 * count) / (performance.now() - start)
  }
  await run(warm(effort))
  return run(1000 * seconds(effort))
}

/** Reads results one after the other: how long, how much of the JavaScript thread, or how much of all cores one takes. */
async function rows(effort: Effort, driver: Driver): Promise<number> {
  const [shape, figure] = effort.case.split('/')
  const wide = shape === 'rows-200x20'
  const columns = wide ? Array.from({ length: 4 }, (_, i) => `name AS n${i}, email AS e${i}, age AS a${i}, score AS s${i}, about AS t${i}`).join(', ') : 'name, email, age, score, about'
  const statement = await driver.prepare(`SELECT ${columns} FROM person WHERE id >= ? LIMIT ${wide ? 200 : 1000}`)
  const times: number[] = []
  const length = 1000 * seconds(effort)
  for (let i = 0; i < 50; i++) await statement.all(id())
  const idle = performance.eventLoopUtilization()
  const cpu = process.cpuUsage()
  const start = performance.now()
  let count = 0
  while (performance.now() - start < length) {
    const before = performance.now()
    await statement.all(id())
    times.push(1000 * (performance.now() - before))
    count++
    // A turn of the loop between two, so that waiting counts as waiting.
    await new Promise((resolve) => setImmediate(resolve))
  }
  if (figure === 'wall') return median(times)
  if (figure === 'js-thread') return (1000 * performance.eventLoopUtilization(idle).active) / count
  const used = process.cpuUsage(cpu)
  return (used.user + used.system) / count
}

/** The delay of the event loop while 8 callers scan and 64 write. */
async function loopDelay(effort: Effort, driver: Driver): Promise<number> {
  const scan = await driver.prepare('SELECT * FROM person WHERE age = ?')
  const insert = await driver.prepare(INSERT)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const until = performance.now() + warm(effort) + 1000 * seconds(effort)
  const repeat = async (call: () => unknown): Promise<void> => {
    while (performance.now() < until) {
      await call()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  setTimeout(() => delay.enable(), warm(effort))
  await Promise.all([
    ...Array.from({ length: 8 }, () => repeat(() => scan.all(Math.floor(next() * 90)))),
    ...Array.from({ length: 64 }, () => repeat(() => insert.run(...values(next)))),
  ])
  delay.disable()
  // What the timer itself takes is not delay.
  return Math.max(0, delay.percentile(99) / 1e6 - 1)
}

/** The slowest of a hundred point reads of 56 callers, beside 8 durable writers and perhaps two scans. */
async function mixed(effort: Effort, driver: Driver): Promise<number> {
  const get = await driver.prepare('SELECT * FROM person WHERE id = ?')
  const insert = await driver.prepare(INSERT)
  const scan = await driver.prepare('SELECT count(*) AS n FROM person WHERE about LIKE ?')
  const times: number[] = []
  const from = performance.now() + warm(effort)
  const until = from + 1000 * seconds(effort)
  const repeat = async (call: () => unknown): Promise<void> => {
    while (performance.now() < until) {
      await call()
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
  const timed = async (): Promise<void> => {
    const start = performance.now()
    await get.get(id())
    if (start >= from) times.push(performance.now() - start)
  }
  await Promise.all([
    ...Array.from({ length: 56 }, () => repeat(timed)),
    ...Array.from({ length: 8 }, () => repeat(() => insert.run(...values(next)))),
    ...Array.from({ length: effort.case.endsWith('scans') ? 2 : 0 }, () => repeat(() => scan.get('%kilo lima mike%'))),
  ])
  times.sort((a, b) => a - b)
  return times[Math.floor(times.length * 0.99)] ?? NaN
}
