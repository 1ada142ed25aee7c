/** The load of the suite: peers that register, some at a time, each with its own key, name and details. See `../load`. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Effort } from '../suite.js'

/** A server under load. */
export interface Target {
  /** `http://127.0.0.1:PORT`. */
  url: string
  preauthKey: string
  stop: () => Promise<void>
}

const program = fileURLToPath(new URL('../../target/release/benchmark-load', import.meta.url))

/** Registers against the target as the case says, and returns its figure. */
export async function load(effort: Effort, { url, preauthKey, stop }: Target): Promise<number> {
  const inFlight = effort.case === '1-in-flight' ? 1 : 256
  // A server that runs for months is measured warm: its code is compiled after some thousand requests.
  const [warmUp, count] = inFlight === 1 ? [3000, effort.quick ? 500 : 2000] : [10_000, effort.quick ? 5000 : 20_000]
  try {
    const { stdout } = await promisify(execFile)(program, [new URL(url).port, preauthKey, ...[inFlight, warmUp, count].map(String)])
    const { p50, rate } = JSON.parse(stdout) as { p50: number; rate: number }
    return inFlight === 1 ? p50 : rate
  } finally {
    await stop()
  }
}
