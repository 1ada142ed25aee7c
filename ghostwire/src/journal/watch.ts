// Follows the log for any number of watchers with one reader.
//
// A new watcher reads pages of the log at its own pace. Once it has read everything it is attached: from then on the
// tailer reads what was committed, once for all attached watchers, and hands each commit to their queues. Attaching
// and handing over happen without a pause between looking and acting, so nothing falls between the two.

import { checkReach, slow } from './checks.js';
import type { JournalCommit, Position } from './journal.js';

/** A piece of the log, read at one moment. */
export interface LogPage {
  /** The latest revision at that moment. */
  readonly head: number;
  /** Commits after the horizon are complete, older ones may lack superseded events. */
  readonly horizon: number;
  /** In order, and complete. */
  readonly commits: readonly JournalCommit[];
  /** Whether the page reaches the head. */
  readonly last: boolean;
}

/** Reads commits after a revision. */
export type ReadLog = (after: number) => Promise<LogPage>;

const DONE = { done: true, value: undefined } as const;

/** The attached watchers and the reader that feeds them. */
export class WatchHub {
  readonly #read: ReadLog;
  readonly #watchers = new Set<Watcher>();
  readonly #attached = new Set<Watcher>();
  /** What the attached watchers have been handed. Means nothing while there are none. */
  #tail = 0;
  #woken = false;
  #tailing: Promise<void> | undefined;

  constructor(read: ReadLog) {
    this.#read = read;
  }

  /** The revision up to which attached watchers have everything; undefined while there are none. */
  get tail(): number | undefined {
    return this.#attached.size > 0 ? this.#tail : undefined;
  }

