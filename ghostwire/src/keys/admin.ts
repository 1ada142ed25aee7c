// Admin keys: who may use the admin half of the API.

import { GhostwireError } from '../errors.js';
import type { Change, Journal } from '../journal/journal.js';
import type { Replica } from '../replica.js';
import { KeyRing, stateOf, type Key, type KeyRecord } from './keyring.js';

export type AdminKey = Key<KeyRecord>;

export interface NewAdminKey {
  readonly description: string;
  /** Milliseconds since 1970; null never expires. */
  readonly expiresAt: number | null;
}

export class AdminKeys {
  readonly #ring: KeyRing<KeyRecord>;

  constructor(journal: Journal, replica: Replica) {
    this.#ring = new KeyRing('admin', journal, replica);
  }

  /** Whether this is the text of a working admin key. Memory only: cheap enough for every request. */
  accepts(text: string): boolean {
    return this.idOf(text) !== undefined;
  }

  /** The id of the working admin key whose text this is. */
  idOf(text: string): string | undefined {
    const key = this.#ring.find(text);
    return key !== undefined && stateOf(key.record, Date.now()) === 'active' ? key.id : undefined;
  }

  list(): AdminKey[] {
    return this.#ring.all();
  }

  /** The text is shown this once. */
  create(wanted: NewAdminKey): Promise<{ key: AdminKey; text: string }> {
    return this.#ring.create((hash) => record(wanted, hash));
  }

  /** A key that exists once `change` is committed. */
  prepare(wanted: NewAdminKey): { text: string; change: Change } {
    return this.#ring.prepare((hash) => record(wanted, hash));
  }

  /** @throws GhostwireError ERR_KEY_NOT_FOUND, ERR_LAST_ADMIN_KEY */
  revoke(id: string): Promise<AdminKey> {
    return this.#ring.revoke(id, (revoked) => {
      const now = Date.now();
      if (stateOf(revoked.record, now) !== 'active') return undefined;
      // The commit holds on to the other key, so that two revocations cannot remove the last two at once.
      const other = this.#ring.all().find((key) => key.id !== id && stateOf(key.record, now) === 'active');
      if (other === undefined)
        throw new GhostwireError('ERR_LAST_ADMIN_KEY', `${id} is the last working admin key; make another one first`, { id });
      return other;
    });
  }
}

const record = ({ description, expiresAt }: NewAdminKey, hash: string): KeyRecord => ({
  description,
  hash,
  createdAt: Date.now(),
  expiresAt,
  revokedAt: null,
});
