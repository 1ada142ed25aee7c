// Native rules: what a policy file cannot say. They have a priority, may deny, may expire, and are switched one by one.
//
// They stand beside the file and outlive its changes. All matching rules of the file have priority 0; of all rules that
// match, file and native, the highest priority decides, and at equal priority deny goes before allow.

import type { AclRule } from 'zqlite';
import { mappedProblem } from '../addresses/ip.js';
import { isCoded, GhostwireError } from '../errors.js';
import { commit, untilCommitted } from '../commit.js';
import type { Condition, Journal } from '../journal/journal.js';
import { isTag, isUser } from '../peers/peer.js';
import type { Applied, Replica } from '../replica.js';

export const RULES = 'policy/rules/';
/** Written with every change of a rule, so that a policy can be written on condition that the rules are as they were. */
const RULES_HEAD = 'policy/rules-head';

/** Ids of native rules in the ACL engine start here; those of the file are below. */
export const NATIVE = 2 ** 40;

/** Rules at most, expired ones included. */
const MOST = 10_000;

/** The default: decides before the file. */
export const DEFAULT_PRIORITY = 100;

export type Ports = readonly (readonly [first: number, last: number])[];

/** What a rule says. */
export type RuleFields = {
  readonly action: 'allow' | 'deny';
  /** Higher decides first; the file has 0. */
  readonly priority: number;
  /** `*`, users, groups, tags, addresses, prefixes, ranges. */
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  /** IANA numbers; empty is all. */
  readonly protocols: readonly number[];
  /** Both ends within; empty is all. */
  readonly ports: Ports;
  readonly enabled: boolean;
  /** Milliseconds since 1970; null never. */
  readonly expiresAt: number | null;
  readonly comment: string;
};

type RuleRecord = RuleFields & {
  readonly createdAt: number;
  /** Id of the admin key that made it. */
  readonly author: string | null;
};

export interface NativeRule {
  /** From 1; never used again. */
  readonly id: number;
  readonly revision: number;
  readonly record: RuleRecord;
}

export type RuleState = 'active' | 'disabled' | 'expired';

export function ruleState({ enabled, expiresAt }: RuleFields, now: number): RuleState {
  if (expiresAt !== null && expiresAt <= now) return 'expired';
  return enabled ? 'active' : 'disabled';
}

export interface RuleServices {
  readonly journal: Journal;
  readonly replica: Replica;
  /** Groups that the policy in force defines, and the journal's condition that it stays in force. */
  readonly groups: () => { readonly names: ReadonlySet<string>; readonly condition: Condition };
  /** Throws when the ACL engine would refuse the rules. */
  readonly checkRules: (rules: readonly AclRule[]) => void;
}

export class NativeRules {
  readonly #services: RuleServices;
  readonly #rules = new Map<number, NativeRule>();
  #head: { readonly revision: number; readonly next: number } = { revision: 0, next: 1 };

  constructor(services: RuleServices) {
    this.#services = services;
    services.replica.on(RULES, (event) => this.#apply(event));
    services.replica.on(RULES_HEAD, ({ value, revision }) => {
      this.#head = value === undefined ? { revision: 0, next: 1 } : { revision, next: (value as { next: number }).next };
    });
  }

  /** In the order in which they decide. */
  list(): NativeRule[] {
    const order = ({ record, id }: NativeRule): number[] => [-record.priority, record.action === 'deny' ? 0 : 1, id];
    return [...this.#rules.values()].sort((a, b) => {
      const [x, y] = [order(a), order(b)];
      return x.map((part, index) => part - (y[index] ?? 0)).find((difference) => difference !== 0) ?? 0;
    });
  }

  /** @throws GhostwireError ERR_RULE_NOT_FOUND */
  get(id: number): NativeRule {
    const rule = this.#rules.get(id);
    if (rule === undefined) throw new GhostwireError('ERR_RULE_NOT_FOUND', `no native rule has the id ${id}`, { id });
    return rule;
  }

