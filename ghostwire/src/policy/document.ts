// The policy language: what a HuJSON policy may hold, read into plain data.
//
// Names are resolved here, so what leaves this file refers only to things that exist. Meaning is in compile.ts.

import type { Node } from 'jsonc-parser';
import { closest } from 'fastest-levenshtein';
import { parseAddress, parsePrefix } from '../addresses/ip.js';
import { isTag, isUser } from '../peers/peer.js';
import { HuJson } from './hujson.js';

/** Who or what a rule speaks of. Users, groups and tags are labels; `hosts` names are replaced by their address or prefix. */
export type Target = { readonly kind: 'any' } | { readonly kind: 'label' | 'network'; readonly text: string };

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export interface Destination {
  readonly target: Target;
  /** undefined is every port */
  readonly ports: readonly PortRange[] | undefined;
}

export interface AclEntry {
  readonly sources: readonly Target[];
  readonly destinations: readonly Destination[];
  /** IANA protocol number; undefined is what Tailscale means by no `proto`: TCP, UDP and ICMP. */
  readonly protocol: number | undefined;
  /** Line of the entry in the text, from 1. */
  readonly line: number;
}

export interface PolicyDocument {
  /** Members by `group:name`. */
  readonly groups: ReadonlyMap<string, readonly string[]>;
  /** Users and groups by `tag:name`. */
  readonly tagOwners: ReadonlyMap<string, readonly string[]>;
  /** undefined when the policy has no `acls`, which allows everything; an empty list allows nothing. */
  readonly acls: readonly AclEntry[] | undefined;
}

const KNOWN = ['groups', 'hosts', 'tagOwners', 'acls'];

/** Of the language, but not of this version. */
const LATER = [
  'grants',
  'autoApprovers',
  'ssh',
  'nodeAttrs',
  'tests',
  'sshTests',
  'postures',
  'defaultSrcPosture',
  'ipsets',
  'derpMap',
  'disableIPv4',
  'OneCGNATRoute',
  'randomizeClientPort',
];

/** https://www.iana.org/assignments/protocol-numbers, the names that Tailscale takes */
const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: 1,
  igmp: 2,
  ipv4: 4,
  'ip-in-ip': 4,
  tcp: 6,
  egp: 8,
  igp: 9,
  udp: 17,
  gre: 47,
  esp: 50,
  ah: 51,
  'ipv6-icmp': 58,
  sctp: 132,
};

const WITH_PORTS = new Set([PROTOCOLS['tcp'], PROTOCOLS['udp'], PROTOCOLS['sctp']]);

/**
 * @throws GhostwireError ERR_POLICY_SYNTAX, ERR_POLICY_INVALID, ERR_POLICY_UNSUPPORTED, each with line and column
 */
export function readPolicy(text: string): PolicyDocument {
  return new Reader(new HuJson(text)).read();
}

class Reader {
  readonly #source: HuJson;
  readonly #groups = new Map<string, readonly string[]>();
  readonly #hosts = new Map<string, string>();
  readonly #tagOwners = new Map<string, readonly string[]>();

  constructor(source: HuJson) {
    this.#source = source;
  }

  read(): PolicyDocument {
    const sections = new Map<string, Node>();
    for (const { key, keyNode, value } of this.#source.members(this.#source.root, 'the policy')) {
      if (LATER.includes(key)) throw this.#source.error('ERR_POLICY_UNSUPPORTED', `section "${key}" is not supported yet`, keyNode);
      if (!KNOWN.includes(key))
        throw this.#source.invalid(`unknown section "${key}"; did you mean "${closest(key, [...KNOWN, ...LATER])}"?`, keyNode);
      sections.set(key, value);
    }
    // In this order, because each may name what the ones before it define.
    this.#readGroups(sections.get('groups'));
    this.#readHosts(sections.get('hosts'));
    this.#readTagOwners(sections.get('tagOwners'));
    const acls = sections.get('acls');
    return {
      groups: this.#groups,
      tagOwners: this.#tagOwners,
      acls: acls === undefined ? undefined : this.#source.items(acls, 'acls').map((node, index) => this.#readAcl(node, `acls[${index}]`)),
    };
  }

