// Which of several routers of a network carries it. Pure: told who routes what and who is online.
//
// The others are told of one, its primary. It stays the primary until it is offline while another one is online, or no
// longer approved; it does not become it again by coming back, so that flows move as seldom as can be. Default routes
// are not among these: whoever uses an exit node has chosen it by name.

import { CidrTable } from 'zqlite';

/** A choice that is to outlast the coordinator; without an id there is none to be made any more. */
export type Remember = (prefix: string, handle: number | undefined) => void;

/** A prefix that is carried, and by whom: handles. */
export interface Carried {
  readonly prefix: string;
  readonly primary: number;
  readonly routers: readonly number[];
}

const EXITS = new Set(['0.0.0.0/0', '::/0']);

export class Primaries {
  readonly #isOnline: (handle: number) => boolean;
  readonly #remember: Remember;
  /** Approved prefixes by router. */
  readonly #routers = new Map<number, readonly string[]>();
  /** Routers by prefix. */
  readonly #candidates = new Map<string, Set<number>>();
  readonly #primary = new Map<string, number>();
  /** The prefixes that have a primary, to be found by an address. */
  readonly #table = new CidrTable();
  /** Primaries that were chosen among several. */
  readonly #remembered = new Map<string, number>();

  constructor(isOnline: (handle: number) => boolean, remember: Remember) {
    this.#isOnline = isOnline;
    this.#remember = remember;
  }

  /** Of the approved prefixes of a router, those that others send to it. */
  routes(handle: number, approved: readonly string[]): readonly string[] {
    return approved.filter((prefix) => EXITS.has(prefix) || this.#primary.get(prefix) === handle);
  }

  /** Carried prefixes that hold an address, the longest first: what a router of the network would go by. */
  holding(address: string): Carried[] {
    return this.#table
      .matches(address)
      .reverse()
      .map(({ prefix, value }) => ({ prefix, primary: value, routers: [...(this.#candidates.get(prefix) ?? [])] }));
  }

  /**
   * Takes over what peers are approved for, all before anything is decided: a choice that is remembered must find its router.
   * @returns peers whose `routes` are no longer what they were
   */
  approve(changes: Iterable<readonly [handle: number, approved: readonly string[]]>): Set<number> {
    const concerned = new Set<string>();
    for (const [handle, approved] of changes) {
      const before = this.#routers.get(handle) ?? [];
      const now = approved.filter((prefix) => !EXITS.has(prefix));
      if (now.length === 0) this.#routers.delete(handle);
      else this.#routers.set(handle, now);
      for (const prefix of before) this.#candidates.get(prefix)?.delete(handle);
      for (const prefix of now) {
        const known = this.#candidates.get(prefix);
        if (known === undefined) this.#candidates.set(prefix, new Set([handle]));
        else known.add(handle);
      }
      for (const prefix of [...before, ...now]) concerned.add(prefix);
    }
    return this.#decide(concerned);
  }

  /** Routers whose `routes` are no longer what they were, now that some of these may be online or offline. */
  review(handles: Iterable<number> = this.#routers.keys()): Set<number> {
    return this.#decide([...handles].flatMap((handle) => this.#routers.get(handle) ?? []));
  }

  /** What was chosen before the coordinator was started anew. */
  recall(prefix: string, handle: number): void {
    this.#primary.set(prefix, handle);
    this.#remembered.set(prefix, handle);
  }

  #decide(prefixes: Iterable<string>): Set<number> {
    const concerned = new Set<number>();
    for (const prefix of new Set(prefixes)) {
      const candidates = this.#candidates.get(prefix) ?? new Set();
      const before = this.#primary.get(prefix);
      const after = this.#choice(candidates, before);
      // Between one and none there is no choice to be remembered.
      const choice = candidates.size > 1 ? after : undefined;
      if (choice !== this.#remembered.get(prefix)) {
        if (choice === undefined) this.#remembered.delete(prefix);
        else this.#remembered.set(prefix, choice);
        this.#remember(prefix, choice);
      }
      if (after === undefined) {
        this.#candidates.delete(prefix);
        this.#primary.delete(prefix);
        this.#table.remove(prefix);
      } else {
        this.#primary.set(prefix, after);
        this.#table.insert(prefix, after);
      }
      if (before === after) continue;
      for (const handle of [before, after]) if (handle !== undefined) concerned.add(handle);
    }
    return concerned;
  }

  #choice(candidates: ReadonlySet<number>, before: number | undefined): number | undefined {
    const present = before !== undefined && candidates.has(before) ? before : undefined;
    if (present !== undefined && this.#isOnline(present)) return present;
    const [first] = candidates;
    return [...candidates].find((handle) => this.#isOnline(handle)) ?? present ?? first;
  }
}
