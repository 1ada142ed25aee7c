// The tables of the journal in SQLite, and what is checked of a file before it is trusted to hold them.
//
//   journal_commit   one row a revision; the last one is never removed, so revisions are never used again
//   journal_event    the log, and with its index by key also the key-value store: a key's value is its latest event
//   journal_meta     numbers and names of which there is one
//   journal_projection   which projections the tables of this file agree with

import { randomBytes } from 'node:crypto';
import type { BatchStatement, Database } from 'zqlite';
import { GhostwireError } from '../errors.js';

/** Raised when a file written by this version cannot be read by the ones before. */
const FORMAT = 1;

const TABLES: readonly string[] = [
  `CREATE TABLE journal_meta (
     name TEXT PRIMARY KEY,
     value ANY NOT NULL
   ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE journal_commit (
     revision INTEGER PRIMARY KEY,
     id BLOB NOT NULL UNIQUE,          -- 6 bytes time (ms, big endian), 10 bytes random
     at INTEGER NOT NULL               -- ms since 1970, never falling
   ) STRICT`,
  `CREATE TABLE journal_event (
     revision INTEGER NOT NULL,
     ordinal INTEGER NOT NULL,         -- place within the commit
     key TEXT NOT NULL,
     value TEXT,                       -- JSON; NULL: deleted
     PRIMARY KEY (revision, ordinal)
   ) STRICT, WITHOUT ROWID`,
  `CREATE UNIQUE INDEX journal_event_by_key ON journal_event (key, revision)`,
  `CREATE TABLE journal_projection (
     name TEXT PRIMARY KEY,
     version INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
];

/** Numbers in journal_meta. */
export type Mark =
  /** Revisions above have all their events. */
  | 'horizon'
  /** Up to here superseded events are removed; lags behind the horizon while a compaction is under way. */
  | 'compacted'
  /** Ids of commits older than this time (ms) may have been removed. */
  | 'forgotten';

/** A scalar subquery. */
export const mark = (name: Mark | 'epoch' | 'format'): string => `(SELECT value FROM journal_meta WHERE name = '${name}')`;
export const HEAD = '(SELECT coalesce(max(revision), 0) FROM journal_commit)';

function creation(): BatchStatement[] {
  const meta: readonly (readonly [string, string | number])[] = [
    ['format', FORMAT],
    ['epoch', randomBytes(16).toString('hex')],
    ['horizon', 0],
    ['compacted', 0],
    ['forgotten', 0],
  ];
  return [
    ...TABLES.map((sql) => ({ sql })),
    ...meta.map(([name, value]) => ({ sql: 'INSERT INTO journal_meta VALUES (?, ?)', params: [name, value] })),
  ];
}

/**
 * Creates the tables in an empty database, and returns the history's epoch.
 * @throws ERR_JOURNAL_FORMAT when the database belongs to another program or to a later version
 */
export async function prepare(db: Database): Promise<string> {
  const tables = await db.query<{ name: string }>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'");
  if (!tables.some(({ name }) => name === 'journal_meta')) {
    const foreign = tables.find(({ name }) => !name.startsWith('zqlite'));
    if (foreign !== undefined) {
      const message = `the database holds table ${foreign.name} but no journal: it belongs to another program`;
      throw new GhostwireError('ERR_JOURNAL_FORMAT', message, { table: foreign.name });
    }
    await db.executeBatchTransaction(creation());
  }
  const meta = await db.get<{ format: number; epoch: string }>(`SELECT ${mark('format')} AS format, ${mark('epoch')} AS epoch`);
  if (meta?.format !== FORMAT) {
    const message = `the journal has format ${meta?.format}, this version reads ${FORMAT}`;
    throw new GhostwireError('ERR_JOURNAL_FORMAT', message, { format: meta?.format, reads: FORMAT });
  }
  return meta.epoch;
}
