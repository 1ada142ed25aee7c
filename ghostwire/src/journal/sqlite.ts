// The journal on SQLite: a commit is one batch of guarded statements, so any number of them share one write to disk.

import { randomFillSync } from 'node:crypto';
import { ZqliteError } from 'zqlite';
import type { BatchStatement, Database } from 'zqlite';
import { GhostwireError } from '../errors.js';
import { checkCommitId, checkKey, checkPrefix, checkReach, checkWatch, checkWhole, closed, encodeChange } from './checks.js';
import type { EncodedChange } from './checks.js';
import { compact } from './compaction.js';
import type {
  Change,
  CommitOptions,
  CommitResult,
  CompactOptions,
  CompactResult,
  Condition,
  Entry,
  Journal,
  JournalCommit,
  JournalEvent,
  JsonValue,
  ListOptions,
  Position,
  Snapshot,
  Take,
  WatchOptions,
} from './journal.js';
import { readKey, readList, readPage } from './log.js';
import { Projections } from './projection.js';
import type { Projection } from './projection.js';
import { HEAD, mark, prepare } from './schema.js';
import { WatchHub } from './watch.js';

export interface SqliteJournalOptions {
  readonly projections?: readonly Projection[];
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/** Returns a row when the key has a value. */
const HAS_VALUE = 'SELECT 1 FROM (SELECT value FROM journal_event WHERE key = ? ORDER BY revision DESC LIMIT 1) WHERE value IS NOT NULL';

/** Returns a row when the key has a value that was put at the revision. */
const IS_AT =
  'SELECT 1 FROM (SELECT revision, value FROM journal_event WHERE key = ? ORDER BY revision DESC LIMIT 1) WHERE revision = ? AND value IS NOT NULL';

const COUNTER = (key: string): string =>
  `coalesce((SELECT CAST(value AS INTEGER) FROM journal_event WHERE key = ${key} ORDER BY revision DESC LIMIT 1), 0)`;

const COMMIT = 'INSERT INTO journal_commit (id, at) VALUES (?, ?)';

// When these run, the head is the commit's own revision.
const EVENT = `INSERT INTO journal_event VALUES (${HEAD}, ?, ?, ?)`;
/** Puts a key that has no value; returns a row when it did. */
const EVENT_IF_ABSENT = `INSERT INTO journal_event SELECT ${HEAD}, ?1, ?2, ?3 WHERE NOT EXISTS (${HAS_VALUE.replace('?', '?2')})`;
/** Counts up, unless that passes the limit; returns what the counter then stands at. */
const TAKE = `INSERT INTO journal_event SELECT ${HEAD}, ?1, ?2, value FROM (SELECT ${COUNTER('?2')} + ?3 AS value) WHERE value <= ?4 RETURNING value`;

const FIND = 'SELECT revision FROM journal_commit WHERE id = ?';

/** Changes nothing, but is a write: what comes after it in the writer's order is final. */
const FENCE = "UPDATE journal_meta SET value = value WHERE name = 'epoch'";

const ID_BYTES = 16;
const TIME_BYTES = 6;

/** Entries read at a time for a long list, so that parsing them leaves the event loop room to breathe. */
const LIST_PAGE = 1_000;

/** Makes commit ids. They begin with the time: new ones go to the end of their index, and old ones are known as such. */
class CommitIds {
  // One call for random bytes costs as much as an SQL statement, whatever their number.
  readonly #pool = Buffer.alloc(8_192);
  #used = this.#pool.length;

