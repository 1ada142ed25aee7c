// Journals to put under test: fresh, empty, and able to lose an answer on demand.

import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Database, ZqliteError } from 'zqlite';
import { encodeChange } from '../src/journal/checks.js';
import type { Change, CommitOptions, CommitResult, CompactOptions, Journal, ListOptions, Position, WatchOptions } from '../src/journal/journal.js';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import { SqliteJournal } from '../src/journal/sqlite.js';
import type { SqliteJournalOptions } from '../src/journal/sqlite.js';
import type { MakeSubject, Subject } from './journal.conformance.js';

/** A journal in front of another, the same in everything. To be overridden. */
export class Through implements Journal {
  constructor(protected readonly inner: Journal) {}
  get epoch(): string {
    return this.inner.epoch;
  }
  commit(change: Change, options?: CommitOptions): Promise<CommitResult> {
    return this.inner.commit(change, options);
  }
  resolve(commitId: string): ReturnType<Journal['resolve']> {
    return this.inner.resolve(commitId);
  }
  revision(): Promise<number> {
    return this.inner.revision();
  }
  get(key: string): ReturnType<Journal['get']> {
    return this.inner.get(key);
  }
  list(prefix: string, options?: ListOptions): ReturnType<Journal['list']> {
    return this.inner.list(prefix, options);
  }
  watch(from: Position, options?: WatchOptions): ReturnType<Journal['watch']> {
    return this.inner.watch(from, options);
  }
  compact(options?: CompactOptions): ReturnType<Journal['compact']> {
    return this.inner.compact(options);
  }
  close(): Promise<void> {
    return this.inner.close();
  }
}

type Loss = { made: boolean } | undefined;

class Lossy extends Through {
  loss: Loss;

  override async commit(change: Change): Promise<CommitResult> {
    if (this.loss === undefined) return this.inner.commit(change);
    encodeChange(change); // what is refused before it is sent has no answer to lose
    const { made } = this.loss;
    this.loss = undefined;
    if (!made) return { status: 'unknown', id: randomBytes(16).toString('hex') };
    const result = await this.inner.commit(change);
    return 'id' in result ? { status: 'unknown', id: result.id } : result;
  }
}

/** A journal in memory, seen through `wrap`. `reopen` is called on the store between closing and opening. */
export function memorySubject(
  wrap: (journal: Journal, store: MemoryStore) => Journal = (journal) => journal,
  reopen: (store: MemoryStore) => MemoryStore = (store) => store,
): MakeSubject {
  return async (): Promise<Subject> => {
    let store = new MemoryStore();
    const inner = new Lossy(new MemoryJournal(store));
    let journal = wrap(inner, store);
    return {
      journal,
      async reopen() {
        await journal.close();
        store = reopen(store);
        journal = wrap(new MemoryJournal(store), store);
        return journal;
      },
      loseNextAnswer(made) {
        inner.loss = { made };
      },
      dispose: () => journal.close(),
    };
  };
}

/** `db`, with some of its methods replaced. */
export function intercepted(db: Database, methods: Partial<Pick<Database, 'query' | 'executeBatchTransaction'>>): Database {
  return new Proxy(db, {
    get(target, name) {
      const value: unknown = Reflect.get(name in methods ? methods : target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** `db`, but the answers of commits can be lost. */
function lossy(db: Database, takeLoss: () => Loss): Database {
  return intercepted(db, {
    async executeBatchTransaction(statements, options) {
      const isCommit = statements.some(({ sql }) => sql.includes('INSERT INTO journal_commit'));
      const loss = isCommit ? takeLoss() : undefined;
      if (loss === undefined) return db.executeBatchTransaction(statements, options);
      if (loss.made) await db.executeBatchTransaction(statements, options);
      throw new ZqliteError('ERR_COMMIT_UNKNOWN', 'the answer was lost', { outcome: 'unknown' });
    },
  });
}

/** A directory of its own, removed with `dispose`. */
export async function temporaryFile(name = 'journal.db'): Promise<{ path: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'ghostwire-journal-'));
  return { path: join(folder, name), remove: () => rm(folder, { recursive: true, force: true }) };
}

/** A journal in an SQLite file. */
export function sqliteSubject(options: SqliteJournalOptions = {}): MakeSubject {
  return async (): Promise<Subject> => {
    const file = await temporaryFile();
    let loss: Loss;
    const takeLoss = (): Loss => {
      const taken = loss;
      loss = undefined;
      return taken;
    };
    let db = await Database.open(file.path);
    let journal = await SqliteJournal.open(lossy(db, takeLoss), options);
    const close = async (): Promise<void> => {
      await journal.close();
      await db.close();
    };
    return {
      journal,
      async reopen() {
        await close();
        db = await Database.open(file.path);
        journal = await SqliteJournal.open(lossy(db, takeLoss), options);
        return journal;
      },
      loseNextAnswer(made) {
        loss = { made };
      },
      async dispose() {
        await close();
        await file.remove();
      },
    };
  };
}
