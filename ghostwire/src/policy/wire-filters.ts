// Packet filters as the plane sends them: what each machine lets in. What our own peers are told is in topology/filter.ts.

import { prefixText } from '../addresses/ranges.js';
import type { Capabilities } from './grants.js';
import type { Reach } from './reach.js';
import { DEFAULT_PROTOCOLS, type PortRange, type Service } from './services.js';
import type { TailnetNode } from './tailnet.js';

/** tailcfg.FilterRule. */
export interface WireFilterRule {
  /** Addresses, prefixes, ranges or '*', ascending as text. */
  SrcIPs: string[];
  DstPorts?: { IP: string; Ports: { First: number; Last: number } }[];
  /** Absent: TCP, UDP and ICMP. */
  IPProto?: number[];
  CapGrant?: { Dsts: string[]; CapMap: Capabilities }[];
}

/** Capabilities that give those who may call another one to be called back with. */
const COMPANIONS: readonly (readonly [string, string])[] = [
  ['tailscale.com/cap/drive', 'tailscale.com/cap/drive-sharer'],
  ['tailscale.com/cap/relay', 'tailscale.com/cap/relay-target'],
];

/** Rules by machine; machines that let nothing in are not in it. */
export function compileFilters(reaches: readonly Reach[]): Map<TailnetNode, WireFilterRule[]> {
  const filters = new WireFilters();
  for (const reach of reaches) {
    if (reach.sources.texts.length > 0 && reach.destinations.texts.length > 0)
      for (const service of byProtocol(reach.grant.services)) filters.allow(reach, service);
    if (reach.grant.capabilities !== undefined && reach.grant.via.length === 0) filters.grant(reach, reach.grant.capabilities);
  }
  return filters.rules();
}

/** A rule of the whole tailnet, of which each machine gets its part. */
interface Merged {
  /** Its place in every machine's list. */
  readonly order: number;
  readonly parts: Map<TailnetNode, WireFilterRule>;
}

class WireFilters {
  readonly #rules = new Map<TailnetNode, { order: number; rule: WireFilterRule }[]>();
  /** By sources and protocol: what has both in common is one rule, which stands where the first of them did. */
  readonly #merged = new Map<string, Map<number | undefined, Merged>>();
  #order = 0;

  allow({ sources, targets }: Reach, { protocol, ports }: Service): void {
    let rules = this.#merged.get(sources.key);
    if (rules === undefined) this.#merged.set(sources.key, (rules = new Map()));
    let merged = rules.get(protocol);
    if (merged === undefined) rules.set(protocol, (merged = { order: (this.#order += 1), parts: new Map() }));
    for (const { node, texts } of targets) {
      let rule = merged.parts.get(node);
      if (rule === undefined) {
        rule = { SrcIPs: [...sources.texts], DstPorts: [], ...(protocol === undefined ? {} : { IPProto: [protocol] }) };
        merged.parts.set(node, rule);
        this.#add(node, merged.order, rule);
      }
      for (const IP of texts) {
        for (const { first, last } of ports) rule.DstPorts?.push({ IP, Ports: { First: first, Last: last } });
      }
    }
  }

  /** Destinations learn what their callers may do, and callers that they may be called back. */
  grant(reach: Reach, capabilities: Capabilities): void {
    const byNode = new Map<TailnetNode, NonNullable<WireFilterRule['CapGrant']>>();
    for (const { node, granted } of reach.targets) {
      if (granted.length === 0) continue;
      const Dsts = [...granted];
      const grants = byNode.get(node);
      if (grants === undefined) byNode.set(node, [{ Dsts, CapMap: capabilities }]);
      else grants.push({ Dsts, CapMap: capabilities });
    }
    this.#order += 1;
    for (const [node, CapGrant] of byNode) this.#add(node, this.#order, { SrcIPs: [...reach.sources.texts], CapGrant });
    for (const [name, companion] of COMPANIONS) {
      if (!(name in capabilities)) continue;
      const SrcIPs = [...reach.destinations.texts];
      for (const node of reach.senders)
        this.#add(node, this.#order, { SrcIPs, CapGrant: [{ Dsts: node.addresses.map(prefixText), CapMap: { [companion]: null } }] });
    }
  }

  rules(): Map<TailnetNode, WireFilterRule[]> {
    const inOrder = (rules: { order: number; rule: WireFilterRule }[]): WireFilterRule[] =>
      rules.sort((a, b) => a.order - b.order).map(({ rule }) => rule);
    return new Map(Array.from(this.#rules, ([node, rules]) => [node, inOrder(rules)]));
  }

  #add(node: TailnetNode, order: number, rule: WireFilterRule): void {
    const rules = this.#rules.get(node);
    if (rules === undefined) this.#rules.set(node, [{ order, rule }]);
    else rules.push({ order, rule });
  }
}

/** Services with their ports together, in the order in which protocols are first named. */
function byProtocol(services: readonly Service[]): Service[] {
  const ports = new Map<number | undefined, PortRange[]>();
  for (const service of services) ports.set(service.protocol, [...(ports.get(service.protocol) ?? []), ...service.ports]);
  return Array.from(ports, ([protocol, ranges]) => ({ protocol, ports: ranges }));
}

/** A filter rule as a packet filter runs it: no default is left to be known. */
export const protocolsOf = ({ IPProto }: WireFilterRule): readonly number[] => IPProto ?? DEFAULT_PROTOCOLS;