  /** For the ACL engine, expired and disabled ones included: it knows the time. */
  get compiled(): AclRule[] {
    return [...this.#rules.values()].map(({ id, record }) => compileRule(id, record));
  }

  /** When the next rule expires, in milliseconds since 1970. */
  nextExpiry(now: number): number | undefined {
    let next: number | undefined;
    for (const { record } of this.#rules.values()) {
      const { expiresAt, enabled } = record;
      if (enabled && expiresAt !== null && expiresAt > now && (next === undefined || expiresAt < next)) next = expiresAt;
    }
    return next;
  }

  /** Holds while no rule is added, changed or removed. */
  get condition(): Condition {
    const { revision } = this.#head;
    return revision === 0 ? { key: RULES_HEAD, absent: true } : { key: RULES_HEAD, revision };
  }

  /**
   * A rule that names a group which nobody defines selects nobody, and a deny that selects nobody is a hole.
   * @throws GhostwireError ERR_POLICY_INVALID
   */
  checkGroups(names: ReadonlySet<string>): void {
    for (const { id, record } of this.#rules.values()) {
      if (ruleState(record, Date.now()) === 'expired') continue;
      const missing = [...record.sources, ...record.destinations].find((text) => text.startsWith('group:') && !names.has(text));
      if (missing !== undefined)
        throw new GhostwireError('ERR_POLICY_INVALID', `native rule ${id} names ${missing}, which this policy does not define`, { rule: id });
    }
  }

  /** @throws GhostwireError ERR_RULE_INVALID, ERR_RULE_LIMIT */
  add(fields: RuleFields, author: string | null): Promise<NativeRule> {
    const { journal, replica } = this.#services;
    return untilCommitted('adding a rule', async () => {
      const { next } = this.#head;
      const checked = this.#check(next, fields);
      if (this.#rules.size >= MOST) throw new GhostwireError('ERR_RULE_LIMIT', `there are ${MOST} native rules already; remove some`, { limit: MOST });
      const record: RuleRecord = { ...checked, createdAt: Date.now(), author };
      const result = await commit(journal, {
        conditions: [this.condition, this.#services.groups().condition],
        puts: [{ key: ruleKey(next), value: record }, this.#nextHead(next + 1)],
      });
      if (result.status === 'conflict') {
        await replica.caughtUp();
        return undefined;
      }
      await replica.settled(result.revision);
      return { id: next, record, revision: result.revision };
    });
  }

  /**
   * @param expect the revision that the rule must still have; undefined changes whatever there is
   * @throws GhostwireError ERR_RULE_NOT_FOUND, ERR_RULE_CHANGED, ERR_RULE_INVALID
   */
  update(id: number, change: Partial<RuleFields>, expect?: number): Promise<NativeRule> {
    const { journal, replica } = this.#services;
    return untilCommitted(`changing rule ${id}`, async () => {
      const rule = this.#expected(id, expect);
      const record: RuleRecord = { ...rule.record, ...this.#check(id, { ...rule.record, ...change }) };
      const result = await commit(journal, {
        conditions: [{ key: ruleKey(id), revision: rule.revision }, this.condition, this.#services.groups().condition],
        puts: [{ key: ruleKey(id), value: record }, this.#nextHead(this.#head.next)],
      });
      if (result.status === 'conflict') {
        await replica.caughtUp();
        return undefined;
      }
      await replica.settled(result.revision);
      return { id, record, revision: result.revision };
    });
  }

  /** @throws GhostwireError ERR_RULE_NOT_FOUND, ERR_RULE_CHANGED */
  async remove(id: number, expect?: number): Promise<void> {
    const { journal, replica } = this.#services;
    await untilCommitted(`removing rule ${id}`, async () => {
      const { revision } = this.#expected(id, expect);
      const result = await commit(journal, {
        conditions: [{ key: ruleKey(id), revision }, this.condition],
        puts: [this.#nextHead(this.#head.next)],
        deletes: [ruleKey(id)],
      });
      if (result.status === 'conflict') {
        await replica.caughtUp();
        return undefined;
      }
      await replica.settled(result.revision);
      return true;
    });
  }

  /** Tells those who follow the journal that time has passed: a rule no longer counts. */
  async noteExpiry(): Promise<void> {
    const { journal, replica } = this.#services;
    // A conflict is as good: somebody else has changed the rules, which tells the same people.
    await commit(journal, { conditions: [this.condition], puts: [this.#nextHead(this.#head.next)] });
    await replica.caughtUp();
  }

  #expected(id: number, expect: number | undefined): NativeRule {
    const rule = this.get(id);
    if (expect !== undefined && expect !== rule.revision)
      throw new GhostwireError('ERR_RULE_CHANGED', `rule ${id} is at revision ${rule.revision}, not ${expect}`, { id, revision: rule.revision });
    return rule;
  }

  #nextHead(next: number) {
    return { key: RULES_HEAD, value: { next } };
  }

  /** The fields in their one form. */
  #check(id: number, fields: RuleFields): RuleFields {
    const { names } = this.#services.groups();
    const { action, priority, protocols, ports, enabled, expiresAt, comment } = fields;
    const checked = {
      action,
      priority,
      sources: fields.sources.map((text) => checkSelector(text, 'sources', names)),
      destinations: fields.destinations.map((text) => checkSelector(text, 'destinations', names)),
      protocols,
      ports,
      enabled,
      expiresAt,
      comment,
    };
    if (ports.length > 0 && protocols.some((protocol) => !WITH_PORTS.has(protocol)))
      throw new GhostwireError('ERR_RULE_INVALID', 'protocols: only TCP (6), UDP (17) and SCTP (132) have ports', { path: 'protocols' });
    try {
      this.#services.checkRules([compileRule(id, checked)]);
    } catch (cause) {
      if (!isCoded(cause)) throw cause;
      throw new GhostwireError('ERR_RULE_INVALID', cause.message.replace(`rule ${NATIVE + id}, `, ''), {}, { cause });
    }
    return checked;
  }

  #apply({ key, value, revision }: Applied): void {
    const id = Number(key.slice(RULES.length));
    if (value === undefined) this.#rules.delete(id);
    else this.#rules.set(id, { id, revision, record: value as RuleRecord });
  }
}

const WITH_PORTS = new Set([6, 17, 132]);

const ruleKey = (id: number): string => RULES + String(id).padStart(12, '0');

/** A selector in its one form. @throws GhostwireError ERR_RULE_INVALID */
function checkSelector(text: string, path: string, groups: ReadonlySet<string>): string {
  const fail = (message: string): GhostwireError =>
    new GhostwireError('ERR_RULE_INVALID', `${path}: ${JSON.stringify(text)} ${message}`, { path });
  if (text.startsWith('group:')) {
    if (!groups.has(text)) throw fail('is not a group of the policy in force');
    return text;
  }
  if (text.startsWith('tag:')) {
    if (!isTag(text)) throw fail('is not a tag such as tag:web');
    return text;
  }
  if (text.includes('@')) {
    const user = text.toLowerCase();
    if (!isUser(user)) throw fail('is not a user, name@domain');
    return user;
  }
  const mapped = mappedProblem(text);
  if (mapped !== undefined) throw fail(`is ${mapped}`);
  // Addresses are for the engine to judge; whatever else has a colon and letters would be a label to it.
  if (!/^[0-9a-fA-F.:/*-]+$/.test(text)) throw fail('is not a user, group, tag, address, prefix or range; hosts of the policy are written as addresses');
  return text;
}

function compileRule(id: number, { action, priority, sources, destinations, protocols, ports, enabled, expiresAt }: RuleFields): AclRule {
  return {
    id: NATIVE + id,
    priority,
    action,
    enabled,
    sources: sources.map(label),
    destinations: destinations.map(label),
    protocols,
    ports,
    ...(expiresAt === null ? {} : { expiresAt }),
  };
}

/** As the compiled policy labels peers. */
const label = (text: string): string => (text.includes('@') ? `user:${text}` : text);
