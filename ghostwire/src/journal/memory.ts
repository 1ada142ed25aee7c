// The journal as plain as it can be: an array of commits and a map. Nothing of it is durable.
//
// It is what other journals are compared with, and enough for tests of everything above. Keep it obviously right.

import { randomBytes } from 'node:crypto';
import { checkCommitId, checkKey, checkPrefix, checkReach, checkWatch, checkWhole, closed, encodeChange, slow } from './checks.js';
import { COUNTERS } from './journal.js';
import type {
  Change,
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

/** What outlives a journal: hand it to the next one to open it again. */
export class MemoryStore {
  readonly epoch = randomBytes(16).toString('hex');
  /** The commit of revision r is at r - 1. Compaction leaves it whole: it only forbids to look. */
  readonly log: JournalCommit[] = [];
  readonly ids = new Map<string, number>();
  horizon = 0;
}

function apply(state: Map<string, Entry>, { revision, events }: JournalCommit): void {
  for (const event of events) {
    if ('deleted' in event) state.delete(event.key);
    else state.set(event.key, { key: event.key, value: event.value, revision });
  }
}

export class MemoryJournal implements Journal {
  readonly #store: MemoryStore;
  readonly #state = new Map<string, Entry>();
  readonly #watchers = new Set<MemoryWatcher>();
  #closed = false;

  constructor(store = new MemoryStore()) {
    this.#store = store;
    for (const commit of store.log) apply(this.#state, commit);
  }

  get epoch(): string {
    return this.#store.epoch;
  }

  async commit(change: Change): Promise<CommitResult> {
    this.#checkOpen();
    const { conditions, takes, counters, writes } = encodeChange(change);

    const unmet = conditions.find((condition) => !this.#holds(condition));
    if (unmet !== undefined) return { status: 'conflict', failed: unmet };
    const exceeding = takes.find((take) => this.#taken(take) > take.limit);
    if (exceeding !== undefined) return { status: 'conflict', failed: exceeding };

    const taken = takes.map((take) => this.#taken(take));
    const events: JournalEvent[] = counters.map((key, i) => ({ key, value: taken[i]! }));
    for (const { key, json } of writes) {
      events.push(json === null ? { key, deleted: true } : { key, value: JSON.parse(json) as JsonValue });
    }
    const { log, ids } = this.#store;
    const commit = { revision: log.length + 1, at: Math.max(Date.now(), log.at(-1)?.at ?? 0), events };
    const id = randomBytes(16).toString('hex');
    log.push(commit);
    ids.set(id, commit.revision);
    apply(this.#state, commit);
    for (const watcher of this.#watchers) watcher.look();
    return { status: 'committed', id, revision: commit.revision, taken };
  }

  async resolve(commitId: string): Promise<{ status: 'committed'; revision: number } | { status: 'absent' }> {
    this.#checkOpen();
    checkCommitId(commitId);
    const revision = this.#store.ids.get(commitId);
    return revision === undefined ? { status: 'absent' } : { status: 'committed', revision };
  }

  async revision(): Promise<number> {
    this.#checkOpen();
    return this.#store.log.length;
  }

  async get(key: string): Promise<Entry | undefined> {
    this.#checkOpen();
    checkKey(key);
    return this.#state.get(key);
  }

  async list(prefix: string, { revision, after = '', limit = Infinity }: ListOptions = {}): Promise<Snapshot> {
    this.#checkOpen();
    checkPrefix(prefix);
    checkPrefix(after);
    if (limit !== Infinity) checkWhole('limit', limit, 1);
    const { log, horizon } = this.#store;
    let state = this.#state;
    if (revision !== undefined) {
      checkWhole('revision', revision, 0);
      checkReach(revision, log.length, horizon);
      state = new Map();
      for (const commit of log.slice(0, revision)) apply(state, commit);
    }
    const entries = [...state.values()]
      .filter(({ key }) => key.startsWith(prefix) && key > after)
      .toSorted((a, b) => (a.key < b.key ? -1 : 1))
      .slice(0, limit);
    return { revision: revision ?? log.length, entries };
  }

  watch(from: Position, options: WatchOptions = {}): AsyncIterable<JournalCommit> {
    return {
      [Symbol.asyncIterator]: () => {
        this.#checkOpen();
        const queueLimit = checkWatch(from, this.epoch, options);
        checkReach(from.revision, this.#store.log.length, this.#store.horizon);
        return new MemoryWatcher(this.#store, from, queueLimit, options.signal, this.#watchers);
      },
    };
  }

  async compact({ keepRevisions, before, maxAge }: CompactOptions = {}): Promise<CompactResult> {
    this.#checkOpen();
    const { log } = this.#store;
    const bounds = [log.length];
    if (keepRevisions !== undefined) {
      checkWhole('keepRevisions', keepRevisions, 0);
      bounds.push(log.length - keepRevisions);
    }
    if (before !== undefined) {
      checkWhole('before', before, 0);
      bounds.push(before - 1);
    }
    if (maxAge !== undefined) {
      checkWhole('maxAge', maxAge, 0);
      bounds.push(log.filter(({ at }) => at < Date.now() - maxAge).length);
    }
    const last = this.#store.horizon;
    this.#store.horizon = Math.max(last, Math.min(...bounds));
    return { horizon: this.#store.horizon, removed: 0 };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.fail(closed());
  }

  #holds(condition: Condition): boolean {
    const revision = this.#state.get(condition.key)?.revision;
    return 'absent' in condition ? revision === undefined : revision === condition.revision;
  }

  /** What the counter would stand at. */
  #taken({ counter, n }: Take): number {
    return Number(this.#state.get(COUNTERS + counter)?.value ?? 0) + n;
  }

  #checkOpen(): void {
    if (this.#closed) throw closed();
  }
}

/** Reads along the log. Being slow is counted from where the log ended when the watch began. */
class MemoryWatcher implements AsyncIterator<JournalCommit> {
  readonly #store: MemoryStore;
  readonly #from: Position;
  readonly #queueLimit: number;
  readonly #watchers: Set<MemoryWatcher>;
  readonly #start: number;
  #received: number;
  #failure: Error | undefined;
  #ended = false;
  #look: () => void = () => undefined;

  constructor(store: MemoryStore, from: Position, queueLimit: number, signal: AbortSignal | undefined, watchers: Set<MemoryWatcher>) {
    this.#store = store;
    this.#from = from;
    this.#queueLimit = queueLimit;
    this.#watchers = watchers;
    this.#start = store.log.length;
    this.#received = from.revision;
    watchers.add(this);
    const end = (): void => void this.return();
    if (signal?.aborted === true) end();
    else signal?.addEventListener('abort', end, { once: true });
  }

  async next(): Promise<IteratorResult<JournalCommit>> {
    for (;;) {
      if (this.#failure !== undefined) {
        const failure = this.#failure;
        this.#failure = undefined;
        throw failure;
      }
      if (this.#ended) return { done: true, value: undefined };
      const commit = this.#store.log[this.#received];
      if (commit !== undefined) {
        this.#received += 1;
        return { done: false, value: commit };
      }
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
    }
  }

  async return(): Promise<IteratorResult<JournalCommit>> {
    this.#ended = true;
    this.#watchers.delete(this);
    this.#look();
    return { done: true, value: undefined };
  }

  /** Called after every commit. */
  look(): void {
    const waiting = this.#store.log.length - Math.max(this.#received, this.#start);
    if (waiting > this.#queueLimit) this.fail(slow({ epoch: this.#from.epoch, revision: this.#received }, this.#queueLimit));
    this.#look();
  }

  fail(failure: Error): void {
    this.#failure = failure;
    void this.return();
  }
}
