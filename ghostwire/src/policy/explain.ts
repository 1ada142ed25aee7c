// Why one end may reach the other or not: the rule that decided, with its line in the file, and those that came too late.

import type { AclEngine, AclExplanation, AclFilterRule } from 'zqlite';
import type { Directory } from '../peers/directory.js';
import type { Peer } from '../peers/peer.js';
import type { AccessQuestion } from './access.js';
import { isVisibilityOnly } from './compile.js';
import { findEnd, sameFamily } from './ends.js';
import type { Enforcement, Origin } from './enforcement.js';
import type { Policies } from './policies.js';
import type { NativeRules } from './rules.js';

/** A rule that matches a question. */
export type MatchedRule = Origin & {
  readonly action: 'allow' | 'deny';
  readonly priority: number;
  /** Whether another rule decided before it. */
  readonly shadowed: boolean;
  /** The line of the file, or the rule's comment: what an operator would recognize it by. */
  readonly text: string;
};

export interface Explanation {
  readonly allowed: boolean;
  /** One sentence. */
  readonly reason: string;
  /** The address behind the receiving peer that the answer is about; null when it is about the peer itself. */
  readonly routed: string | null;
  /** In the order in which they would decide: the first one did. At most 100. */
  readonly matching: readonly MatchedRule[];
  /** How many rules match. */
  readonly matches: number;
}

const MOST = 100;
const LONGEST_LINE = 200;

export class Explainer {
  readonly #engine: AclEngine;
  readonly #directory: Directory;
  readonly #policies: Policies;
  readonly #rules: NativeRules;
  readonly #enforcement: Enforcement;

  constructor(
    engine: AclEngine,
    directory: Directory,
    { policies, rules, enforcement }: { policies: Policies; rules: NativeRules; enforcement: Enforcement },
  ) {
    this.#engine = engine;
    this.#directory = directory;
    this.#policies = policies;
    this.#rules = rules;
    this.#enforcement = enforcement;
  }

  /** What a peer, and what it routes, may be sent: the rules in force without denies. */
  packetFilter({ handle }: Peer): AclFilterRule[] {
    const engine = this.#engine.snapshot();
    // Rules that only make peers see each other let nothing pass.
    engine.removeRules(this.#enforcement.policy.rules.filter(isVisibilityOnly).map(({ id }) => id));
    return engine.packetFilter(handle);
  }

  /** @throws GhostwireError ERR_PEER_NOT_FOUND when a name stands for nothing, ERR_VALIDATION for addresses of two families */
  explain({ source, destination, protocol, port }: AccessQuestion): Explanation {
    const from = findEnd(this.#directory, source, 'src');
    const to = findEnd(this.#directory, destination, 'dst');
    const found =
      typeof from === 'object' && typeof to === 'object'
        ? this.#engine.explain({ source: from.handle, destination: to.handle, protocol, port })
        : this.#engine.explainAddresses({ ...sameFamily(from, to), protocol, port });
    const lines = (this.#policies.current.text ?? '').split('\n');
    const matching = found.matching.slice(0, MOST).map(({ rule, action, priority, shadowed }): MatchedRule => {
      const origin = this.#enforcement.origin(rule);
      return { ...origin, action, priority, shadowed, text: this.#text(origin, lines) };
    });
    return { allowed: found.allowed, reason: this.#reason(found, matching[0]), routed: found.routed, matching, matches: found.matching.length };
  }

  #text(origin: Origin, lines: readonly string[]): string {
    if (origin.kind === 'rule') return this.#rules.get(origin.id).record.comment;
    return origin.line === null ? '' : (lines[origin.line - 1] ?? '').trim().slice(0, LONGEST_LINE);
  }

  #reason({ allowed, matching }: AclExplanation, deciding: MatchedRule | undefined): string {
    if (deciding === undefined) return 'denied: no rule matches';
    const verdict = allowed ? 'allowed' : 'denied';
    const others = matching.length - 1;
    const before = others === 0 ? '' : `, before ${others} other${others === 1 ? '' : 's'}`;
    if (deciding.kind === 'rule') return `${verdict} by native rule ${deciding.id} (priority ${deciding.priority})${before}`;
    if (deciding.line !== null) return `${verdict} by line ${deciding.line} of the policy${before}`;
    return this.#policies.current.text === null ? 'allowed: there is no policy' : `allowed: the policy has neither acls nor grants${before}`;
  }
}
