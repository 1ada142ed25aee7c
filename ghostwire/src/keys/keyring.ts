// What admin keys and pre-auth keys have in common: a durable record a key, and all of them in memory.
//
// A record changes only when the key is made or revoked. Uses are counted beside it (see preauth.ts), so a commit may
// condition on the record's revision without fighting other commits that use the same key.

import { commit, untilCommitted } from '../commit.js';
import { GhostwireError } from '../errors.js';
import type { Change, Journal, JsonValue } from '../journal/journal.js';
import type { Applied, Replica } from '../replica.js';
import { matches, mintKey, parseKey, type KeyKind } from './secrets.js';

/** The durable part of a key. Times are milliseconds since 1970. */
export type KeyRecord = {
  readonly description: string;
  /** SHA-256 of the secret, base64url. */
  readonly hash: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
};

export interface Key<R extends KeyRecord> {
  readonly id: string;
  readonly record: R;
  readonly revision: number;
}

export type KeyState = 'active' | 'expired' | 'revoked';

export function stateOf({ revokedAt, expiresAt }: KeyRecord, now: number): KeyState {
  if (revokedAt !== null) return 'revoked';
  return expiresAt !== null && expiresAt <= now ? 'expired' : 'active';
}

export class KeyRing<R extends KeyRecord & { readonly [name: string]: JsonValue }> {
  readonly #kind: Exclude<KeyKind, 'peer'>;
  readonly #prefix: string;
  readonly #journal: Journal;
  readonly #replica: Replica;
  readonly #keys = new Map<string, Key<R>>();

  constructor(kind: Exclude<KeyKind, 'peer'>, journal: Journal, replica: Replica) {
    this.#kind = kind;
    this.#prefix = `${kind}-keys/`;
    this.#journal = journal;
    this.#replica = replica;
    replica.on(this.#prefix, (event) => this.#apply(event));
  }

  /** The journal key of a key's record. */
  path(id: string): string {
    return `${this.#prefix}${id}`;
  }

  /** All keys, the newest first. */
  all(): Key<R>[] {
    return [...this.#keys.values()].sort((a, b) => b.record.createdAt - a.record.createdAt);
  }

  get(id: string): Key<R> | undefined {
    return this.#keys.get(id);
  }

  /** The key that this text proves to hold, in whatever state it is; undefined when it proves nothing. */
  find(text: string): Key<R> | undefined {
    const parsed = parseKey(this.#kind, text);
    const key = parsed === undefined ? undefined : this.#keys.get(parsed.id);
    return key !== undefined && parsed !== undefined && matches(parsed.secret, key.record.hash) ? key : undefined;
  }

  /** A key that exists once `change` is committed. `text` holds the secret and is kept nowhere. */
  prepare(build: (hash: string) => R): { id: string; record: R; text: string; change: Change } {
    const { id, text, hash } = mintKey(this.#kind);
    const record = build(hash);
    const path = this.path(id);
    return { id, record, text, change: { conditions: [{ key: path, absent: true }], puts: [{ key: path, value: record }] } };
  }

  async create(build: (hash: string) => R): Promise<{ key: Key<R>; text: string }> {
    const { id, record, text, change } = this.prepare(build);
    const result = await commit(this.#journal, change);
    if (result.status === 'conflict') throw new GhostwireError('ERR_CONTENTION', `the key id ${id} is taken`);
    await this.#replica.settled(result.revision);
    return { key: { id, record, revision: result.revision }, text };
  }

  /**
   * Revokes a key for good; revoking it again changes nothing.
   * @param guard names a record that must not change meanwhile, or throws
   * @throws GhostwireError ERR_KEY_NOT_FOUND
   */
  async revoke(id: string, guard: (key: Key<R>) => Key<R> | undefined = () => undefined): Promise<Key<R>> {
    return untilCommitted(`revoking key ${id}`, async () => {
      const key = this.#keys.get(id);
      if (key === undefined) throw new GhostwireError('ERR_KEY_NOT_FOUND', `no ${this.#kind} key has the id ${JSON.stringify(id)}`, { id });
      if (key.record.revokedAt !== null) return key;
      const other = guard(key);
      const record = { ...key.record, revokedAt: Date.now() };
      const result = await commit(this.#journal, {
        conditions: [key, ...(other === undefined ? [] : [other])].map((held) => ({ key: this.path(held.id), revision: held.revision })),
        puts: [{ key: this.path(id), value: record }],
      });
      if (result.status === 'conflict') {
        await this.#replica.caughtUp();
        return undefined;
      }
      await this.#replica.settled(result.revision);
      return { id, record, revision: result.revision };
    });
  }

  #apply({ key, value, revision }: Applied): void {
    const id = key.slice(this.#prefix.length);
    if (value === undefined) this.#keys.delete(id);
    else this.#keys.set(id, { id, record: value as R, revision });
  }
}
