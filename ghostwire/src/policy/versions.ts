// The versions of the policy: every text that was ever put in force, numbered, as long as there is room.
//
// Each is a journal key of its own; `policy/current` says which one is in force. Of the others only what a list shows is
// held in memory: their texts are read from the journal when somebody asks.

import { GhostwireError } from '../errors.js';
import type { Journal } from '../journal/journal.js';
import type { Applied } from '../replica.js';

const VERSIONS = 'policy/versions/';

/** How many are kept, and how many characters of text they have together: the newest that fit both. */
export const KEPT = { count: 100, characters: 16 * 1024 * 1024 } as const;

/** What is said of a version without its text. */
export interface VersionInfo {
  /** From 1, without gaps. */
  readonly version: number;
  /** Milliseconds since 1970. */
  readonly writtenAt: number;
  /** Id of the admin key that wrote it; null for one that was written by the server itself. */
  readonly author: string | null;
  readonly comment: string;
  /** The version whose text this one brought back. */
  readonly rollbackOf: number | null;
  /** Characters of its text. */
  readonly size: number;
}

export type VersionRecord = Omit<VersionInfo, 'size'> & {
  /** HuJSON */
  readonly text: string;
};

/** Numbers of equal length, so that keys are in the order of versions. */
export const versionKey = (version: number): string => VERSIONS + String(version).padStart(12, '0');

export class Versions {
  readonly #journal: Journal;
  readonly #infos = new Map<number, VersionInfo>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Takes note of a key of the journal; returns the record if it is a version that was put. */
  apply({ key, value }: Applied): VersionRecord | undefined {
    if (!key.startsWith(VERSIONS)) return undefined;
    if (value === undefined) {
      this.#infos.delete(Number(key.slice(VERSIONS.length)));
      return undefined;
    }
    const record = value as VersionRecord;
    const { text, ...info } = record;
    this.#infos.set(record.version, { ...info, size: text.length });
    return record;
  }

  /** The newest first. */
  list(): VersionInfo[] {
    return [...this.#infos.values()].sort((a, b) => b.version - a.version);
  }

  /** @throws GhostwireError ERR_POLICY_VERSION when there is none of this number, or no longer */
  async get(version: number): Promise<VersionRecord> {
    const entry = this.#infos.has(version) ? await this.#journal.get(versionKey(version)) : undefined;
    if (entry === undefined) {
      const kept = [...this.#infos.keys()];
      const range = kept.length === 0 ? 'there are none' : `versions ${Math.min(...kept)} to ${Math.max(...kept)} are kept`;
      throw new GhostwireError('ERR_POLICY_VERSION', `policy version ${version} does not exist, or is no longer kept; ${range}`, { version });
    }
    return entry.value as VersionRecord;
  }

  /** Keys of the versions for which there is no room beside a new text. */
  superseded(text: string): string[] {
    let { count, characters } = KEPT;
    count -= 1;
    characters -= text.length;
    const surplus = this.list().filter(({ size }) => {
      count -= 1;
      characters -= size;
      return count < 0 || characters < 0;
    });
    return surplus.slice(-64).map(({ version }) => versionKey(version));
  }
}
