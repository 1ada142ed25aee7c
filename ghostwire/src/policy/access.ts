// Answers "may this one reach that one?" for peers named by id, name or address, and for any other address.

import type { AclEngine } from 'zqlite';
import type { Directory } from '../peers/directory.js';
import { findEnd, sameFamily } from './ends.js';
import type { Enforcement } from './enforcement.js';

export interface AccessQuestion {
  readonly source: string;
  readonly destination: string;
  /** IANA number */
  readonly protocol: number;
  readonly port: number;
}

export interface AccessDecision {
  readonly allowed: boolean;
  /** Line of the deciding rule in the policy; null when no line decided. */
  readonly line: number | null;
  /** The native rule that decided; null when none did. */
  readonly rule: number | null;
}

export class Access {
  readonly #engine: Pick<AclEngine, 'decide' | 'decideAddresses'>;
  readonly #directory: Directory;
  readonly #enforcement: Enforcement;

  constructor(engine: Pick<AclEngine, 'decide' | 'decideAddresses'>, directory: Directory, enforcement: Enforcement) {
    this.#engine = engine;
    this.#directory = directory;
    this.#enforcement = enforcement;
  }

  /** @throws GhostwireError ERR_PEER_NOT_FOUND when a name stands for nothing, ERR_VALIDATION for addresses of two families */
  decide({ source, destination, protocol, port }: AccessQuestion): AccessDecision {
    const from = findEnd(this.#directory, source, 'src');
    const to = findEnd(this.#directory, destination, 'dst');
    const { allowed, rule } =
      typeof from === 'object' && typeof to === 'object'
        ? this.#engine.decide({ source: from.handle, destination: to.handle, protocol, port })
        : this.#engine.decideAddresses({ ...sameFamily(from, to), protocol, port });
    const origin = rule === null ? undefined : this.#enforcement.origin(rule);
    return { allowed, line: origin?.kind === 'file' ? origin.line : null, rule: origin?.kind === 'rule' ? origin.id : null };
  }
}
