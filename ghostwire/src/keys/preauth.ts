// Pre-auth keys: what a machine shows to register, and how often it may.

import { GhostwireError } from '../errors.js';
import type { Change, Journal } from '../journal/journal.js';
import type { Applied, Replica } from '../replica.js';
import { KeyRing, stateOf, type Key, type KeyRecord } from './keyring.js';

export type PreauthRecord = KeyRecord & {
  /** Registrations allowed in all; null is no limit, 1 a one-time key. */
  readonly maxUses: number | null;
  /** Tags that every peer registered with this key carries. */
  readonly tags: string[];
  /** The user that owns such peers; null lets the machine name its user. */
  readonly user: string | null;
};

export type PreauthKey = Key<PreauthRecord> & { readonly uses: number };

export interface NewPreauthKey {
  readonly description: string;
  readonly expiresAt: number | null;
  readonly maxUses: number | null;
  readonly tags: readonly string[];
  readonly user: string | null;
}

/** The counter's name in the journal; it shows as the key `counters/<name>`. */
const counterOf = (id: string): string => `preauth-keys/${id}/uses`;
const COUNTERS = 'counters/preauth-keys/';

/** The parts of a registration's commit that spend one use of a key. */
export interface Admission {
  /** Fails when the key is revoked before the commit. Its record changes at no other time. */
  readonly condition: { readonly key: string; readonly revision: number };
  /** Counted by the journal's writer in order, so registrations with one key never conflict with each other. */
  readonly take: { readonly counter: string; readonly n: number; readonly limit: number };
}

export class PreauthKeys {
  readonly #ring: KeyRing<PreauthRecord>;
  readonly #uses = new Map<string, number>();

  constructor(journal: Journal, replica: Replica) {
    this.#ring = new KeyRing('preauth', journal, replica);
    replica.on(COUNTERS, (event) => this.#count(event));
  }

  /**
   * The working key that this text is. Memory only.
   * @throws GhostwireError ERR_KEY_INVALID, and only to who knows the secret: ERR_KEY_REVOKED, ERR_KEY_EXPIRED, ERR_KEY_USED_UP
   */
  check(text: string): Key<PreauthRecord> {
    const key = this.#ring.find(text);
    if (key === undefined) throw new GhostwireError('ERR_KEY_INVALID', 'preauthKey is not a pre-auth key of this server');
    const { id, record } = key;
    const state = stateOf(record, Date.now());
    if (state === 'revoked') throw new GhostwireError('ERR_KEY_REVOKED', `pre-auth key ${id} has been revoked`, { id });
    if (state === 'expired') throw new GhostwireError('ERR_KEY_EXPIRED', `pre-auth key ${id} has expired`, { id });
    if (record.maxUses !== null && this.uses(id) >= record.maxUses) throw usedUp(id, record.maxUses);
    return key;
  }

  admit({ id, record, revision }: Key<PreauthRecord>): Admission {
    return {
      condition: { key: this.#ring.path(id), revision },
      take: { counter: counterOf(id), n: 1, limit: record.maxUses ?? Number.MAX_SAFE_INTEGER },
    };
  }

  uses(id: string): number {
    return this.#uses.get(id) ?? 0;
  }

  list(): PreauthKey[] {
    return this.#ring.all().map((key) => ({ ...key, uses: this.uses(key.id) }));
  }

  /** The text is shown this once. */
  async create(wanted: NewPreauthKey): Promise<{ key: PreauthKey; text: string }> {
    const { key, text } = await this.#ring.create((hash) => record(wanted, hash));
    return { key: { ...key, uses: 0 }, text };
  }

  /** A key that exists once `change` is committed. */
  prepare(wanted: NewPreauthKey): { text: string; change: Change } {
    return this.#ring.prepare((hash) => record(wanted, hash));
  }

  /** @throws GhostwireError ERR_KEY_NOT_FOUND */
  async revoke(id: string): Promise<PreauthKey> {
    return { ...(await this.#ring.revoke(id)), uses: this.uses(id) };
  }

  #count({ key, value }: Applied): void {
    const id = key.slice(COUNTERS.length, -'/uses'.length);
    if (typeof value === 'number') this.#uses.set(id, value);
    else this.#uses.delete(id);
  }
}

export const usedUp = (id: string, limit: number): GhostwireError =>
  new GhostwireError('ERR_KEY_USED_UP', `pre-auth key ${id} has been used ${limit} time${limit === 1 ? '' : 's'}, as often as it allows`, {
    id,
    limit,
  });

const record = ({ description, expiresAt, maxUses, tags, user }: NewPreauthKey, hash: string): PreauthRecord => ({
  description,
  hash,
  createdAt: Date.now(),
  expiresAt,
  revokedAt: null,
  maxUses,
  tags: [...tags],
  user,
});
