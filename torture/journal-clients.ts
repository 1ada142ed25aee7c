/**
 * Clients of a journal that compete: for unique names and addresses, for counters, for records of their own. And what their
 * answers, and what watchers saw, must be: O(n) in calls and events.
 */
import assert from 'node:assert/strict'
import { type Call, checkHistory } from '../ghostwire/__test__/journal.history.js'
import { COUNTERS } from '../ghostwire/src/journal/journal.js'
import type { Change, Condition, Entry, Journal, JournalCommit, Position, Snapshot } from '../ghostwire/src/journal/journal.js'
import type { Projection } from '../ghostwire/src/journal/projection.js'
import type { Random } from './random.js'

/** So few that clients meet. */
const NAMES = 40

/** Follows the names in the commit's own transaction. */
export const projection: Projection = {
  name: 'owners',
  version: 1,
  prefix: 'names/',
  create: ['CREATE TABLE owners (name TEXT PRIMARY KEY, owner TEXT NOT NULL)'],
  drop: ['DROP TABLE IF EXISTS owners'],
  put: (key, value) => [{ sql: 'INSERT OR REPLACE INTO owners VALUES (?, ?)', params: [key, value as string] }],
  delete: (key) => [{ sql: 'DELETE FROM owners WHERE name = ?', params: [key] }],
}

/** A client's next change. It looks first, but others are faster now and then. */
export async function nextChange(journal: Journal, client: number, random: Random): Promise<Change> {
  const at = async (key: string): Promise<Condition> => {
    const entry = await journal.get(key)
    return entry === undefined ? { key, absent: true } : { key, revision: entry.revision }
  }
  switch (random.below(5)) {
    case 0: {
      const n = random.below(NAMES)
      // Who has the name has the address of the same number, and nobody else has either.
      const [name, address] = [await at(`names/${n}`), await at(`addresses/${n}`)]
      const free = 'absent' in name
      const keys = [name.key, address.key]
      return { conditions: [name, address], ...(free ? { puts: keys.map((key) => ({ key, value: `client ${client}` })) } : { deletes: keys }) }
    }
    case 1: {
      const own = await at(`records/${client}`)
      return { conditions: [own], puts: [{ key: own.key, value: { n: random.below(1_000), text: 'x'.repeat(random.below(300)) } }] }
    }
    case 2:
      return { takes: [{ counter: `uses/${random.below(3)}`, n: 1 + random.below(3), limit: random.pick([20, 1_000_000]) }] }
    case 3: {
      // A record of another, which has moved on perhaps.
      const other = await at(`records/${random.below(64)}`)
      return { conditions: [other], takes: [{ counter: 'changes', n: 1, limit: 1e9 }], puts: [{ key: `last/${client}`, value: other.key }] }
    }
    default:
      return { puts: [{ key: `soft/${client}`, value: random.below(1_000) }], deletes: [`gone/${client}`] }
  }
}

/** The whole log, as a watch from the beginning tells it. */
export async function readLog(journal: Journal, from: Position): Promise<JournalCommit[]> {
  const head = await journal.revision()
  const log: JournalCommit[] = []
  if (head <= from.revision) return log
  for await (const commit of journal.watch(from, { queueLimit: 1_000_000 })) {
    log.push(commit)
    if (commit.revision >= head) break
  }
  return log
}

/** Names and addresses have one owner at a time, and are had together. */
export function checkUnique(log: readonly JournalCommit[]): void {
  const owners = new Map<string, unknown>()
  for (const { revision, events } of log) {
    for (const event of events) {
      if (!/^(names|addresses)\//.test(event.key)) continue
      if ('value' in event) {
        assert(!owners.has(event.key), `${event.key} was given to a second owner at ${revision}`)
        owners.set(event.key, event.value)
      } else {
        owners.delete(event.key)
      }
    }
  }
  for (const [key, owner] of owners) {
    const other = key.replace(/^\w+/, (folder) => (folder === 'names' ? 'addresses' : 'names'))
    assert.equal(owners.get(other), owner, `${key} belongs to ${String(owner)}, ${other} does not`)
  }
}

/** What a watcher saw is a part of the log without gaps that begins after `from`. */
export function checkWatch(seen: readonly JournalCommit[], from: number, log: readonly JournalCommit[]): void {
  for (const [i, commit] of seen.entries()) {
    assert.equal(commit.revision, from + 1 + i, `a watch told of revision ${commit.revision} after ${from + i}`)
    assert.deepEqual(commit, log[commit.revision - 1], `what a watch told of revision ${commit.revision} is not what the log says`)
  }
}

/** What keys hold now is what the log says. */
export function checkState({ revision, entries }: Snapshot, log: readonly JournalCommit[]): void {
  assert.equal(revision, log.length, 'the revision of what is listed')
  const state = new Map<string, Entry>()
  for (const { revision: put, events } of log) {
    for (const event of events) {
      if ('value' in event) state.set(event.key, { key: event.key, value: event.value, revision: put })
      else state.delete(event.key)
    }
  }
  assert.deepEqual(new Map(entries.map((entry) => [entry.key, entry])), state, 'what keys hold is not what the log says')
}

/** The tables that follow the keys hold what the keys say. */
export function checkProjection(rows: readonly unknown[][], log: readonly JournalCommit[]): void {
  const state = new Map<string, unknown>()
  for (const { events } of log) {
    for (const event of events) {
      if (!event.key.startsWith('names/')) continue
      if ('value' in event) state.set(event.key, event.value)
      else state.delete(event.key)
    }
  }
  assert.deepEqual(new Map(rows as [string, unknown][]), state, 'the projection is not what the log says')
}

export { COUNTERS, checkHistory }
export type { Call }
