// The policy file in force: read, replaced, rolled back and remembered.
//
// The journal keeps the text as it was written, comments included; what it means is worked out again from the text.

import type { AclRule } from 'zqlite';
import { commit, untilCommitted } from '../commit.js';
import { GhostwireError } from '../errors.js';
import type { Condition, Journal } from '../journal/journal.js';
import type { Logger } from '../log.js';
import type { Peer } from '../peers/peer.js';
import type { Applied, Replica } from '../replica.js';
import { ALLOW_ALL, compilePolicy, DENY_ALL, type CompiledPolicy } from './compile.js';
import { readPolicy, type PolicyDocument } from './document.js';
import { failedTests } from './live-tests.js';
import { versionKey, Versions, type VersionRecord } from './versions.js';

const CURRENT = 'policy/current';
const POLICY = 'policy/';

/** Before there were versions, the text itself stood here: it counts as version 1. */
type CurrentRecord = { readonly version: number } | { readonly text: string; readonly writtenAt: number };

export interface Policy extends Omit<VersionRecord, 'version' | 'text' | 'writtenAt'> {
  /** Counts the texts that were put in force; 0 before there is one. */
  readonly version: number;
  /** The journal's revision that wrote it; 0 before there is one. */
  readonly revision: number;
  /** HuJSON; null before there is one, which allows everything. */
  readonly text: string | null;
  /** Milliseconds since 1970; null before there is one. */
  readonly writtenAt: number | null;
}

/** Who writes, and why. */
export interface Writing {
  /** Id of the admin key. */
  readonly author?: string | null;
  readonly comment?: string;
}

/** A policy that was read, and what it means. */
export interface CheckedPolicy {
  readonly document: PolicyDocument;
  readonly compiled: CompiledPolicy;
  readonly groups: ReadonlySet<string>;
}

export interface PolicyServices {
  readonly journal: Journal;
  readonly replica: Replica;
  readonly log: Logger;
  /** Throws when the ACL engine would refuse the rules. */
  readonly checkRules: (rules: readonly AclRule[]) => void;
  /** The peers that the tests of a policy are run against. */
  readonly peers: () => Iterable<Peer>;
  /** The rules beside the file: throws when they name what the file does not define. */
  readonly native: () => { checkGroups(names: ReadonlySet<string>): void; readonly condition: Condition };
}

const NONE: Policy = { version: 0, revision: 0, text: null, writtenAt: null, author: null, comment: '', rollbackOf: null };

export class Policies {
  readonly #services: PolicyServices;
  readonly versions: Versions;
  #current: Policy = NONE;
  #checked: Pick<CheckedPolicy, 'compiled' | 'groups'> = { compiled: ALLOW_ALL, groups: new Set() };
  /** Versions whose record has come before the word that they are in force, or the other way round. */
  #awaited: { readonly version: number; readonly revision: number } | undefined;
  readonly #arrived = new Map<number, VersionRecord>();
  /** The text that was read last, so that a text is not read again when its commit comes around. */
  #last: { readonly text: string; readonly checked: CheckedPolicy } | undefined;

