// What every journal refuses, in the same words. Changes are checked and encoded before they are sent, so that none
// arrives that cannot be held.

import { GhostwireError } from '../errors.js';
import { COUNTERS, DEFAULT_QUEUE_LIMIT, LIMITS } from './journal.js';
import type { Change, Condition, JsonValue, Position, Take, WatchOptions } from './journal.js';

/** A change that keeps every limit. */
export interface EncodedChange {
  readonly conditions: readonly Condition[];
  /** As they were given. */
  readonly takes: readonly Take[];
  /** Where the counters of `takes` are. */
  readonly counters: readonly string[];
  /** Puts, then deletes (`json` null). */
  readonly writes: readonly Write[];
}

export interface Write {
  readonly key: string;
  readonly json: string | null;
}

const KEY = /^[\x21-\x7e]+$/;

const malformed = (message: string, details: Record<string, unknown> = {}, options?: ErrorOptions): GhostwireError =>
  new GhostwireError('ERR_JOURNAL_CHANGE', message, details, options);

function checkLimit(limit: keyof typeof LIMITS, actual: number, what: string): void {
  const maximum = LIMITS[limit];
  if (actual <= maximum) return;
  throw new GhostwireError('ERR_JOURNAL_LIMIT', `${what}: ${actual} exceeds ${limit}, ${maximum}`, { limit, maximum, actual });
}

/** @throws ERR_JOURNAL_KEY or ERR_JOURNAL_LIMIT unless `key` is 1 to 512 visible ASCII characters */
export function checkKey(key: string): void {
  if (typeof key !== 'string' || !KEY.test(key)) {
    throw new GhostwireError('ERR_JOURNAL_KEY', `${JSON.stringify(key)} is not a key: visible ASCII characters, at least one`, { key });
  }
  checkLimit('keyLength', key.length, `key ${key.slice(0, 64)}…`);
}

/** Like `checkKey`, but the empty prefix stands for every key. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix);
}

/** @throws ERR_JOURNAL_CHANGE unless `value` is a whole number of at least `minimum` */
export function checkWhole(what: string, value: number, minimum: number): void {
  if (!Number.isSafeInteger(value) || value < minimum) {
    throw malformed(`${what} is ${value}, not a whole number of at least ${minimum}`, { value });
  }
}

function encode(key: string, value: JsonValue): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (cause) {
    throw malformed(`the value of ${key} has no JSON form`, { key }, { cause });
  }
  if (json === undefined) throw malformed(`the value of ${key} has no JSON form`, { key });
  return json;
}

/** Keys that may each be named once. */
class Keys {
  readonly #seen = new Set<string>();
  readonly #what: string;
  bytes = 0;

  constructor(what: string) {
    this.#what = what;
  }

  has(key: string): boolean {
    return this.#seen.has(key);
  }

  /** @param checked whether `key` is known to be one */
  add(key: string, checked = false): void {
    if (!checked) checkKey(key);
    if (this.#seen.has(key)) throw malformed(`${key} is ${this.#what} twice in one change`, { key });
    this.#seen.add(key);
    this.bytes += key.length;
  }
}

/** @throws ERR_JOURNAL_LIMIT, ERR_JOURNAL_KEY or ERR_JOURNAL_CHANGE */
export function encodeChange({ conditions = [], takes = [], puts = [], deletes = [] }: Change): EncodedChange {
  const count = takes.length + puts.length + deletes.length;
  if (count === 0) throw malformed('the change is empty: it has no put, delete or take');
  checkLimit('keysPerCommit', count, 'the change');
  checkLimit('conditionsPerCommit', conditions.length, 'the change');

  const conditioned = new Keys('conditioned on');
  for (const condition of conditions) {
    conditioned.add(condition.key);
    if ('revision' in condition) checkWhole(`the revision conditioned on for ${condition.key}`, condition.revision, 1);
    else if (!condition.absent) throw malformed(`the condition on ${condition.key} says neither absent nor a revision`);
  }

  const written = new Keys('written');
  const counters: string[] = [];
  for (const { counter, n, limit } of takes) {
    const key = COUNTERS + counter;
    written.add(key);
    checkWhole(`what is taken from ${counter}`, n, 1);
    checkWhole(`the limit of ${counter}`, limit, 0);
    counters.push(key);
  }
  const writes: Write[] = [];
  let bytes = 0;
  for (const { key, value } of puts) {
    written.add(key, conditioned.has(key));
    if (key.startsWith(COUNTERS)) throw malformed(`${key} is a counter: only takes write it`, { key });
    const json = encode(key, value);
    const size = Buffer.byteLength(json);
    checkLimit('bytesPerValue', size, `the value of ${key}`);
    bytes += size;
    writes.push({ key, json });
  }
  for (const key of deletes) {
    written.add(key, conditioned.has(key));
    writes.push({ key, json: null });
  }
  checkLimit('bytesPerCommit', bytes + conditioned.bytes + written.bytes, 'the change');
  return { conditions, takes, counters, writes };
}

/** @throws ERR_JOURNAL_CHANGE unless `id` has the form of a commit's id */
export function checkCommitId(id: string): void {
  if (!/^[0-9a-f]{32}$/.test(id)) throw malformed(`${JSON.stringify(id)} is not a commit id: 32 hex digits`, { id });
}

/**
 * @returns the queue limit
 * @throws ERR_JOURNAL_EPOCH when `from` is of another history than `epoch`, ERR_JOURNAL_CHANGE for a number out of range
 */
export function checkWatch(from: Position, epoch: string, { queueLimit = DEFAULT_QUEUE_LIMIT }: WatchOptions): number {
  checkWhole('queueLimit', queueLimit, 1);
  checkWhole('the revision watched from', from.revision, 0);
  if (from.epoch !== epoch) {
    const message = `the position is of epoch ${from.epoch}, this history is ${epoch}`;
    throw new GhostwireError('ERR_JOURNAL_EPOCH', message, { epoch });
  }
  return queueLimit;
}

/** @throws ERR_JOURNAL_AHEAD or ERR_JOURNAL_COMPACTED unless the history holds all that came after `revision` */
export function checkReach(revision: number, head: number, horizon: number): void {
  if (revision > head) {
    const message = `revision ${revision} is not reached yet; the latest is ${head}`;
    throw new GhostwireError('ERR_JOURNAL_AHEAD', message, { revision, latest: head });
  }
  if (revision < horizon) {
    const message = `revision ${revision} is compacted; the oldest kept is ${horizon}`;
    throw new GhostwireError('ERR_JOURNAL_COMPACTED', message, { revision, oldest: horizon });
  }
}

/** A watcher that let too much wait. It received everything up to `position`. */
export function slow(position: Position, queueLimit: number): GhostwireError {
  const message = `the watcher left ${queueLimit} commits waiting; resume after revision ${position.revision}`;
  return new GhostwireError('ERR_WATCH_SLOW', message, { ...position });
}

export const closed = (): GhostwireError => new GhostwireError('ERR_JOURNAL_CLOSED', 'the journal is closed');
