// The one door to durable state: conditional commits on an ordered log of keys, and watches that follow it without gaps.
//
// This file is the contract. `laws` in `__test__/journal.conformance.ts` say the same as runnable checks, and any
// journal passes them. `sqlite.ts` is the journal in use, `memory.ts` the plain one that it is compared with.

/** What a key can hold. It is stored as JSON text: reading gives what `JSON.parse(JSON.stringify(value))` gives. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [name: string]: JsonValue };

/** What must be true of a key when the commit is made. */
export type Condition =
  /** The key has no value: never put, or deleted since. */
  | { readonly key: string; readonly absent: true }
  /** The key has a value, and the commit that put it was `revision`. */
  | { readonly key: string; readonly revision: number };

/**
 * Adds `n` to a counter unless that would pass `limit`. A counter that was never taken from stands at 0. Its value is
 * readable, watchable and deletable as the key `counters/<counter>`, but only takes write it.
 */
export interface Take {
  readonly counter: string;
  /** At least 1. */
  readonly n: number;
  /** The highest value that this take may leave behind. */
  readonly limit: number;
}

/** Made as a whole or not at all. No key may be put, deleted or taken from twice in one change. */
export interface Change {
  readonly conditions?: readonly Condition[];
  readonly takes?: readonly Take[];
  readonly puts?: readonly { readonly key: string; readonly value: JsonValue }[];
  /** Deleting a key without a value is allowed, and is logged. */
  readonly deletes?: readonly string[];
}

export type CommitResult =
  /** Durable. `taken` holds the counters' new values, in the order of the takes. */
  | { readonly status: 'committed'; readonly id: string; readonly revision: number; readonly taken: readonly number[] }
  /** Nothing was changed, because of this: conditions are looked at first, then takes, each in order. */
  | { readonly status: 'conflict'; readonly failed: Condition | Take }
  /** The answer was lost. `resolve(id)` finds out. */
  | { readonly status: 'unknown'; readonly id: string };

export interface CommitOptions {
  /** Milliseconds, after which a commit that is not yet made is given up with ERR_DEADLINE. */
  readonly deadline?: number;
}

export interface Entry {
  readonly key: string;
  readonly value: JsonValue;
  /** The commit that put the value. */
  readonly revision: number;
}

export type JournalEvent =
  | { readonly key: string; readonly value: JsonValue }
  | { readonly key: string; readonly deleted: true };

/** One commit as the log holds it: takes in their order (as puts of their counters), then puts, then deletes. */
export interface JournalCommit {
  readonly revision: number;
  /** Milliseconds since 1970; never less than that of an earlier revision. */
  readonly at: number;
  readonly events: readonly JournalEvent[];
}

/** A place in one history: everything up to and including `revision` has been seen. */
export interface Position {
  readonly epoch: string;
  readonly revision: number;
}

export interface ListOptions {
  /** The state as of this revision; default: the present. */
  readonly revision?: number;
  /** Only keys after this one: the last key of the page before. */
  readonly after?: string;
  /** Entries at most; default: all. */
  readonly limit?: number;
}

export interface Snapshot {
  /** Watch from here to follow what the entries become. */
  readonly revision: number;
  /** In the order of their keys' bytes. */
  readonly entries: readonly Entry[];
}

export interface WatchOptions {
  /** Commits that may wait for this watcher before it is cut; default 1,024. */
  readonly queueLimit?: number;
  /** Ends the iteration, without an error. */
  readonly signal?: AbortSignal;
}

/** What history to keep. Given several, whatever one of them keeps is kept; given none, nothing but the present. */
export interface CompactOptions {
  /** As many of the newest revisions. */
  readonly keepRevisions?: number;
  /** This revision and all after it. */
  readonly before?: number;
  /** Commits of the last so many milliseconds. */
  readonly maxAge?: number;
}

export interface CompactResult {
  /** The oldest revision that can still be listed, and watched from. */
  readonly horizon: number;
  /** Events removed. */
  readonly removed: number;
}

/**
 * Revisions count up from 1; 0 is the empty journal. A commit that starts after another was acknowledged has the higher
 * revision, and every read that starts after an acknowledgement sees that commit.
 *
 * Any call can fail with ERR_JOURNAL_CLOSED, or with an error of the database underneath; then nothing was changed.
 */
export interface Journal {
  /** Names this history. Another epoch means that the history was replaced, and its revisions are other revisions. */
  readonly epoch: string;

  /**
   * @throws ERR_JOURNAL_LIMIT, ERR_JOURNAL_KEY or ERR_JOURNAL_CHANGE, before anything is sent
   */
  commit(change: Change, options?: CommitOptions): Promise<CommitResult>;

  /**
   * Whether the commit of this id was made. The answer is final: a commit that is absent now stays so.
   * @throws ERR_JOURNAL_COMPACTED when its time is compacted and the id may have been forgotten (an hour at the earliest)
   */
  resolve(commitId: string): Promise<{ status: 'committed'; revision: number } | { status: 'absent' }>;

  /** The latest revision. */
  revision(): Promise<number>;

  get(key: string): Promise<Entry | undefined>;

  /**
   * The keys that begin with `prefix`, all as of one revision.
   * @throws ERR_JOURNAL_COMPACTED for a revision below the horizon, ERR_JOURNAL_AHEAD for one not yet reached
   */
  list(prefix: string, options?: ListOptions): Promise<Snapshot>;

  /**
   * Every commit after `from`, one by one, in order. The iteration ends only by `signal`, by leaving the loop, or with:
   * @throws ERR_WATCH_SLOW when more than `queueLimit` commits waited; `details` is the Position to resume from
   * @throws ERR_JOURNAL_COMPACTED when commits after `from` are compacted: list, and watch from there
   * @throws ERR_JOURNAL_EPOCH for a position in another history, ERR_JOURNAL_AHEAD for one not yet reached
   */
  watch(from: Position, options?: WatchOptions): AsyncIterable<JournalCommit>;

  /** Forgets superseded values and deletions. The present state, and history above the horizon, stay as they are. */
  compact(options?: CompactOptions): Promise<CompactResult>;

  /** Ends every watch with ERR_JOURNAL_CLOSED and waits for calls under way. */
  close(): Promise<void>;
}

/** Sized to fit etcd's defaults (128 operations and 1.5 MiB a transaction), so that any journal can hold to them. */
export const LIMITS = {
  /** Keys put, deleted or taken from in one commit. */
  keysPerCommit: 128,
  conditionsPerCommit: 128,
  /** Bytes of all keys and JSON texts of a commit. */
  bytesPerCommit: 1_310_720,
  /** Bytes of one value's JSON text. */
  bytesPerValue: 1_048_576,
  /** Characters of a key. Keys are visible ASCII (0x21 to 0x7e), so characters are bytes. */
  keyLength: 512,
} as const;

/** Where the counters of takes are among the keys. */
export const COUNTERS = 'counters/';

export const DEFAULT_QUEUE_LIMIT = 1_024;
