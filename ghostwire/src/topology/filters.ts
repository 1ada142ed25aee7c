// The packet filters of peers: which of the policy's rules speak of traffic to one of them.
//
// A rule is found by what it names as destination: a label that the peer bears, a network that holds an address of it or has
// one in common with what it routes. So a filter costs what it has, and not what the policy has. `AclEngine.packetFilter`
// says the same with every source written out; a test compares the two.

import { CidrTable, type AclPeer, type AclRule } from 'zqlite';
import { parseRange } from '../addresses/ranges.js';
import type { FilterRule } from './filter.js';

/** A rule's place in the order in which they decide, and the network by which it was found, as it names it. */
interface Named {
  readonly rule: number;
  readonly network: string;
}

interface Found {
  /** Whether the rule speaks of the peer itself. */
  self: boolean;
  /** The destinations that have something in common with what it routes. */
  readonly routed: Set<string>;
}

export class Filters {
  readonly #rules: readonly AclRule[];
  /** Rules whose destination is `*`. */
  readonly #everywhere: number[] = [];
  readonly #byLabel = new Map<string, number[]>();
  /** Places in `#networks`, by prefix. */
  readonly #table = new CidrTable();
  readonly #networks: Named[][] = [];

  constructor(rules: readonly AclRule[]) {
    this.#rules = rules
      .filter((rule) => rule.enabled !== false)
      .toSorted((a, b) => b.priority - a.priority || Number(a.action === 'allow') - Number(b.action === 'allow') || a.id - b.id);
    for (const [rule, { destinations }] of this.#rules.entries()) {
      for (const selector of destinations) {
        if (selector === '*') this.#everywhere.push(rule);
        else if (parseRange(selector) !== undefined) this.#addNetwork({ rule, network: selector });
        else {
          const known = this.#byLabel.get(selector);
          if (known === undefined) this.#byLabel.set(selector, [rule]);
          else known.push(rule);
        }
      }
    }
  }

  /** Labels by which some rule selects a source. */
  readonly sourceLabels = (): Set<string> => {
    const labels = new Set(this.#rules.flatMap(({ sources }) => sources));
    for (const selector of labels) if (selector === '*' || parseRange(selector) !== undefined) labels.delete(selector);
    return labels;
  };

  /** The filter of a peer, and of every peer of its class. */
  of({ addresses, labels, routes = [] }: Omit<AclPeer, 'id'>): FilterRule[] {
    const bears = new Set(labels);
    const found = this.#find(addresses, bears, routes);
    const filter: FilterRule[] = [];
    for (const rule of [...found.keys()].sort((a, b) => a - b)) {
      const [named, concerned] = [this.#rules[rule], found.get(rule)];
      if (named === undefined || concerned === undefined) continue;
      const { action, sources, destinations, protocols = [], ports = [], sameOwner, through = [], family, expiresAt } = named;
      if (through.length > 0 && !through.some((label) => bears.has(label))) continue;
      // Rules that compare owners concern peers only, not what they route.
      const routed = sameOwner === true || concerned.routed.size === 0 ? [] : [...new Set(destinations)].filter((one) => concerned.routed.has(one));
      const to = [...(concerned.self ? ['self'] : []), ...routed.map((one) => (one === '*' ? 'routes' : one))];
      if (to.length === 0) continue;
      filter.push({
        action,
        sources,
        destinations: to,
        ...(protocols.length > 0 && { protocols }),
        ...(ports.length > 0 && { ports }),
        ...(sameOwner === true && { sameOwner }),
        ...(family !== undefined && { family }),
        ...(expiresAt !== undefined && { expiresAt }),
      });
    }
    return filter;
  }

  /** The rules that have a destination which is a peer, or which it routes to. */
  #find(addresses: readonly string[], labels: ReadonlySet<string>, routes: readonly string[]): Map<number, Found> {
    const found = new Map<number, Found>();
    const at = (rule: number): Found => {
      let one = found.get(rule);
      if (one === undefined) found.set(rule, (one = { self: false, routed: new Set() }));
      return one;
    };
    for (const rule of this.#everywhere) {
      at(rule).self = true;
      if (routes.length > 0) at(rule).routed.add('*');
    }
    for (const label of labels) for (const rule of this.#byLabel.get(label) ?? []) at(rule).self = true;
    for (const address of addresses)
      for (const { value } of this.#table.matches(address)) for (const { rule } of this.#networks[value] ?? []) at(rule).self = true;
    for (const route of routes)
      for (const { value } of [...this.#table.covering(route), ...this.#table.covered(route)])
        for (const { rule, network } of this.#networks[value] ?? []) at(rule).routed.add(network);
    return found;
  }

  #addNetwork(named: Named): void {
    const { network } = named;
    for (const prefix of network.includes('-') ? CidrTable.rangeToPrefixes(network) : [network]) {
      const place = this.#table.get(prefix);
      if (place === undefined) this.#table.insert(prefix, this.#networks.push([named]) - 1);
      else this.#networks[place]?.push(named);
    }
  }
}
