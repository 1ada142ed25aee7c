/**
 * `npx tsx --expose-gc examples/memory_profile.mts [--scale 1] [--json]`: what things cost in memory: an open database, its page
 * cache, prefix tables, access rules; and whether the same work over and over takes more and more (it must not).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { AclEngine, CidrTable, Database } from 'zqlite'

const MB = 2 ** 20
/** The first half fills caches and the allocator's arenas; the second is judged. */
const ROUNDS = 20
/** A round may leave this much behind on average; fragmentation and lazy collection are no leak. */
const SLACK = 1 * MB

const { values } = parseArgs({ options: { scale: { type: 'string', default: '1' }, json: { type: 'boolean', default: false } } })
const scale = Number(values.scale)
if (!(scale > 0)) throw new Error('--scale takes a number above 0')
const size = (n: number): number => Math.max(1, Math.round(n * scale))

const stages: { stage: string; rss: number; heap: number; added: number }[] = []
const folder = mkdtempSync(join(tmpdir(), 'zqlite-memory-'))
try {
  note('at the start')
  const db = await Database.open(join(folder, 'app.db'), { cacheSize: '16MB' })
  note('a database is open')

  const rows = size(100_000)
  await db.execute('CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL)')
  for (let from = 0; from < rows; from += 1000) {
    await db.executeBatchTransaction(Array.from({ length: Math.min(1000, rows - from) }, (_, i) => ({ sql: 'INSERT INTO item VALUES (?, ?)', params: [from + i, `item ${from + i}`] })))
  }
  note(`${rows} rows written`)

  const table = new CidrTable()
  const prefixes = size(100_000)
  for (let i = 0; i < prefixes; i++) table.insert(`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}/32`, i)
  note(`${prefixes} prefixes`)

  const acl = new AclEngine()
  const peers = size(10_000)
  acl.putPeers(Array.from({ length: peers }, (_, i) => ({ id: i + 1, addresses: [`100.64.${i >> 8}.${i & 255}`], labels: [`tag:${i % 50}`] })))
  acl.setRules(Array.from({ length: 500 }, (_, i) => ({ id: i + 1, priority: i, action: 'allow' as const, sources: [`tag:${i % 50}`], destinations: [`tag:${(i * 7) % 50}`], protocols: [6], ports: [[i, i + 10] as [number, number]] })))
  note(`${peers} peers under 500 rules`)

  const after: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < 10; i++) await db.query('SELECT * FROM item LIMIT ?', [size(10_000)])
    for await (const { id } of db.stream('SELECT id FROM item')) void id
    for (let i = 0; i < 10_000; i++) table.lookup(`10.0.${i & 255}.1`)
    after.push(note(`round ${round + 1} of the same work`))
  }
  const [third, fourth] = [after.slice(ROUNDS / 2, (ROUNDS * 3) / 4), after.slice((ROUNDS * 3) / 4)]
  const growth = (median(fourth) - median(third)) / fourth.length

  await db.close()
  note('closed')
  report(growth)
  if (growth > SLACK) throw new Error(`every round of the same work left ${(growth / MB).toFixed(2)} MB behind`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** Measures after a collection, where Node lets us ask for one (`--expose-gc`); returns the resident set in bytes. */
function note(stage: string): number {
  globalThis.gc?.()
  const { rss, heapUsed } = process.memoryUsage()
  stages.push({ stage, rss, heap: heapUsed, added: rss - (stages.at(-1)?.rss ?? rss) })
  return rss
}

function report(growth: number): void {
  if (values.json) return void process.stdout.write(`${JSON.stringify({ stages, growthPerRound: growth })}\n`)
  const mb = (bytes: number): string => (bytes / MB).toFixed(1).padStart(8)
  process.stdout.write(`${'resident'.padStart(8)} ${'added'.padStart(8)} ${'JS heap'.padStart(8)}   in MB\n`)
  for (const { stage, rss, added, heap } of stages) process.stdout.write(`${mb(rss)} ${mb(added)} ${mb(heap)}   ${stage}\n`)
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0
}