  constructor(services: PolicyServices) {
    this.#services = services;
    this.versions = new Versions(services.journal);
    services.replica.on(POLICY, (event) => this.#apply(event));
  }

  get current(): Policy {
    return this.#current;
  }

  /** The file alone; native rules are not in it. */
  get compiled(): CompiledPolicy {
    return this.#checked.compiled;
  }

  get groups(): ReadonlySet<string> {
    return this.#checked.groups;
  }

  /** Holds while the policy in force stays. */
  get condition(): Condition {
    const { revision } = this.#current;
    return revision === 0 ? { key: CURRENT, absent: true } : { key: CURRENT, revision };
  }

  /** Whether tagOwners lets this user give a peer this tag. */
  mayTag(user: string, tag: string): boolean {
    return this.compiled.mayTag(user, tag);
  }

  /**
   * What a policy would mean; changes nothing. Its tests are run against the peers that there are.
   * @throws GhostwireError ERR_POLICY_*, with line and column
   */
  check(text: string): CompiledPolicy {
    return this.#tested(text).compiled;
  }

  /** As {@link check}, for a text that was in force once: its tests are of its own time. */
  read(text: string): CompiledPolicy {
    return this.#read(text).compiled;
  }

  /**
   * Puts a policy in force; the old one stays when this throws.
   * @param expect the version that the writer believes to be in force (0: none); undefined replaces whatever there is
   * @throws GhostwireError ERR_POLICY_*; ERR_POLICY_CHANGED when `expect` is not in force
   */
  put(text: string, expect?: number, { author = null, comment = '' }: Writing = {}): Promise<Policy> {
    return this.#write(text, expect, { author, comment, rollbackOf: null });
  }

  /**
   * Puts the text of an earlier version in force, as a new version.
   * @throws GhostwireError ERR_POLICY_VERSION; ERR_POLICY_CHANGED; ERR_POLICY_* when it can no longer be used
   */
  async rollback(version: number, expect?: number, { author = null, comment = '' }: Writing = {}): Promise<Policy> {
    const { text } = await this.versions.get(version);
    return this.#write(text, expect, { author, comment: comment === '' ? `rollback to version ${version}` : comment, rollbackOf: version });
  }

  #write(text: string, expect: number | undefined, about: Pick<VersionRecord, 'author' | 'comment' | 'rollbackOf'>): Promise<Policy> {
    const { journal, replica, native } = this.#services;
    return untilCommitted('writing the policy', async () => {
      this.#expect(expect);
      const { groups } = this.#tested(text);
      native().checkGroups(groups);
      await this.#keepUnnumbered();
      const record: VersionRecord = { version: this.#current.version + 1, text, writtenAt: Date.now(), ...about };
      const result = await commit(journal, {
        conditions: [this.condition, native().condition],
        puts: [
          { key: versionKey(record.version), value: record },
          { key: CURRENT, value: { version: record.version } },
        ],
        deletes: this.versions.superseded(text),
      });
      if (result.status === 'conflict') {
        await replica.caughtUp();
        this.#expect(expect);
        return undefined;
      }
      await replica.settled(result.revision);
      return { revision: result.revision, ...record };
    });
  }

  #expect(version: number | undefined): void {
    const now = this.#current.version;
    if (version !== undefined && version !== now)
      throw new GhostwireError('ERR_POLICY_CHANGED', `the policy is at version ${now}, not ${version}`, { version: now });
  }

  /** A text from before there were versions becomes the first of them. */
  async #keepUnnumbered(): Promise<void> {
    const { text, revision, ...about } = this.#current;
    if (text === null || this.versions.list().length > 0) return;
    const record: VersionRecord = { ...about, text, writtenAt: about.writtenAt ?? 0 };
    const key = versionKey(record.version);
    await commit(this.#services.journal, { conditions: [{ key: CURRENT, revision }, { key, absent: true }], puts: [{ key, value: record }] });
    await this.#services.replica.caughtUp();
  }

  #tested(text: string): CheckedPolicy {
    const checked = this.#read(text);
    const failure = failedTests(checked.document, this.#services.peers());
    if (failure !== undefined) throw failure;
    return checked;
  }

  #read(text: string): CheckedPolicy {
    if (this.#last?.text === text) return this.#last.checked;
    const document = readPolicy(text);
    const compiled = compilePolicy(document);
    this.#services.checkRules(compiled.rules);
    const checked = { document, compiled, groups: new Set(document.groups.keys()) };
    this.#last = { text, checked };
    return checked;
  }

  /** A new policy is two keys: its version, and the word that it is in force. They are seen in either order. */
  #apply(event: Applied): void {
    const { key, value, revision } = event;
    const record = this.versions.apply(event);
    if (record !== undefined) this.#arrived.set(record.version, record);
    if (key === CURRENT) {
      const current = value as CurrentRecord | undefined;
      if (current === undefined) this.#enforce(NONE, { compiled: ALLOW_ALL, groups: new Set() });
      else if ('text' in current) this.#adopt({ ...NONE, ...current, version: 1, revision });
      else this.#awaited = { version: current.version, revision };
    }
    const awaited = this.#awaited === undefined ? undefined : this.#arrived.get(this.#awaited.version);
    if (awaited !== undefined && this.#awaited !== undefined) {
      this.#adopt({ ...awaited, revision: this.#awaited.revision });
      this.#awaited = undefined;
    }
    // Texts of versions that are not in force need not be held.
    for (const version of this.#arrived.keys()) {
      if (this.#awaited === undefined ? version <= this.#current.version : version !== this.#awaited.version) this.#arrived.delete(version);
    }
  }

  #adopt(policy: Policy & { readonly text: string }): void {
    let checked: Pick<CheckedPolicy, 'compiled' | 'groups'>;
    try {
      checked = this.#read(policy.text);
    } catch (error) {
      // Written by a version that understood more. Letting nobody through is the safe reading of what we cannot read.
      checked = { compiled: DENY_ALL, groups: new Set() };
      const { revision, version } = policy;
      this.#services.log.error({ err: error, revision, version }, 'the stored policy cannot be read; everything is denied until it is replaced');
    }
    this.#enforce(policy, checked);
  }

  #enforce(policy: Policy, checked: Pick<CheckedPolicy, 'compiled' | 'groups'>): void {
    this.#current = policy;
    this.#checked = checked;
  }
}