  next(at: number): Buffer {
    if (this.#used === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#used = 0;
    }
    const id = Buffer.from(this.#pool.subarray(this.#used, (this.#used += ID_BYTES)));
    id.writeUIntBE(at, 0, TIME_BYTES);
    return id;
  }
}

/** What a commit's log entry reads back as. */
function eventsOf({ counters, writes }: EncodedChange, taken: readonly number[]): JournalEvent[] {
  const counted = counters.map((key, i) => ({ key, value: taken[i] ?? 0 }));
  // Parsed again, so that watchers see the same as those who read the log.
  const written = writes.map(({ key, json }): JournalEvent => (json === null ? { key, deleted: true } : { key, value: JSON.parse(json) as JsonValue }));
  return [...counted, ...written];
}

export class SqliteJournal implements Journal {
  readonly epoch: string;
  readonly #db: Database;
  readonly #projections: Projections;
  readonly #now: () => number;
  readonly #ids = new CommitIds();
  readonly #hub: WatchHub;
  /** The time of the latest commit. */
  #at: number;
  #closed = false;
  #running = 0;
  #idle: (() => void) | undefined;
  #compaction: Promise<unknown> = Promise.resolve();

  private constructor(db: Database, epoch: string, at: number, projections: Projections, now: () => number) {
    this.#db = db;
    this.epoch = epoch;
    this.#at = at;
    this.#projections = projections;
    this.#now = now;
    this.#hub = new WatchHub((after) => readPage(db, after));
  }

  /**
   * The journal in `db`, which stays the caller's to close. At most one journal may be open on a database.
   * @throws ERR_JOURNAL_FORMAT when the database holds something else, ERR_JOURNAL_PROJECTION for a wrong projection
   */
  static async open(db: Database, { projections = [], now = Date.now }: SqliteJournalOptions = {}): Promise<SqliteJournal> {
    const epoch = await prepare(db);
    const latest = await db.get<{ at: number }>('SELECT at FROM journal_commit ORDER BY revision DESC LIMIT 1');
    return new SqliteJournal(db, epoch, latest?.at ?? 0, await Projections.open(db, projections), now);
  }

  commit(change: Change, { deadline }: CommitOptions = {}): Promise<CommitResult> {
    return this.#run(async () => {
      const encoded = encodeChange(change);
      const at = Math.max(this.#at, this.#now());
      this.#at = at;
      const id = this.#ids.next(at);
      const { statements, asked } = this.#statements(encoded, id, at);
      try {
        const results = await this.#db.executeBatchTransaction(statements, deadline === undefined ? undefined : { timeout: deadline });
        const revision = Number(results[0]!.lastInsertRowid);
        const firstTake = asked.length - encoded.takes.length;
        const taken = encoded.takes.map((_, i) => Number(results[firstTake + i]!.rows[0]!['value']));
        this.#hub.offer(revision, () => ({ revision, at, events: eventsOf(encoded, taken) }));
        return { status: 'committed', id: id.toString('hex'), revision, taken };
      } catch (error) {
        // It may have been made all the same.
        this.#hub.wake();
        if (!(error instanceof ZqliteError)) throw error;
        if (error.outcome === 'unknown') return { status: 'unknown', id: id.toString('hex') };
        const { code, statement } = error;
        const failed = code === 'ERR_EXPECTATION_FAILED' && statement !== undefined && asked[statement];
        if (failed) return { status: 'conflict', failed };
        throw error;
      }
    });
  }

