/**
 * `kill`: a process that writes is ended by SIGKILL, at a random moment or at a fail point, again and again on the same
 * files. This process holds what was acknowledged, and compares it with what is there.
 */
import assert, { AssertionError } from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Readable } from 'node:stream'
import { build } from 'esbuild'
import { Database } from 'zqlite'
import type { CommitResult, JournalCommit } from '../ghostwire/src/journal/journal.js'
import { SqliteJournal } from '../ghostwire/src/journal/sqlite.js'
import { checkIndexes, SOURCE as indexStatements } from './indexes.js'
import { type Call, checkHistory, checkProjection, checkState, checkUnique, checkWatch, projection, readLog } from './journal-clients.js'
import type { Orders, Told, Weakness } from './kill-child.js'
import { Random } from './random.js'
import type { Report } from './report.js'
import { check, checkDefinitions, checkMigrations, CLIENTS, type Indexes, type Writes } from './tables.js'

/** Rounds on the same files, so that recovery follows recovery. */
const ROUNDS_PER_LIFE = 6
const JOURNAL_CLIENTS = 64
/** A child that takes longer to end was not killed by its fail point, and is now. */
const LONGEST_ROUND = 20_000

export interface KillOptions {
  rounds: number
  seed: number
  /** The addon that has fail points. */
  addon: string
}

/** The fail points, from the list in the source. */
const points = [...readFileSync(new URL('../crates/zqlite-store/src/fault.rs', import.meta.url), 'utf8').matchAll(/^ {8}"([a-z.-]+)",$/gm)].map(([, name]) => name!)

/** How often a point is passed in a round, about: some at every write, others once or twice. */
const visits: readonly (readonly [prefix: string, n: number])[] = [
  ['writer.member', 200],
  ['writer', 60],
  ['transaction', 20],
  ['maintenance', 6],
  ['open', 2],
  ['close', 2],
]

