// Who and what a policy speaks of: the names that may stand in src, dst, target and the like.

import { mappedProblem, parseAddress, parsePrefix, type Prefix } from '../addresses/ip.js';
import { prefixText } from '../addresses/ranges.js';
import { didYouMean, quote } from './quote.js';

/** Autogroups by what they stand for. Roles are those of the tailnet's people. */
export const ROLES = ['admin', 'owner', 'it-admin', 'network-admin', 'billing-admin', 'auditor'] as const;
export type Role = (typeof ROLES)[number];
export type Autogroup = 'member' | 'tagged' | 'self' | 'internet' | 'danger-all' | 'nonroot' | Role;

export type Selector =
  | { readonly kind: 'any'; readonly text: string }
  | { readonly kind: 'user' | 'group' | 'tag'; readonly text: string }
  /** `user:*@domain`: everybody of a domain. */
  | { readonly kind: 'domain'; readonly text: string; readonly domain: string }
  | { readonly kind: 'autogroup'; readonly text: string; readonly autogroup: Autogroup }
  /** An address, a prefix, or a name of `hosts`. */
  | { readonly kind: 'network'; readonly text: string; readonly prefix: Prefix; readonly alias: string | undefined };

/** What is wrong with a name; the reader of the policy adds the place. */
export class SelectorError extends Error {
  /** What may help, to stand after the message. */
  readonly hint: string;
  /** Of the language, but not of this version. */
  readonly unsupported: boolean;

  constructor(message: string, hint = '', unsupported = false) {
    super(message);
    this.hint = hint;
    this.unsupported = unsupported;
  }
}

export interface Names {
  readonly groups: ReadonlyMap<string, unknown>;
  readonly hosts: ReadonlyMap<string, Prefix>;
  readonly tagOwners: ReadonlyMap<string, unknown>;
  /** The domains of the tailnet's users, lower case; undefined when nobody knows. */
  readonly domains: ReadonlySet<string> | undefined;
}

const AUTOGROUPS: ReadonlyMap<string, Autogroup> = new Map<string, Autogroup>([
  ...(['member', 'tagged', 'self', 'internet', 'danger-all', 'nonroot', ...ROLES] as const).map((name) => [name, name] as const),
  ['members', 'member'],
]);

export const isSingle = ({ family, length }: Prefix): boolean => length === (family === 4 ? 32 : 128);

/** An address as written, a prefix otherwise: how the plane writes a network. */
export function networkText(prefix: Prefix): string {
  const text = prefixText(prefix);
  return isSingle(prefix) ? text.slice(0, text.indexOf('/')) : text;
}

/** An address or a prefix without host bits. */
export function parseNetwork(text: string): Prefix | undefined {
  if (text.includes('/')) return parsePrefix(text);
  const address = parseAddress(text);
  return address === undefined ? undefined : { ...address, length: address.family === 4 ? 32 : 128 };
}

/** @throws SelectorError */
export function parseSelector(written: string, names: Names): Selector {
  const text = written.trim();
  if (text === '*') return { kind: 'any', text };
  const prefix = parseNetwork(text);
  if (prefix !== undefined) return { kind: 'network', text, prefix, alias: undefined };
  if (text.startsWith('user:*@')) {
    const domain = text.slice('user:*@'.length);
    checkDomain(domain, names);
    return { kind: 'domain', text, domain: domain.toLowerCase() };
  }
  if (text.startsWith('group:')) {
    if (!names.groups.has(text)) throw new SelectorError(`group not found: ${quote(text)}`, didYouMean(text, [...names.groups.keys()]));
    return { kind: 'group', text };
  }
  if (text.startsWith('tag:')) {
    if (!names.tagOwners.has(text)) throw new SelectorError(`tag not found: ${quote(text)}`, didYouMean(text, [...names.tagOwners.keys()]));
    return { kind: 'tag', text };
  }
  if (text.startsWith('autogroup:')) {
    const autogroup = AUTOGROUPS.get(text.slice('autogroup:'.length));
    if (autogroup === undefined) throw new SelectorError(`autogroup not found: ${quote(text)}`, didYouMean(text, [...AUTOGROUPS.keys()].map((name) => `autogroup:${name}`)));
    return { kind: 'autogroup', text, autogroup };
  }
  if (text.startsWith('svc:')) throw new SelectorError(`${quote(text)}: services are not supported`, '', true);
  // `ipsets` that define one are refused before.
  if (text.startsWith('ipset:')) throw new SelectorError(`ipset not found: ${quote(text)}`);
  const host = names.hosts.get(text);
  if (host !== undefined) return { kind: 'network', text, prefix: host, alias: text };
  if (/^[^@\s]+@[^@\s]*$/.test(text)) return { kind: 'user', text: text.toLowerCase() };
  const problem = networkProblem(text);
  if (problem !== undefined) throw new SelectorError(`${quote(text)}: ${problem}`);
  throw new SelectorError(`${quote(text)}: invalid address`, didYouMean(text, [...names.hosts.keys()]));
}

/** The domain of `*@domain`. @throws SelectorError when no user of the tailnet is of it */
export function checkDomain(domain: string, { domains }: Names): void {
  if (domains === undefined || domains.has(domain.toLowerCase())) return;
  throw new SelectorError(`${domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions`);
}

/** What is wrong with the name of a tag, as the plane says it; undefined when nothing is. */
export function tagProblem(text: string): string | undefined {
  if (!text.startsWith('tag:')) return "tags must start with 'tag:'";
  const name = text.slice('tag:'.length);
  if (name === '') return 'tag names must not be empty';
  if (!/^[A-Za-z]/.test(name)) return "tag names must start with a letter, after 'tag:'";
  if (!/^[A-Za-z0-9-]*$/.test(name)) return 'tag names can only contain numbers, letters, or dashes';
  return undefined;
}

/** What is wrong with text that is almost a network; undefined when it is nothing of the kind. */
export function networkProblem(text: string): string | undefined {
  const mapped = mappedProblem(text);
  if (mapped !== undefined) return mapped;
  const [address = '', length = ''] = text.split('/');
  const parsed = parseAddress(address);
  const isPrefix = parsed !== undefined && /^(0|[1-9]\d{0,2})$/.test(length) && Number(length) <= (parsed.family === 4 ? 32 : 128);
  return isPrefix ? 'prefix has bits set after its length' : undefined;
}
