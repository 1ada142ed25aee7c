// The policy in force: read, replaced and remembered.
//
// The journal keeps the text as it was written, comments included; what it means is worked out again from the text.

import type { AclRule } from 'zqlite';
import { commit } from '../commit.js';
import { GhostwireError } from '../errors.js';
import type { Journal } from '../journal/journal.js';
import type { Logger } from '../log.js';
import type { Applied, Replica } from '../replica.js';
import { ALLOW_ALL, compilePolicy, DENY_ALL, type CompiledPolicy } from './compile.js';
import { readPolicy } from './document.js';

const CURRENT = 'policy/current';

type PolicyRecord = {
  /** HuJSON */
  readonly text: string;
  /** Milliseconds since 1970. */
  readonly writtenAt: number;
};

export interface Policy {
  /** The journal's revision that wrote it; 0 before there is one. */
  readonly revision: number;
  /** HuJSON; null before there is one, which allows everything. */
  readonly text: string | null;
  /** Milliseconds since 1970; null before there is one. */
  readonly writtenAt: number | null;
}

export class Policies {
  readonly #journal: Journal;
  readonly #replica: Replica;
  readonly #log: Logger;
  readonly #checkRules: (rules: readonly AclRule[]) => void;
  #current: Policy = { revision: 0, text: null, writtenAt: null };
  #compiled: CompiledPolicy = ALLOW_ALL;

  /** @param checkRules throws when the ACL engine would refuse the rules */
  constructor(journal: Journal, replica: Replica, log: Logger, checkRules: (rules: readonly AclRule[]) => void) {
    this.#journal = journal;
    this.#replica = replica;
    this.#log = log;
    this.#checkRules = checkRules;
    replica.on(CURRENT, (event) => this.#apply(event));
  }

  get current(): Policy {
    return this.#current;
  }

  get compiled(): CompiledPolicy {
    return this.#compiled;
  }

  /** Whether tagOwners lets this user give a peer this tag. */
  mayTag(user: string, tag: string): boolean {
    return this.#compiled.mayTag(user, tag);
  }

  /**
   * What a policy would mean; changes nothing.
   * @throws GhostwireError ERR_POLICY_*, with line and column
   */
  check(text: string): CompiledPolicy {
    const compiled = compilePolicy(readPolicy(text));
    this.#checkRules(compiled.rules);
    return compiled;
  }

  /**
   * Puts a policy in force; the old one stays when this throws.
   * @param revision what the writer believes to be current (0: none); undefined replaces whatever there is
   * @throws GhostwireError ERR_POLICY_*; ERR_POLICY_CHANGED when `revision` is not current
   */
  async put(text: string, revision: number | undefined): Promise<Policy> {
    this.check(text);
    const record: PolicyRecord = { text, writtenAt: Date.now() };
    const condition = revision === 0 ? ({ key: CURRENT, absent: true } as const) : { key: CURRENT, revision: revision ?? 0 };
    const result = await commit(this.#journal, {
      conditions: revision === undefined ? [] : [condition],
      puts: [{ key: CURRENT, value: record }],
    });
    if (result.status === 'conflict') {
      await this.#replica.caughtUp();
      const now = this.#current.revision;
      throw new GhostwireError('ERR_POLICY_CHANGED', `the policy is at revision ${now}, not ${revision ?? 0}`, { revision: now });
    }
    await this.#replica.settled(result.revision);
    return { revision: result.revision, ...record };
  }

  #apply({ key, value, revision }: Applied): void {
    if (key !== CURRENT) return;
    if (value === undefined) {
      this.#current = { revision: 0, text: null, writtenAt: null };
      this.#compiled = ALLOW_ALL;
      return;
    }
    const record = value as PolicyRecord;
    this.#current = { revision, ...record };
    try {
      this.#compiled = this.check(record.text);
    } catch (error) {
      // Written by a version that understood more. Letting nobody through is the safe reading of what we cannot read.
      this.#compiled = DENY_ALL;
      this.#log.error({ err: error, revision }, 'the stored policy cannot be read; everything is denied until it is replaced');
    }
  }
}
