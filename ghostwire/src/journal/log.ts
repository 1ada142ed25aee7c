// Reading the log in SQLite. Every answer comes from one statement, so from one moment; its first row says which.

import type { Database } from 'zqlite';
import { GhostwireError } from '../errors.js';
import type { Entry, JournalCommit, JournalEvent, JsonValue } from './journal.js';
import { HEAD, mark } from './schema.js';
import type { LogPage } from './watch.js';

/** More than a commit can hold, so that a page always has a whole one. */
const EVENTS_PER_PAGE = 1_024;

// UNION ALL runs its arms in their order: the first row is the moment, in the columns of an event.
const PAGE = `SELECT ${HEAD} AS revision, ${mark('horizon')} AS at, '' AS key, NULL AS value
  UNION ALL SELECT * FROM (
    SELECT e.revision, c.at, e.key, e.value FROM journal_event e JOIN journal_commit c ON c.revision = e.revision
    WHERE e.revision > ? ORDER BY e.revision, e.ordinal LIMIT ${EVENTS_PER_PAGE})`;

const LIST = `SELECT ${HEAD} AS revision, ${mark('horizon')} AS key, NULL AS value
  UNION ALL SELECT * FROM (
    SELECT e.revision, e.key, e.value FROM (
      SELECT key, max(revision) AS revision, ordinal FROM journal_event
      WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key ORDER BY key LIMIT ?) AS latest
    JOIN journal_event e ON e.revision = latest.revision AND e.ordinal = latest.ordinal ORDER BY e.key)`;

const GET = 'SELECT revision, value FROM journal_event WHERE key = ? ORDER BY revision DESC LIMIT 1';

interface Row {
  readonly revision: number;
  readonly key: string;
  readonly value: string | null;
}

function corrupt(message: string): GhostwireError {
  return new GhostwireError('ERR_JOURNAL_CORRUPT', message);
}

/** @throws ERR_JOURNAL_CORRUPT for bytes that changed on the disk in a way that SQLite cannot tell */
function parse(json: string, key: string, revision: number): JsonValue {
  try {
    return JSON.parse(json) as JsonValue;
  } catch {
    throw corrupt(`the value of ${key} at revision ${revision} cannot be read`);
  }
}

/** Commits after a revision, as many whole ones as a page holds. */
export async function readPage(db: Database, after: number): Promise<LogPage> {
  const rows = await db.query<Row & { readonly at: number }>(PAGE, [after]);
  const moment = rows[0];
  if (moment === undefined) throw corrupt('the log cannot be read');
  const { revision: head, at: horizon } = moment;

  const commits: (JournalCommit & { readonly events: JournalEvent[] })[] = [];
  let commit = commits[0];
  for (let i = 1; i < rows.length; i += 1) {
    const { revision, at, key, value } = rows[i]!;
    if (commit?.revision !== revision) {
      // A gap in the log must never look like a log without the gap.
      const expected = (commit?.revision ?? after) + 1;
      if (revision !== expected && after >= horizon) throw corrupt(`revision ${expected} is missing in the log`);
      commit = { revision, at, events: [] };
      commits.push(commit);
    }
    commit.events.push(value === null ? { key, deleted: true } : { key, value: parse(value, key, revision) });
  }
  const last = rows.length <= EVENTS_PER_PAGE;
  if (!last) commits.pop(); // its other events may be on the next page
  else if (after >= horizon && after < head && commits.at(-1)?.revision !== head) throw corrupt(`revision ${head} is missing in the log`);
  return { head, horizon, commits, last };
}

/** Keys of a range as of a revision. */
export interface ListPage {
  readonly head: number;
  readonly horizon: number;
  readonly entries: readonly Entry[];
  /** The last key looked at, whether or not it had a value; undefined when the range is done. */
  readonly next: string | undefined;
}

/** Looks at up to `limit` keys of `prefix` after `after`, as of `revision` (default: the present). */
export async function readList(db: Database, prefix: string, after: string, revision: number | undefined, limit: number): Promise<ListPage> {
  // Keys are made of 0x21 to 0x7e: '!' is the least character that can follow, and 0x7f is above all.
  const from = after === '' ? prefix : after < prefix ? prefix : `${after}!`;
  const rows = await db.query<Row>(LIST, [from, `${prefix}\x7f`, revision ?? Number.MAX_SAFE_INTEGER, limit]);
  const moment = rows[0];
  if (moment === undefined) throw corrupt('the log cannot be read');
  const entries: Entry[] = [];
  for (let i = 1; i < rows.length; i += 1) {
    const { key, value, revision: put } = rows[i]!;
    if (value !== null) entries.push({ key, value: parse(value, key, put), revision: put });
  }
  return {
    head: moment.revision,
    horizon: Number(moment.key),
    entries,
    next: rows.length > limit ? rows.at(-1)!.key : undefined,
  };
}

export async function readKey(db: Database, key: string): Promise<Entry | undefined> {
  const row = await db.get<Row>(GET, [key]);
  return row === undefined || row.value === null ? undefined : { key, value: parse(row.value, key, row.revision), revision: row.revision };
}
