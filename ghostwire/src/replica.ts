// Keeps the in-memory state equal to the journal: everything at revision r, then every commit after it, in order.
//
// Each part of the domain subscribes to a prefix of keys and holds what it needs in whatever form answers fastest. Nothing
// is ever written to that state by the one who commits: he waits with `settled` until his own revision has come
// around. So there is one order of events, the journal's, also when another coordinator made the commit.

import { setImmediate as turn } from 'node:timers/promises';
import { isCoded } from './errors.js';
import type { Journal, JournalCommit, JsonValue } from './journal/journal.js';
import type { Logger } from './log.js';

/** One key's change. `value` is undefined when the key was deleted. */
export interface Applied {
  readonly key: string;
  readonly value: JsonValue | undefined;
  readonly revision: number;
}

type Apply = (event: Applied) => void;

interface Waiter {
  readonly revision: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const PAGE = 1_000;

export class Replica {
  readonly #journal: Journal;
  readonly #log: Logger;
  readonly #subscribers: { readonly prefix: string; readonly apply: Apply }[] = [];
  readonly #abort = new AbortController();
  /** Called when everything up to a revision has been applied, at most once a turn of the event loop. */
  #publish: (revision: number) => void = () => undefined;
  #revision = 0;
  #settled = 0;
  #scheduled = false;
  #waiters: Waiter[] = [];
  #following: Promise<void> = Promise.resolve();
  #failure: unknown;
  #onFailure: (error: unknown) => void = () => undefined;

  constructor(journal: Journal, log: Logger) {
    this.#journal = journal;
    this.#log = log;
  }

  /** Subscribers are called in the order in which they were added. Add them before `start`. */
  on(prefix: string, apply: Apply): void {
    this.#subscribers.push({ prefix, apply });
  }

  onPublish(publish: (revision: number) => void): void {
    this.#publish = publish;
  }

  /** The last revision that is applied and published. */
  get revision(): number {
    return this.#settled;
  }

  /** Whether the state follows the journal. False after a failure that only a restart repairs. */
  get following(): boolean {
    return this.#failure === undefined && !this.#abort.signal.aborted;
  }

  /** Applies the journal's present state, then follows it until `stop`. `onFailure` is called at most once. */
  async start(onFailure: (error: unknown) => void): Promise<void> {
    this.#onFailure = onFailure;
    this.#revision = await this.#load();
    this.#publish(this.#revision);
    this.#settled = this.#revision;
    this.#following = this.#follow().catch((error: unknown) => this.#fail(error));
  }

  /** Resolves when `revision` is applied and published. */
  settled(revision: number): Promise<void> {
    if (revision <= this.#settled) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure as Error);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ revision, resolve, reject });
    });
  }

  /** Resolves when everything that is committed now is applied and published. */
  async caughtUp(): Promise<void> {
    await this.settled(await this.#journal.revision());
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#following;
  }

  async #load(): Promise<number> {
    let revision: number | undefined;
    for (const { prefix, apply } of this.#subscribers) {
      let after: string | undefined;
      do {
        const page = await this.#journal.list(prefix, {
          limit: PAGE,
          ...(after === undefined ? {} : { after }),
          ...(revision === undefined ? {} : { revision }),
        });
        revision = page.revision;
        for (const entry of page.entries) apply(entry);
        after = page.entries.length < PAGE ? undefined : page.entries.at(-1)?.key;
      } while (after !== undefined);
    }
    return revision ?? 0;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#abort;
    for (;;) {
      try {
        const from = { epoch: this.#journal.epoch, revision: this.#revision };
        for await (const commit of this.#journal.watch(from, { signal })) this.#apply(commit);
        return;
      } catch (error) {
        if (signal.aborted) return;
        // Cut for being slow: nothing is lost, the watch continues after the last revision applied.
        if (!isCoded(error) || error.code !== 'ERR_WATCH_SLOW') throw error;
        this.#log.warn({ revision: this.#revision }, 'fell behind the journal; resuming');
        await turn();
      }
    }
  }

  #apply({ revision, events }: JournalCommit): void {
    for (const event of events) {
      const value = 'value' in event ? event.value : undefined;
      for (const { prefix, apply } of this.#subscribers) {
        if (event.key.startsWith(prefix)) apply({ key: event.key, value, revision });
      }
    }
    this.#revision = revision;
    this.refresh();
  }

  /** Publishes again, soon, what no commit told of. */
  refresh(): void {
    if (this.#scheduled) return;
    // Commits of one group arrive together, in the promise jobs of one turn: publish them together, when those have run.
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      this.#announce();
    });
  }

  #announce(): void {
    if (this.#failure !== undefined) return;
    const revision = this.#revision;
    try {
      this.#publish(revision);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#settled = revision;
    const waiting: Waiter[] = [];
    for (const waiter of this.#waiters) {
      if (waiter.revision <= revision) waiter.resolve();
      else waiting.push(waiter);
    }
    this.#waiters = waiting;
  }

  /** Memory no longer equals the journal: nothing more is answered from it. */
  #fail(error: unknown): void {
    this.#failure = error;
    this.#abort.abort();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
    this.#onFailure(error);
  }
}
