/** The load of the suite: peers that register, some at a time, each with its own key, name and details. */
import { randomBytes } from 'node:crypto'
import { Pool } from 'undici'
import { median } from '../subject.js'
import type { Effort } from '../suite.js'

/** A server under load. */
export interface Target {
  /** `http://127.0.0.1:PORT`. */
  url: string
  preauthKey: string
  stop: () => Promise<void>
}

/** Registers against the target as the case says, and returns its figure. */
export async function load(effort: Effort, target: Target): Promise<number> {
  const inFlight = effort.case === '1-in-flight' ? 1 : 256
  const [warmUp, count] = inFlight === 1 ? [200, effort.quick ? 500 : 2000] : [2000, effort.quick ? 5000 : 20_000]
  const pool = new Pool(target.url, { connections: inFlight, pipelining: 1 })
  try {
    await registerMany(pool, target, warmUp, inFlight)
    const start = performance.now()
    const times = await registerMany(pool, target, count, inFlight)
    const seconds = (performance.now() - start) / 1000
    return inFlight === 1 ? median(times) : count / seconds
  } finally {
    await pool.close()
    await target.stop()
  }
}

/** Microseconds that each registration took. */
async function registerMany(pool: Pool, target: Target, count: number, inFlight: number): Promise<number[]> {
  const times: number[] = []
  let left = count
  const caller = async (): Promise<void> => {
    while (left-- > 0) {
      const body = JSON.stringify(registration(target.preauthKey))
      const start = performance.now()
      const response = await pool.request({ method: 'POST', path: '/v1/peers/register', headers: { 'content-type': 'application/json' }, body })
      const text = await response.body.text()
      if (response.statusCode !== 201) throw new Error(`registration answered ${response.statusCode}: ${text.slice(0, 300)}`)
      times.push(1000 * (performance.now() - start))
    }
  }
  await Promise.all(Array.from({ length: inFlight }, caller))
  return times
}

const systems = ['linux', 'darwin', 'windows', 'freebsd', 'android', 'ios']
let number = 0

function registration(preauthKey: string): Record<string, unknown> {
  const id = randomBytes(4).toString('hex')
  return {
    preauthKey,
    hostname: `host-${++number}-${id}`,
    wireguardKey: randomBytes(32).toString('base64'),
    os: systems[number % systems.length],
    version: `1.${number % 20}.${number % 7}`,
  }
}
