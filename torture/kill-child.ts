/**
 * The process that is killed: does everything that a store and a journal do, all at once, and tells its parent of each thing
 * that it begins and of each that was acknowledged, before it does anything else.
 */
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Database, ZqliteError } from 'zqlite'
import type { Change, CommitResult, Journal, JournalCommit, Position } from '../ghostwire/src/journal/journal.js'
import { SqliteJournal } from '../ghostwire/src/journal/sqlite.js'
import { comparisons } from './indexes.js'
import { nextChange, projection } from './journal-clients.js'
import { Random } from './random.js'
import { BULK, CLIENTS, indexChanges, migrations, write } from './tables.js'

/** What goes wrong on purpose: in the store, in what a watch tells, in what a commit of the journal holds. */
export type Weakness = 'none' | 'acknowledge-early' | 'skips-an-event' | 'loses-an-event'

/** What the parent gives along. */
export interface Orders {
  folder: string
  seed: number
  /** Writes that are there, by client. */
  made: number[]
  migrations: number
  journalClients: number
  /** The highest revision that was acknowledged. */
  acknowledged: number
  /** Where the watch goes on. */
  position?: Position
  /** Milliseconds after which the process closes its files and ends. */
  life: number
  /** Something that the parent must notice. */
  weakness: Weakness
}

/** What the child tells, a line each. */
export type Told =
  | { what: 'ready'; epoch: string }
  | { what: 'begun' | 'made'; client: number; n: number }
  | { what: 'migrating' | 'migrated'; count: number }
  | { what: 'indexing' | 'indexed'; name: string; there: boolean }
  | { what: 'backup'; made: number[] }
  | { what: 'call'; id: number; change: Change; floor: number }
  | { what: 'answer'; id: number; result: CommitResult; ceiling: number }
  | { what: 'seen'; commit: JournalCommit }
  | { what: 'closed' }

const orders = JSON.parse(process.argv[2]!) as Orders
const { folder, seed } = orders
const CHANNEL = 3

function tell(told: Told): void {
  writeSync(CHANNEL, `${JSON.stringify(told)}\n`)
}

const end = new AbortController()
const work = await Database.open(join(folder, 'work.db'))
tell({ what: 'migrating', count: orders.migrations })
await work.migrate(migrations(orders.migrations))
tell({ what: 'migrated', count: orders.migrations })
const db = await Database.open(join(folder, 'journal.db'))
const journal = await SqliteJournal.open(db, { projections: [projection] })
tell({ what: 'ready', epoch: journal.epoch })

const made = [...orders.made]

async function writeOn(client: number): Promise<void> {
  while (!end.signal.aborted) {
    const n = made[client]! + 1
    tell({ what: 'begun', client, n })
    try {
      await write(work, client, n)
    } catch (error) {
      // A loaded machine: it was rolled back, and is tried again.
      if (error instanceof ZqliteError && error.code === 'ERR_TRANSACTION_TIMEOUT') continue
      throw error
    }
    made[client] = n
    tell({ what: 'made', client, n })
  }
}

async function changeIndex(random: Random): Promise<void> {
  const { name, there, sql } = random.pick(indexChanges)
  tell({ what: 'indexing', name, there })
  await work.execute(sql)
  tell({ what: 'indexed', name, there })
}

/** Indexes come and go meanwhile, and a reader may be too slow; what is answered must be right. */
const passing: ReadonlySet<string> = new Set(['ERR_INDEX_UNKNOWN', 'ERR_SNAPSHOT_TOO_OLD'])

/** Compares indexes with their tables while both change. */
async function compare(random: Random): Promise<void> {
  while (!end.signal.aborted) {
    const { name, sql } = random.pick(comparisons)
    try {
      const differences = await work.query(sql)
      if (differences.length > 0) throw new Error(`${name} and its table differ: ${JSON.stringify(differences[0])}`)
    } catch (error) {
      if (!(error instanceof ZqliteError && passing.has(error.code))) throw error
    }
    await sleep(random.below(40))
  }
}

async function maintain(random: Random): Promise<void> {
  while (!end.signal.aborted) {
    const kind = random.below(12)
    if (kind < 4) await work.checkpoint(random.pick(['passive', 'full', 'restart', 'truncate'] as const))
    else if (kind === 4) await work.vacuum()
    else if (kind < 7) await changeIndex(random)
    else if (kind === 7) await db.checkpoint('truncate')
    // Nobody asks any more for what the watch has told of before this process began.
    else if (kind === 9) await journal.compact({ before: (orders.position?.revision ?? 0) + 1 })
    else if (kind === 8) {
      const held = [...made]
      await work.backup(join(folder, 'backup.db'), { overwrite: true, pagesPerStep: 5 })
      tell({ what: 'backup', made: held })
    } else {
      await work.execute(BULK, [random.below(3)])
    }
    await sleep(random.below(10))
  }
}

let { acknowledged } = orders
let calls = 0

async function commitOn(client: number, random: Random): Promise<void> {
  while (!end.signal.aborted) {
    const change = await nextChange(journal, client, random)
    const id = ++calls
    const floor = acknowledged
    tell({ what: 'call', id, change, floor })
    const losing = orders.weakness === 'loses-an-event' && id > 30 && (change.puts?.length ?? 0) > 1
    const result = await journal.commit(losing ? { ...change, puts: change.puts!.slice(1) } : change)
    if (result.status === 'committed') acknowledged = Math.max(acknowledged, result.revision)
    const ceiling = result.status === 'committed' ? result.revision : await journal.revision()
    tell({ what: 'answer', id, result, ceiling })
  }
}

async function watch(watched: Journal, stop: AbortSignal): Promise<void> {
  const from = orders.position ?? { epoch: watched.epoch, revision: 0 }
  let n = 0
  for await (const commit of watched.watch(from, { queueLimit: 1_000_000, signal: stop })) {
    n++
    if (orders.weakness === 'skips-an-event' && n === 5) continue
    tell({ what: 'seen', commit })
  }
}

const stop = new AbortController()
const running = [
  ...Array.from({ length: CLIENTS }, (_, client) => writeOn(client)),
  maintain(new Random(seed, 1)),
  compare(new Random(seed, 3)),
  ...Array.from({ length: orders.journalClients }, (_, client) => commitOn(client, new Random(seed, 2, client))),
]
const watching = watch(journal, stop.signal)
const failed = new Promise<never>((_, reject) => void Promise.all([...running, watching]).catch(reject))
await Promise.race([sleep(orders.life), failed])
end.abort()
await Promise.race([Promise.all(running), failed])
stop.abort()
await watching
await journal.close()
await Promise.all([work.close(), db.close()])
tell({ what: 'closed' })
process.exit(0)