  /** To be called whenever something may have been committed. */
  wake(): void {
    if (this.#attached.size === 0) return;
    this.#woken = true;
    this.#tailing ??= this.#follow();
  }

  /** To be called with what was just committed. The next revision is handed on as it is; for any other the log is read. */
  offer(revision: number, commit: () => JournalCommit): void {
    if (this.#attached.size === 0) return;
    if (revision === this.#tail + 1) this.#hand(commit());
    else if (revision > this.#tail) this.wake();
  }

  watch(from: Position, queueLimit: number, signal: AbortSignal | undefined): AsyncIterableIterator<JournalCommit> {
    const watcher = new Watcher(from, queueLimit, {
      read: this.#read,
      attach: (it) => this.#attach(it),
      leave: (it) => {
        this.#watchers.delete(it);
        this.#attached.delete(it);
      },
    });
    this.#watchers.add(watcher);
    watcher.start(signal);
    return watcher;
  }

  /** Ends every watch with `error` and waits for the reader. */
  async close(error: Error): Promise<void> {
    for (const watcher of this.#watchers) watcher.fail(error);
    await this.#tailing;
  }

  #attach(watcher: Watcher): boolean {
    if (this.#attached.size === 0) this.#tail = watcher.position;
    else if (watcher.position < this.#tail) return false;
    this.#attached.add(watcher);
    // What was committed since the watcher's last page woke nobody.
    this.wake();
    return true;
  }

  async #follow(): Promise<void> {
    while (this.#woken && this.#attached.size > 0) {
      this.#woken = false;
      const from = this.#tail;
      try {
        const page = await this.#read(from);
        // The watchers may have been replaced by others, who begin elsewhere, and woke the reader when they came.
        if (from <= this.#tail) this.#handOut(page);
      } catch (error) {
        for (const watcher of this.#attached) watcher.fail(error);
      }
    }
    this.#woken = false;
    this.#tailing = undefined;
  }

  #handOut({ head, horizon, commits, last }: LogPage): void {
    // What was offered while the page was read is past its head.
    if (head >= this.#tail) checkReach(this.#tail, head, horizon);
    for (const commit of commits) if (commit.revision > this.#tail) this.#hand(commit);
    if (!last) this.#woken = true;
  }

  #hand(commit: JournalCommit): void {
    this.#tail = commit.revision;
    for (const watcher of this.#attached) watcher.hand(commit);
  }
}

interface Log {
  readonly read: ReadLog;
  /** Joins the attached watchers unless those are further on. */
  readonly attach: (watcher: Watcher) => boolean;
  readonly leave: (watcher: Watcher) => void;
}

interface Waiter {
  readonly resolve: (result: IteratorResult<JournalCommit>) => void;
  readonly reject: (error: unknown) => void;
}

class Watcher implements AsyncIterableIterator<JournalCommit> {
  readonly #epoch: string;
  readonly #queueLimit: number;
  readonly #log: Log;
  #queue: JournalCommit[] = [];
  /** Callers of `next` for whom there was nothing yet. Never both these and a queue. */
  #waiters: Waiter[] = [];
  /** The last revision queued, and the last one that the caller received. */
  #queued: number;
  #received: number;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #hasRoom: (() => void) | undefined;
  #stopListening: (() => void) | undefined;

  constructor(from: Position, queueLimit: number, log: Log) {
    this.#epoch = from.epoch;
    this.#queued = from.revision;
    this.#received = from.revision;
    this.#queueLimit = queueLimit;
    this.#log = log;
  }

  /** Everything up to here is in the queue or was received. */
  get position(): number {
    return this.#queued;
  }

  start(signal: AbortSignal | undefined): void {
    if (signal !== undefined) {
      const abort = (): void => this.#end();
      signal.addEventListener('abort', abort, { once: true });
      this.#stopListening = () => signal.removeEventListener('abort', abort);
      if (signal.aborted) this.#end();
    }
    this.#catchUp().catch((error: unknown) => this.fail(error));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<JournalCommit>> {
    const commit = this.#queue.shift();
    if (commit !== undefined) {
      this.#received = commit.revision;
      this.#hasRoom?.();
      return Promise.resolve({ done: false, value: commit });
    }
    if (this.#failure !== undefined) {
      const { error } = this.#failure;
      this.#failure = undefined;
      return Promise.reject(error as Error);
    }
    if (this.#ended) return Promise.resolve(DONE);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  return(): Promise<IteratorResult<JournalCommit>> {
    this.#end();
    return Promise.resolve(DONE);
  }

  /** Takes a commit from the tailer, or is cut when too many wait already. */
  hand(commit: JournalCommit): void {
    if (this.#ended || commit.revision <= this.#queued) return;
    if (this.#queue.length >= this.#queueLimit) {
      this.fail(slow({ epoch: this.#epoch, revision: this.#received }, this.#queueLimit));
      return;
    }
    this.#push(commit);
  }

  /** Ends the watch with an error; what was not received yet is dropped, to be read again on resuming. */
  fail(error: unknown): void {
    if (this.#ended) return;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#failure = { error };
    else waiter.reject(error);
    this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#queue = [];
    for (const waiter of this.#waiters.splice(0)) waiter.resolve(DONE);
    this.#hasRoom?.();
    this.#stopListening?.();
    this.#log.leave(this);
  }

  #push(commit: JournalCommit): void {
    this.#queued = commit.revision;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#queue.push(commit);
    } else {
      this.#received = commit.revision;
      waiter.resolve({ done: false, value: commit });
    }
  }

  /** Until it is attached a watcher cannot be too slow: it reads only when there is room. */
  async #catchUp(): Promise<void> {
    while (!this.#ended) {
      const { head, horizon, commits, last } = await this.#log.read(this.#queued);
      checkReach(this.#queued, head, horizon);
      for (const commit of commits) {
        if (this.#queue.length >= this.#queueLimit) await this.#room();
        if (this.#ended) return;
        this.#push(commit);
      }
      if (last && !this.#ended && this.#log.attach(this)) return;
    }
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#hasRoom = () => {
        this.#hasRoom = undefined;
        resolve();
      };
    });
  }
}