  resolve(commitId: string): Promise<{ status: 'committed'; revision: number } | { status: 'absent' }> {
    return this.#run(async () => {
      checkCommitId(commitId);
      const id = Buffer.from(commitId, 'hex');
      // The writer answers, in its order: a commit still on its way comes before, and one that failed on its way to
      // the disk is overwritten, so it cannot come back when the file is next opened.
      const [, found, marks] = await this.#db.executeBatchTransaction([
        { sql: FENCE, expect: { changes: 1 } },
        { sql: FIND, params: [id] },
        { sql: `SELECT ${mark('forgotten')} AS forgotten, ${mark('horizon')} AS horizon`, expect: { rows: 1 } },
      ]);
      this.#hub.wake();
      const revision = found?.rows[0]?.['revision'];
      if (revision !== undefined) return { status: 'committed', revision: Number(revision) };
      if (id.readUIntBE(0, TIME_BYTES) < Number(marks?.rows[0]?.['forgotten'])) {
        const message = `commit ${commitId} is from a time of which commits are no longer known one by one`;
        throw new GhostwireError('ERR_JOURNAL_COMPACTED', message, { oldest: Number(marks?.rows[0]?.['horizon']) });
      }
      return { status: 'absent' };
    });
  }

  revision(): Promise<number> {
    return this.#run(async () => (await this.#db.get<{ revision: number }>(`SELECT ${HEAD} AS revision`))?.revision ?? 0);
  }

  get(key: string): Promise<Entry | undefined> {
    return this.#run(async () => {
      checkKey(key);
      return readKey(this.#db, key);
    });
  }

  list(prefix: string, { revision, after = '', limit = Infinity }: ListOptions = {}): Promise<Snapshot> {
    return this.#run(async () => {
      checkPrefix(prefix);
      checkPrefix(after);
      if (limit !== Infinity) checkWhole('limit', limit, 1);
      if (revision !== undefined) checkWhole('revision', revision, 0);

      let at = revision;
      let next: string | undefined = after;
      const entries: Entry[] = [];
      while (next !== undefined && entries.length < limit) {
        const page = await readList(this.#db, prefix, next, at, Math.min(LIST_PAGE, limit - entries.length));
        if (revision !== undefined) checkReach(revision, page.head, page.horizon);
        if (at !== undefined && at < page.horizon) {
          // Compacted between two pages: begin again with the present.
          at = undefined;
          next = after;
          entries.length = 0;
          continue;
        }
        at ??= page.head;
        entries.push(...page.entries);
        next = page.next;
      }
      return { revision: at ?? 0, entries };
    });
  }

  watch(from: Position, options: WatchOptions = {}): AsyncIterable<JournalCommit> {
    return {
      [Symbol.asyncIterator]: () => {
        if (this.#closed) throw closed();
        return this.#hub.watch(from, checkWatch(from, this.epoch, options), options.signal);
      },
    };
  }

  compact(options: CompactOptions = {}): Promise<CompactResult> {
    return this.#run(() => {
      const result = this.#compaction.then(() => compact(this.#db, options, this.#now(), () => this.#hub.tail));
      this.#compaction = result.catch(() => undefined);
      return result;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#hub.close(closed());
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
  }

  /**
   * The statements of a commit. What is asked comes in the order in which it is asked, so the first guard that fails names
   * its condition or take: `asked` has the same places as the statements, and ends with the takes.
   */
  #statements(encoded: EncodedChange, id: Buffer, at: number): { statements: BatchStatement[]; asked: (Condition | Take | undefined)[] } {
    const { conditions, takes, counters, writes } = encoded;
    const statements: BatchStatement[] = [{ sql: COMMIT, params: [id, at] }];
    const asked: (Condition | Take | undefined)[] = [undefined];
    const ordinals = new Map(writes.map(({ key }, i) => [key, takes.length + i]));
    for (const condition of conditions) {
      asked.push(condition);
      const { key } = condition;
      const ordinal = ordinals.get(key);
      const json = ordinal === undefined ? null : writes[ordinal - takes.length]!.json;
      if (!('absent' in condition)) {
        statements.push({ sql: IS_AT, params: [key, condition.revision], expect: { rows: 1 } });
      } else if (ordinal === undefined || json === null) {
        statements.push({ sql: HAS_VALUE, params: [key], expect: { rows: 0 } });
      } else {
        statements.push({ sql: EVENT_IF_ABSENT, params: [ordinal, key, json], expect: { changes: 1 } });
        ordinals.delete(key);
      }
    }
    takes.forEach((take, i) => {
      asked.push(take);
      statements.push({ sql: TAKE, params: [i, counters[i]!, take.n, take.limit], expect: { rows: 1 } });
    });
    for (const { key, json } of writes) {
      const ordinal = ordinals.get(key);
      if (ordinal !== undefined) statements.push({ sql: EVENT, params: [ordinal, key, json] });
      statements.push(...this.#projections.statements(key, json));
    }
    return { statements, asked };
  }

  async #run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closed) throw closed();
    this.#running += 1;
    try {
      return await call();
    } finally {
      this.#running -= 1;
      if (this.#running === 0) this.#idle?.();
    }
  }
}