/** One set of files, through several deaths. */
class Life {
  readonly folder = mkdtempSync(join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'torture-'))
  readonly #writes: Writes[] = Array.from({ length: CLIENTS }, () => ({ acknowledged: 0, begun: 0 }))
  readonly #migrations: Writes = { acknowledged: 0, begun: 0 }
  readonly #indexes: Indexes = new Map()
  readonly #calls: Call[] = []
  /** The whole log of the journal, of which the file has forgotten the beginning. */
  readonly #log: JournalCommit[] = []
  #made: number[] = Array.from({ length: CLIENTS }, () => 0)
  #backup: number[] | undefined
  #acknowledged = 0
  #epoch: string | undefined
  /** What the watch has told of since the last death, and where it began. */
  #seen: JournalCommit[] = []
  #from = 0

  constructor(
    readonly seed: number,
    readonly addon: string,
    readonly weakness: Weakness,
  ) {}

  /** Runs a child until it is dead; says how it died. */
  async live(round: number): Promise<string> {
    const random = new Random(this.seed, round)
    const orders: Orders = {
      folder: this.folder,
      seed: random.below(2 ** 31),
      made: this.#made,
      migrations: this.#migrations.begun + 1,
      journalClients: JOURNAL_CLIENTS,
      acknowledged: this.#acknowledged,
      ...(this.#epoch !== undefined && { position: { epoch: this.#epoch, revision: this.#from } }),
      life: 100 + random.below(500),
      weakness: this.weakness,
    }
    // The files are made by a process that keeps its promises: it reads what it wrote.
    const early = this.weakness === 'acknowledge-early' && round > 0
    const point = early ? 'writer.before-commit' : random.pick(points)
    const visit = 1 + random.below(visits.find(([prefix]) => point.startsWith(prefix))?.[1] ?? 1)
    const byPoint = early || random.unit() < 0.5
    // A point may not be reached; some processes that close their files come to an end of their own.
    const moment = byPoint ? orders.life + 150 + random.below(400) : random.below(orders.life + 100)
    const child = spawn(process.execPath, [bundled, JSON.stringify(orders)], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        NAPI_RS_NATIVE_LIBRARY_PATH: this.addon,
        ...(byPoint && { ZQLITE_FAIL_POINT: `${point}:${visit}` }),
        ...(early && { ZQLITE_WEAKNESS: this.weakness }),
      },
    })
    const errors: string[] = []
    child.stderr!.on('data', (text: Buffer) => errors.push(text.toString()))
    const open = new Map<number, Call>()
    let struck = false
    const strike = () => {
      struck = true
      child.kill('SIGKILL')
    }
    let timer = setTimeout(strike, LONGEST_ROUND)
    const lines = createInterface({ input: child.stdio[3] as Readable })
    lines.on('line', (line) => {
      // The last line may be cut short by the death.
      if (!line.endsWith('}')) return
      const told = JSON.parse(line) as Told
      if (told.what === 'migrating') {
        clearTimeout(timer)
        timer = setTimeout(strike, moment)
      }
      this.#hear(told, open)
    })
    const [[code, signal]] = (await Promise.all([once(child, 'close'), once(lines, 'close')])) as [[number | null, string | null], unknown]
    clearTimeout(timer)
    if (signal !== 'SIGKILL' && code !== 0) throw new Error(`the child ended by itself with ${code ?? signal}:\n${errors.join('')}`)
    // What was not answered may have been made.
    this.#calls.push(...open.values())
    return signal === null ? 'closed' : byPoint && !struck ? point : 'moment'
  }

  #hear(told: Told, open: Map<number, Call>): void {
    switch (told.what) {
      case 'ready':
        if (this.#epoch !== undefined) assert.equal(told.epoch, this.#epoch, 'the journal has another history')
        this.#epoch = told.epoch
        break
      case 'begun':
        this.#writes[told.client]!.begun = told.n
        break
      case 'made':
        this.#writes[told.client]!.acknowledged = told.n
        break
      case 'migrating':
        this.#migrations.begun = told.count
        break
      case 'migrated':
        this.#migrations.acknowledged = told.count
        break
      case 'indexing': {
        const before = this.#indexes.get(told.name) ?? { there: false, absent: true }
        this.#indexes.set(told.name, told.there ? { ...before, there: true } : { ...before, absent: true })
        break
      }
      case 'indexed':
        this.#indexes.set(told.name, { there: told.there, absent: !told.there })
        break
      case 'backup':
        this.#backup = told.made
        break
      case 'call':
        open.set(told.id, { change: told.change, floor: told.floor, ceiling: Infinity, result: { status: 'unknown', id: '' } })
        break
      case 'answer':
        this.#answer(open.get(told.id)!, told.result, told.ceiling)
        open.delete(told.id)
        break
      case 'seen':
        this.#seen.push(told.commit)
        break
      case 'closed':
    }
  }

  #answer(call: Call, result: CommitResult, ceiling: number): void {
    if (result.status === 'committed') this.#acknowledged = Math.max(this.#acknowledged, result.revision)
    this.#calls.push({ ...call, result, ceiling })
  }

  /** Compares what is there with what must be. */
  async judge(): Promise<void> {
    const work = await Database.open(join(this.folder, 'work.db'))
    try {
      await checkMigrations(work, this.#migrations)
      if (this.#migrations.acknowledged > 0) this.#made = await check(work, this.#writes)
      await checkDefinitions(work, this.#indexes)
    } finally {
      await work.close()
    }
    await this.#judgeBackup()
    const db = await Database.open(join(this.folder, 'journal.db'))
    try {
      assert.deepEqual(await db.query('PRAGMA integrity_check'), [{ integrity_check: 'ok' }])
      const journal = await SqliteJournal.open(db, { projections: [projection] })
      if (this.#epoch !== undefined) assert.equal(journal.epoch, this.#epoch, 'the journal has another history')
      const log = this.#log
      // Up to here the log may have been compacted; what was read of the rest before must still be the same.
      const read = await readLog(journal, { epoch: journal.epoch, revision: this.#from })
      checkWatch(log.slice(this.#from), this.#from, [...log.slice(0, this.#from), ...read])
      log.push(...read.slice(log.length - this.#from))
      checkHistory(this.#calls, log)
      checkUnique(log)
      checkProjection(await db.values('SELECT name, owner FROM owners'), log)
      checkState(await journal.list(''), log)
      checkWatch(this.#seen, this.#from, log)
      // The watch goes on where it was cut, and misses nothing.
      const last = this.#seen.at(-1)?.revision ?? this.#from
      checkWatch(await readLog(journal, { epoch: journal.epoch, revision: last }), last, log)
      this.#from = last
      this.#seen = []
      await journal.close()
    } finally {
      await db.close()
    }
  }

  async #judgeBackup(): Promise<void> {
    if (this.#backup === undefined) return
    const db = await Database.open(join(this.folder, 'backup.db'), { readonly: true })
    try {
      await check(db, this.#backup.map((acknowledged, client) => ({ acknowledged, begun: this.#writes[client]!.begun })))
      await checkIndexes(db)
    } finally {
      await db.close()
    }
  }

  get acknowledged(): number {
    return this.#acknowledged + this.#writes.reduce((sum, { acknowledged }) => sum + acknowledged, 0)
  }

  end(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** The child in one file of JavaScript, because it starts again and again. */
const bundled = fileURLToPath(new URL('../target/torture/kill-child.mjs', import.meta.url))

/** Kills and judges, round after round. */
export async function kill({ rounds, seed, addon }: KillOptions, report: Report): Promise<void> {
  await build({ entryPoints: [fileURLToPath(new URL('kill-child.ts', import.meta.url))], outfile: bundled, bundle: true, platform: 'node', format: 'esm', external: ['zqlite'] })
  copyFileSync(indexStatements, new URL('indexes.sql', pathToFileURL(bundled)))
  const deaths = new Map<string, number>()
  let acknowledged = 0
  for (let done = 0; done < rounds && !report.over; ) {
    const of = seed + done
    const life = new Life(of, addon, 'none')
    for (let round = 0; round < ROUNDS_PER_LIFE && done < rounds; round++, done++) {
      const failure = await life.live(round).then(
        async (how) => {
          deaths.set(how, (deaths.get(how) ?? 0) + 1)
          await life.judge()
          return undefined
        },
        (error: unknown) => error,
      ).catch((error: unknown) => error)
      report.round(`kill --seed ${of} --rounds ${round + 1}`, failure)
      if (failure !== undefined) {
        done += ROUNDS_PER_LIFE - round
        break
      }
    }
    acknowledged += life.acknowledged
    life.end()
  }
  report.detail('acknowledged', acknowledged)
  report.detail('killed', [...deaths].reduce((sum, [how, n]) => sum + (how === 'closed' ? 0 : n), 0))
  report.detail('deaths', Object.fromEntries([...deaths].sort()))
  const lost = /was acknowledged, the last there|are not what was committed|but was (made|dropped)|was acknowledged, \d+ begun/
  await control('a build that acknowledges before COMMIT', 'acknowledge-early', lost, seed, addon, report)
  await control('a journal whose watch skips an event', 'skips-an-event', /^a watch told of revision/, seed, addon, report)
  await control('a journal that loses an event of a commit', 'loses-an-event', /^the events of \d+ are not what was committed|^(names|addresses)\/\d+ belongs to .* does not$/, seed, addon, report)
}

/** Something is wrong, and must be noticed for what it is. */
async function control(name: string, weakness: Weakness, sign: RegExp, seed: number, addon: string, report: Report): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const life = new Life(seed + i, addon, weakness)
    try {
      for (let round = 0; round < 4; round++) {
        await life.live(round)
        await life.judge()
      }
    } catch (error) {
      const how = error instanceof Error ? (error.message.split('\n')[0] ?? '') : ''
      report.control(name, error instanceof AssertionError && sign.test(how) ? undefined : error, how)
      return
    } finally {
      life.end()
    }
  }
  report.control(name, new Error('nothing was noticed'), '')
}