  #readGroups(node: Node | undefined): void {
    if (node === undefined) return;
    for (const { key, keyNode, value } of this.#source.members(node, 'groups')) {
      if (!/^group:[A-Za-z0-9][A-Za-z0-9._-]*$/.test(key))
        throw this.#source.invalid(`groups["${key}"]: a group is named group:name`, keyNode);
      const what = `groups["${key}"]`;
      const members = this.#source.items(value, what).map((item) => {
        const member = this.#source.string(item, `a member of ${what}`);
        if (member.startsWith('group:')) throw this.#source.invalid(`${what}: "${member}": group members cannot be recursive`, item);
        return this.#user(member, what, item);
      });
      this.#groups.set(key, members);
    }
  }

  #readHosts(node: Node | undefined): void {
    if (node === undefined) return;
    for (const { key, keyNode, value } of this.#source.members(node, 'hosts')) {
      const what = `hosts["${key}"]`;
      if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(key))
        throw this.#source.invalid(`${what}: a host alias has letters, digits, '.', '_' and '-'`, keyNode);
      const network = this.#source.string(value, what);
      if (!isNetwork(network)) throw this.#source.invalid(`${what}: "${network}" is not an address, nor a prefix without host bits`, value);
      this.#hosts.set(key, network);
    }
  }

  #readTagOwners(node: Node | undefined): void {
    if (node === undefined) return;
    const members = this.#source.members(node, 'tagOwners');
    const tags = new Set(members.map(({ key }) => key));
    for (const { key, keyNode, value } of members) {
      const what = `tagOwners["${key}"]`;
      if (!isTag(key))
        throw this.#source.invalid(`${what}: tag names must start with a letter, after 'tag:', and hold letters, digits and '-'`, keyNode);
      const owners = this.#source.items(value, what).map((item) => {
        const owner = this.#source.string(item, `an owner in ${what}`);
        if (owner.startsWith('group:')) return this.#known(this.#groups, owner, what, item);
        if (!owner.startsWith('tag:')) return this.#user(owner, what, item);
        if (!tags.has(owner)) throw this.#source.invalid(`${what}: tag not found: "${owner}"`, item);
        return owner;
      });
      this.#tagOwners.set(key, owners);
    }
  }

  #readAcl(node: Node, what: string): AclEntry {
    const fields = new Map<string, Node>();
    for (const { key, keyNode, value } of this.#source.members(node, what)) {
      if (key === 'srcPosture') throw this.#source.error('ERR_POLICY_UNSUPPORTED', `${what}: "${key}" is not supported yet`, keyNode);
      const names = ['action', 'src', 'dst', 'proto'];
      if (!names.includes(key))
        throw this.#source.invalid(`${what}: unknown field "${key}"; did you mean "${closest(key, names)}"?`, keyNode);
      fields.set(key, value);
    }
    const field = (name: string): Node => {
      const value = fields.get(name);
      if (value === undefined) throw this.#source.invalid(`${what}: ${name} must be specified`, node);
      return value;
    };
    const action = this.#source.string(field('action'), `${what}.action`);
    if (action !== 'accept')
      throw this.#source.invalid(`${what}: "${action}" is not a valid action; the only one is "accept"`, field('action'));
    const proto = fields.get('proto');
    const protocol = proto === undefined ? undefined : this.#protocol(proto, what);
    return {
      sources: this.#source
        .items(field('src'), `${what}.src`)
        .map((item) => this.#target(this.#source.string(item, `${what}.src`), `${what}.src`, item)),
      destinations: this.#source.items(field('dst'), `${what}.dst`).map((item) => this.#destination(item, `${what}.dst`, protocol)),
      protocol,
      line: this.#source.positionOf(node.offset).line,
    };
  }

  #protocol(node: Node, what: string): number | undefined {
    const text = this.#source.string(node, `${what}.proto`);
    if (text === '') return undefined;
    const named = PROTOCOLS[text];
    if (named !== undefined) return named;
    if (/^(0|[1-9]\d{0,2})$/.test(text) && Number(text) <= 255) return Number(text);
    throw this.#source.invalid(`${what}.proto: unknown protocol "${text}"; did you mean "${closest(text, Object.keys(PROTOCOLS))}"?`, node);
  }

  /** `target:ports`; the last colon divides, since tags and IPv6 addresses have some of their own. */
  #destination(node: Node, what: string, protocol: number | undefined): Destination {
    const text = this.#source.string(node, what);
    const colon = text.lastIndexOf(':');
    if (colon < 1) throw this.#source.invalid(`${what}: "${text}" is not of the form target:ports`, node);
    const target = this.#target(text.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), what, node);
    const ports = this.#ports(text.slice(colon + 1), text, what, node);
    if (ports !== undefined && protocol !== undefined && !WITH_PORTS.has(protocol)) {
      throw this.#source.invalid(`${what}: "${text}": the protocol has no ports; write ":*"`, node);
    }
    return { target, ports };
  }

  #ports(text: string, whole: string, what: string, node: Node): PortRange[] | undefined {
    if (text === '*') return undefined;
    return text.split(',').map((part) => {
      const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim());
      const first = Number(match?.[1]);
      const last = Number(match?.[2] ?? match?.[1]);
      if (match === null || first > last || last > 65_535)
        throw this.#source.invalid(`${what}: "${whole}": "${part}" is not a port or a range of ports`, node);
      return { first, last };
    });
  }

  #target(text: string, what: string, node: Node): Target {
    if (text === '*') return { kind: 'any' };
    if (text.startsWith('group:')) return { kind: 'label', text: this.#known(this.#groups, text, what, node) };
    if (text.startsWith('tag:')) {
      if (!this.#tagOwners.has(text)) throw this.#source.invalid(`${what}: tag not found: "${text}"`, node);
      return { kind: 'label', text };
    }
    if (/^(autogroup|ipset|svc|user):/.test(text))
      throw this.#source.error('ERR_POLICY_UNSUPPORTED', `${what}: "${text}" is not supported yet`, node);
    if (text.includes('@')) return { kind: 'label', text: `user:${this.#user(text, what, node)}` };
    if (isNetwork(text)) return { kind: 'network', text };
    const host = this.#hosts.get(text);
    if (host !== undefined) return { kind: 'network', text: host };
    const [nearest] = [...this.#hosts.keys()].length > 0 ? [closest(text, [...this.#hosts.keys()])] : [];
    const hint = nearest === undefined ? '' : `; did you mean the host "${nearest}"?`;
    throw this.#source.invalid(`${what}: "${text}" is not a user, group, tag, host, address or prefix${hint}`, node);
  }

  #user(text: string, what: string, node: Node): string {
    const user = text.toLowerCase();
    if (!isUser(user)) throw this.#source.invalid(`${what}: user "${text}" is not of the form name@domain`, node);
    return user;
  }

  #known(defined: ReadonlyMap<string, unknown>, name: string, what: string, node: Node): string {
    if (defined.has(name)) return name;
    const hint = defined.size === 0 ? '' : `; did you mean "${closest(name, [...defined.keys()])}"?`;
    throw this.#source.invalid(`${what}: group not found: "${name}"${hint}`, node);
  }
}

const isNetwork = (text: string): boolean => (text.includes('/') ? parsePrefix(text) : parseAddress(text)) !== undefined;
