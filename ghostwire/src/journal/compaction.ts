// Forgets history in slices small enough that commits in between hardly wait.
//
// First the horizon is recorded, so that nobody may ask for what is about to be incomplete; then superseded events and
// deletions are removed from the oldest on. A compaction that is cut short is finished by the next.

import type { Database } from 'zqlite';
import { checkWhole } from './checks.js';
import type { CompactOptions, CompactResult } from './journal.js';
import { HEAD, mark } from './schema.js';

/** Some milliseconds of the writer's time. */
const EVENTS_PER_SLICE = 256;
const COMMITS_PER_SLICE = 1_000;

/** How long the outcome of a commit can be asked for, ms, even if its revision is compacted. */
const RESOLVE_WINDOW = 3_600_000;

const SLICE_END = `SELECT max(revision) AS revision FROM (
  SELECT revision FROM journal_event WHERE revision > ? AND revision <= ? ORDER BY revision, ordinal LIMIT ${EVENTS_PER_SLICE})`;

/** Everything older than a key's last event of the slice (from, to]. */
const REMOVE_SUPERSEDED = `DELETE FROM journal_event WHERE (revision, ordinal) IN (
  SELECT older.revision, older.ordinal
  FROM (SELECT key, max(revision) AS revision FROM journal_event WHERE revision > ? AND revision <= ? GROUP BY key) AS newest
  CROSS JOIN journal_event AS older ON older.key = newest.key AND older.revision < newest.revision)`;

/** After the above nothing older is left that a deletion would have to hide. */
const REMOVE_DELETIONS = 'DELETE FROM journal_event WHERE revision > ? AND revision <= ? AND value IS NULL';

const ADVANCE = "UPDATE journal_meta SET value = ? WHERE name = 'compacted' AND value = ?";

interface Marks {
  readonly head: number;
  readonly horizon: number;
  readonly compacted: number;
}

const readMarks = (db: Database): Promise<Marks | undefined> =>
  db.get<Marks>(`SELECT ${HEAD} AS head, ${mark('horizon')} AS horizon, ${mark('compacted')} AS compacted`);

/** The last commit before a time; they are in the order of their times. */
async function lastBefore(db: Database, time: number, head: number): Promise<number> {
  const row = await db.get<{ revision: number }>('SELECT revision FROM journal_commit WHERE at >= ? ORDER BY revision LIMIT 1', [time]);
  return row === undefined ? head : row.revision - 1;
}

async function removeEvents(db: Database, compacted: number, horizon: number): Promise<number> {
  let removed = 0;
  let from = compacted;
  while (from < horizon) {
    const end = await db.get<{ revision: number | null }>(SLICE_END, [from, horizon]);
    const to = end?.revision ?? horizon;
    const [superseded, deletions] = await db.executeBatchTransaction([
      { sql: REMOVE_SUPERSEDED, params: [from, to] },
      { sql: REMOVE_DELETIONS, params: [from, to] },
      { sql: ADVANCE, params: [to, from], expect: { changes: 1 } },
    ]);
    removed += (superseded?.changes ?? 0) + (deletions?.changes ?? 0);
    from = to;
  }
  return removed;
}

async function removeCommits(db: Database, horizon: number, head: number, now: number): Promise<void> {
  const time = now - RESOLVE_WINDOW;
  // The last row stays: the next revision is counted from it.
  const end = Math.min(horizon, head - 1, await lastBefore(db, time, head));
  const oldest = await db.get<{ revision: number }>('SELECT revision FROM journal_commit ORDER BY revision LIMIT 1');
  if (oldest === undefined || oldest.revision > end) return;
  await db.execute("UPDATE journal_meta SET value = max(value, ?) WHERE name = 'forgotten'", [time]);
  for (let from = oldest.revision; from <= end; from += COMMITS_PER_SLICE) {
    await db.execute('DELETE FROM journal_commit WHERE revision < ?', [Math.min(from + COMMITS_PER_SLICE, end + 1)]);
  }
}

/**
 * @param watched returns the revision that attached watchers wait behind, so that a compaction does not cut them
 * @throws ERR_JOURNAL_CHANGE for an option that is not a whole number
 */
export async function compact(
  db: Database,
  { keepRevisions, before, maxAge }: CompactOptions,
  now: number,
  watched: () => number | undefined,
): Promise<CompactResult> {
  if (keepRevisions !== undefined) checkWhole('keepRevisions', keepRevisions, 0);
  if (before !== undefined) checkWhole('before', before, 0);
  if (maxAge !== undefined) checkWhole('maxAge', maxAge, 0);

  const marks = await readMarks(db);
  if (marks === undefined) return { horizon: 0, removed: 0 };
  const { head, compacted } = marks;
  const bounds = [head];
  if (keepRevisions !== undefined) bounds.push(head - keepRevisions);
  if (before !== undefined) bounds.push(before - 1);
  if (maxAge !== undefined) bounds.push(await lastBefore(db, now - maxAge, head));
  bounds.push(watched() ?? head);
  const horizon = Math.max(marks.horizon, Math.min(...bounds));

  if (horizon > marks.horizon) await db.execute("UPDATE journal_meta SET value = ? WHERE name = 'horizon'", [horizon]);
  const removed = await removeEvents(db, compacted, horizon);
  await removeCommits(db, horizon, head, now);
  return { horizon, removed };
}
