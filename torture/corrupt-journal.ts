/**
 * `corrupt-journal`: bytes of a journal's database and its log change, and Ghostwire's journal is opened on what is left, in
 * a process of its own that may crash. Every answer is right or a typed error.
 *
 * What can tell: the log has checksums, so a damaged one gives what the journal held at an earlier commit. The database
 * file has none: a byte within a value reads as another value. Such rounds are counted.
 */
import assert, { AssertionError } from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Database, ZqliteError } from 'zqlite'
import { GhostwireError } from '../ghostwire/src/errors.js'
import type { Entry, JournalCommit } from '../ghostwire/src/journal/journal.js'
import { SqliteJournal } from '../ghostwire/src/journal/sqlite.js'
import { checkProjection, checkState, nextChange, projection, readLog } from './journal-clients.js'
import { Random } from './random.js'
import type { Report } from './report.js'

const COMMITS = 120
/** An answer that takes longer never comes. */
const PATIENCE = 60_000

const regions = ['the header', 'the definitions', 'the database', "the log's header", 'the log'] as const
type Region = (typeof regions)[number]

/** How a round ended; anything else is what was wrong. */
const endings = ['right', 'error', 'blind']

/** An intact journal, with the second half of its commits in the log of its file. */
interface Original {
  database: Buffer
  log: Buffer
  /** The file with all commits in it, and the log empty: no page of it is covered by a newer one. */
  settled: Buffer
  commits: JournalCommit[]
  /** The first revisions of which were in the file when the log was empty. */
  checkpointed: number
}

async function make(seed: number): Promise<Original> {
  const folder = fresh()
  const path = join(folder, 'journal.db')
  const db = await Database.open(path)
  const journal = await SqliteJournal.open(db, { projections: [projection] })
  const random = new Random(seed, 9)
  let checkpointed = 0
  for (let n = 0; n < COMMITS; n++) {
    await journal.commit(await nextChange(journal, random.below(64), random))
    if (n === COMMITS / 2) {
      await db.checkpoint('truncate')
      checkpointed = await journal.revision()
    }
  }
  const commits = await readLog(journal, { epoch: journal.epoch, revision: 0 })
  const [database, log] = [readFileSync(path), readFileSync(`${path}-wal`)]
  await db.checkpoint('truncate')
  const original = { database, log, settled: readFileSync(path), commits, checkpointed }
  await journal.close()
  await db.close()
  rmSync(folder, { recursive: true, force: true })
  return original
}

function fresh(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'torture-'))
}

/** Changes some bytes within a region; returns what is left. */
function damage(intact: Buffer, region: Region, random: Random): Buffer {
  const bytes = Buffer.from(intact)
  const end = Math.min(bytes.length, { 'the header': 100, 'the definitions': 8_192, "the log's header": 32 }[region as string] ?? Infinity)
  const kind = random.below(8)
  if (kind < 4) bytes[random.below(end)]! ^= 1 << random.below(8)
  else if (kind < 6) for (let i = 2 + random.below(14); i > 0; i--) bytes[random.below(end)] = random.below(256)
  else if (kind === 6) {
    const from = random.below(end)
    bytes.fill(0, from, Math.min(from + 512, end))
  } else return bytes.subarray(0, random.below(end))
  return bytes
}

const isTyped = (error: unknown): boolean => (error instanceof ZqliteError || error instanceof GhostwireError) && error.code !== 'ERR_INTERNAL'

/** One round: says how it ended. */
async function one(original: Original, seed: number, round: number): Promise<string> {
  const random = new Random(seed, round)
  const region = random.pick(regions)
  const inLog = region.startsWith('the log')
  const folder = fresh()
  const path = join(folder, 'journal.db')
  if (inLog || random.below(2) === 0) {
    writeFileSync(path, inLog ? original.database : damage(original.database, region, random))
    writeFileSync(`${path}-wal`, inLog ? damage(original.log, region, random) : original.log)
  } else {
    writeFileSync(path, damage(original.settled, region, random))
  }
  let db: Database | undefined
  try {
    db = await Database.open(path)
    const journal = await SqliteJournal.open(db, { projections: [projection] })
    const sound = JSON.stringify(await db.query('PRAGMA integrity_check')) === '[{"integrity_check":"ok"}]'
    const log = await readLog(journal, { epoch: journal.epoch, revision: 0 })
    const list = await journal.list('')
    const owners = await db.values('SELECT name, owner FROM owners')
    const gets: (Entry | undefined)[] = []
    for (const { key } of list.entries) gets.push(await journal.get(key))
    const committed = await journal.commit({ puts: [{ key: 'after', value: 1 }] })
    await journal.close()
    try {
      const least = inLog ? original.checkpointed : original.commits.length
      assert(log.length >= least, `${log.length} commits are left of at least ${least}`)
      assert.deepEqual(log, original.commits.slice(0, log.length), 'the log says something else')
      checkState(list, log)
      checkProjection(owners, log)
      assert.deepEqual(gets, list.entries, 'a key by itself is not what is listed')
      assert.deepEqual(committed.status === 'committed' && committed.revision, log.length + 1, 'the next revision')
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error
      // A checksum of the log can always tell; the integrity check has told.
      if (inLog) return `${region}: ${error.message}`
      return sound ? 'blind' : 'error'
    }
    return sound ? 'right' : 'error'
  } catch (error) {
    return isTyped(error) ? 'error' : `${region}: ${error instanceof Error ? error.stack : String(error)}`
  } finally {
    await db?.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Does rounds and says a line about each; the process that started this one judges. */
export async function victim(seed: number, from: number, to: number): Promise<void> {
  const original = await make(seed)
  for (let round = from; round < to; round++) {
    const what = await one(original, seed, round)
    process.stdout.write(`${JSON.stringify([round, what])}\n`)
  }
}

export async function corruptJournal(rounds: number, seed: number, only: number | undefined, report: Report): Promise<void> {
  const ends = new Map<string, number>()
  let next = only ?? 0
  const to = only === undefined ? rounds : only + 1
  while (next < to && !report.over) {
    const orders = ['corrupt-journal', '--seed', String(seed), '--victim', `${next}-${to}`]
    const child = spawn(process.execPath, ['--import=tsx', fileURLToPath(new URL('run.ts', import.meta.url)), ...orders], { stdio: ['ignore', 'pipe', 'inherit'] })
    const strike = () => child.kill('SIGKILL')
    let timer = setTimeout(strike, PATIENCE)
    const lines = createInterface({ input: child.stdout })
    lines.on('line', (line) => {
      clearTimeout(timer)
      timer = setTimeout(strike, PATIENCE)
      const [round, what] = JSON.parse(line) as [number, string]
      next = round + 1
      const known = endings.includes(what)
      if (known) ends.set(what, (ends.get(what) ?? 0) + 1)
      report.round(`corrupt-journal --seed ${seed} --round ${round}`, known ? undefined : new Error(what))
    })
    const [[code, signal]] = (await Promise.all([once(child, 'close'), once(lines, 'close')])) as [[number | null, string | null], unknown]
    clearTimeout(timer)
    if (code !== 0) {
      report.round(`corrupt-journal --seed ${seed} --round ${next}`, new Error(`the process ended with ${code ?? signal}`))
      next++
    }
  }
  for (const ending of endings) report.detail(ending, ends.get(ending) ?? 0)
}
