// Pre-auth keys: what a machine shows to register, and how often it may.

import type { AddressPools } from '../addresses/pools.js';
import { addressPath } from '../addresses/record.js';
import { commit, untilCommitted } from '../commit.js';
import { GhostwireError } from '../errors.js';
import { LIMITS, type Change, type Journal } from '../journal/journal.js';
import type { Applied, Replica } from '../replica.js';
import { KeyRing, stateOf, type Key, type KeyRecord } from './keyring.js';

export type PreauthRecord = KeyRecord & {
  /** Registrations allowed in all; null is no limit, 1 a one-time key. */
  readonly maxUses: number | null;
  /** Tags that every peer registered with this key carries. */
  readonly tags: string[];
  /** The user that owns such peers; null lets the machine name its user. */
  readonly user: string | null;
  /** The address that the peer gets which registers with this one-time key; keys from before it could be chosen have no such member. */
  readonly ipv4?: string | null;
};

export type PreauthKey = Key<PreauthRecord> & { readonly uses: number };

export interface NewPreauthKey {
  readonly description: string;
  readonly expiresAt: number | null;
  readonly maxUses: number | null;
  readonly tags: readonly string[];
  readonly user: string | null;
  /** Kept for the one peer that it registers. */
  readonly ipv4?: string | null;
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

export interface PreauthServices {
  readonly journal: Journal;
  readonly replica: Replica;
  readonly addresses: AddressPools;
}

export class PreauthKeys {
  readonly #services: PreauthServices;
  readonly #ring: KeyRing<PreauthRecord>;
  readonly #uses = new Map<string, number>();

  constructor(services: PreauthServices) {
    this.#services = services;
    const { journal, replica } = services;
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

  /** Whether a machine can register with the key of this id. */
  isUsable(id: string): boolean {
    const record = this.#ring.get(id)?.record;
    return record !== undefined && stateOf(record, Date.now()) === 'active' && (record.maxUses === null || this.uses(id) < record.maxUses);
  }

  /**
   * The text is shown this once.
   * @throws GhostwireError ERR_ADDRESS, ERR_ADDRESS_TAKEN; ERR_VALIDATION for an address and several uses
   */
  async create(wanted: NewPreauthKey): Promise<{ key: PreauthKey; text: string }> {
    const { ipv4 } = wanted;
    const { key, text } =
      typeof ipv4 === 'string' ? await this.#createKeeping(wanted, ipv4) : await this.#ring.create((hash) => record(wanted, hash));
    return { key: { ...key, uses: 0 }, text };
  }

  /** The key, and that an address is kept for whom it registers. */
  #createKeeping(wanted: NewPreauthKey, ipv4: string): Promise<{ key: Key<PreauthRecord>; text: string }> {
    const { journal, replica, addresses } = this.#services;
    if (wanted.maxUses !== 1)
      throw new GhostwireError('ERR_VALIDATION', 'ipv4: only a key of one use can have an address, as one peer can', { path: 'ipv4' });
    return untilCommitted(`keeping ${ipv4} for a pre-auth key`, async () => {
      const proposal = addresses.claim(ipv4);
      try {
        const { id, record: made, text, change } = this.prepare(wanted);
        const result = await commit(journal, {
          conditions: [...(change.conditions ?? []), proposal.condition],
          puts: [...(change.puts ?? []), { key: addressPath(ipv4), value: { preauthKey: id } }],
        });
        await (result.status === 'conflict' ? replica.caughtUp() : replica.settled(result.revision));
        return result.status === 'conflict' ? undefined : { key: { id, record: made, revision: result.revision }, text };
      } finally {
        addresses.withdraw(proposal);
      }
    });
  }

  /** A key that exists once `change` is committed. */
  prepare(wanted: NewPreauthKey): { id: string; record: PreauthRecord; text: string; change: Change } {
    return this.#ring.prepare((hash) => record(wanted, hash));
  }

  /** @throws GhostwireError ERR_KEY_NOT_FOUND */
  async revoke(id: string): Promise<PreauthKey> {
    const key = await this.#ring.revoke(id);
    const { ipv4 } = key.record;
    // The key is revoked, whatever becomes of the address; a later `sweepAddresses` forgets it as well.
    if (typeof ipv4 === 'string') await this.#forgetKept(ipv4, id).catch(() => undefined);
    return { ...key, uses: this.uses(id) };
  }

  /** An address that was kept for a key is free again. A registration with it that is under way fails, as the key is revoked. */
  async #forgetKept(ipv4: string, id: string): Promise<void> {
    const { journal, replica, addresses } = this.#services;
    const condition = addresses.keptFor(ipv4, id);
    if (condition === undefined) return;
    const result = await commit(journal, { conditions: [condition], deletes: [condition.key] });
    await (result.status === 'conflict' ? replica.caughtUp() : replica.settled(result.revision));
  }

  /** Forgets addresses that have rested, and those kept for keys that can no longer be used. @returns how many */
  async sweepAddresses(): Promise<number> {
    const { journal, replica, addresses } = this.#services;
    let forgotten = 0;
    for (;;) {
      const conditions = addresses.forgettable((id) => this.isUsable(id), LIMITS.keysPerCommit);
      if (conditions.length === 0) return forgotten;
      const result = await commit(journal, { conditions, deletes: conditions.map(({ key }) => key) });
      // What another one took or forgot meanwhile is not among the next.
      if (result.status === 'conflict') await replica.caughtUp();
      else {
        await replica.settled(result.revision);
        forgotten += conditions.length;
      }
    }
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

const record = ({ description, expiresAt, maxUses, tags, user, ipv4 = null }: NewPreauthKey, hash: string): PreauthRecord => ({
  description,
  hash,
  createdAt: Date.now(),
  expiresAt,
  revokedAt: null,
  maxUses,
  tags: [...tags],
  user,
  ipv4,
});
