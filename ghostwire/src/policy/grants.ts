// Who may reach whom: `acls` and `grants`, read into one form. An entry of `acls` is one grant for each of its destinations.

import type { Node } from './hujson.js';
import { quote } from './quote.js';
import type { Reading } from './reading.js';
import { parseSelector, type Selector } from './selectors.js';
import { checkPorts, parseProtocol, parseService, splitPorts, type Service } from './services.js';

/** What an application is told that its caller may do: values by capability name. */
export type Capabilities = Readonly<Record<string, unknown>>;

export interface Grant {
  readonly sources: readonly Selector[];
  readonly destinations: readonly Selector[];
  /** None when the grant is for applications only. */
  readonly services: readonly Service[];
  readonly capabilities: Capabilities | undefined;
  /** Tags of the routers that carry the traffic; none is all. */
  readonly via: readonly string[];
  /** Line of the entry in the text, from 1. */
  readonly line: number;
}

/** Where a selector may not stand, as the plane says it. */
const NO_SELF = 'autogroup:self can only be used with users, groups, or supported autogroups';

export function readAcls(reading: Reading, node: Node | undefined): Grant[] {
  return reading.source.items(node, 'acls').flatMap((entry, index) => readAcl(reading, entry, `acls[${index}]`));
}

function readAcl(reading: Reading, node: Node, what: string): Grant[] {
  const { source } = reading;
  const fields = source.fields(node, what, ['action', 'src', 'dst', 'proto', 'srcPosture'], { users: 'src', ports: 'dst' });
  refusePosture(reading, fields.get('srcPosture'), what);
  const action = fields.get('action');
  if (action === undefined) throw reading.invalid('action must be specified', node);
  const written = source.string(action, `${what}.action`);
  if (written !== 'accept') throw reading.invalid(`action=${quote(written)} is not supported`, action);
  const sources = readSources(reading, fields.get('src'), what);
  const proto = fields.get('proto');
  const protocol = proto === undefined ? undefined : reading.at(proto, '', () => parseProtocol(text(reading, proto, `${what}.proto`)));
  const line = source.lineOf(node);
  const grants = source.items(fields.get('dst'), `${what}.dst`).map((item): Grant => {
    const { host, ports } = reading.at(item, '', () => splitPorts(source.string(item, `${what}.dst`).trim()));
    const service = { protocol, ports };
    reading.at(item, '', () => checkPorts(service));
    const destination = reading.at(item, `dst=${quote(host)}: `, () => parseSelector(host, reading.names));
    checkDestination(reading, destination, item);
    checkSelf(reading, sources, destination, ['any'], item);
    return { sources, destinations: [destination], services: [service], capabilities: undefined, via: [], line };
  });
  // Where something other than autogroups is named, the plane lists autogroup:self last.
  const isSelf = ({ destinations: [first] }: Grant): boolean => first?.kind === 'autogroup' && first.autogroup === 'self';
  if (grants.every(({ destinations: [first] }) => first?.kind === 'autogroup')) return grants;
  return [...grants.filter((grant) => !isSelf(grant)), ...grants.filter(isSelf)];
}

export function readGrants(reading: Reading, node: Node | undefined): Grant[] {
  return reading.source.items(node, 'grants').map((entry, index) => readGrant(reading, entry, `grants[${index}]`));
}

function readGrant(reading: Reading, node: Node, what: string): Grant {
  const { source } = reading;
  const fields = source.fields(node, what, ['src', 'dst', 'ip', 'app', 'via', 'srcPosture']);
  refusePosture(reading, fields.get('srcPosture'), what);
  const services = source.items(fields.get('ip'), `${what}.ip`).map((item) => {
    const written = source.string(item, `${what}.ip`);
    return reading.at(item, '', () => parseService(written));
  });
  const capabilities = readCapabilities(reading, fields.get('app'), what);
  if (services.length === 0 && capabilities === undefined) throw reading.invalid('ip and app can not both be empty', node);
  const sources = readSources(reading, fields.get('src'), what);
  const destinations = source.items(fields.get('dst'), `${what}.dst`).map((item) => {
    const destination = reading.selector(item, `${what}.dst`, 'dst=');
    checkDestination(reading, destination, item);
    if (destination.kind === 'autogroup' && destination.autogroup === 'internet' && capabilities !== undefined)
      throw reading.invalid('cannot use app grants with autogroup:internet', item);
    if (destination.kind === 'network' && destination.prefix.length === 0 && destination.alias === undefined)
      throw reading.invalid(`dst ${quote(destination.text)}: to allow all IP addresses, use "*" or "autogroup:internet"`, item);
    checkSelf(reading, sources, destination, [], item);
    return destination;
  });
  const via = source.items(fields.get('via'), `${what}.via`).map((item) => {
    const tag = source.string(item, `${what}.via`).trim();
    if (!tag.startsWith('tag:')) throw reading.invalid('via can only be a tag', item);
    if (!reading.names.tagOwners.has(tag)) throw reading.invalid(`tag ${quote(tag)} not found`, item);
    return tag;
  });
  return { sources, destinations, services, capabilities, via, line: source.lineOf(node) };
}

/** Capabilities of tailscale.com that people may hand out; the others are the plane's own. */
const GRANTABLE = new Set(['drive', 'golink', 'kubernetes', 'relay', 'secrets', 'tsidp', 'webui'].map((name) => `tailscale.com/cap/${name}`));

function readCapabilities({ source }: Reading, node: Node | undefined, what: string): Capabilities | undefined {
  if (node === undefined) return undefined;
  const members = source.members(node, `${what}.app`);
  if (members.length === 0) return undefined;
  const capabilities = Object.create(null) as Record<string, unknown>;
  for (const { key, keyNode, value } of members) {
    if (!/^[A-Za-z0-9][A-Za-z0-9.-]*\/[^\s]+$/.test(key))
      throw source.invalid('capability name must have the form {domain}/{path}', keyNode);
    if (key.startsWith('tailscale.com/') && !GRANTABLE.has(key))
      throw source.invalid('capability name must not be in the tailscale.com domain', keyNode);
    if (value.type !== 'array' && value.type !== 'null') throw source.invalid(`${what}.app[${quote(key)}] must be an array`, value);
    capabilities[key] = source.value(value);
  }
  return capabilities;
}

function readSources(reading: Reading, node: Node | undefined, what: string): Selector[] {
  return reading.source.items(node, `${what}.src`).map((item) => {
    const selector = reading.selector(item, `${what}.src`, 'src=');
    if (selector.kind === 'autogroup' && ['self', 'internet', 'nonroot'].includes(selector.autogroup))
      throw reading.invalid(`${quote(selector.text)} not valid on the src side of a rule`, item);
    return selector;
  });
}

function checkDestination(reading: Reading, selector: Selector, node: Node): void {
  if (selector.kind !== 'autogroup') return;
  if (selector.autogroup === 'danger-all') throw reading.invalid('cannot use autogroup:danger-all as a dst', node);
  if (selector.autogroup === 'nonroot') throw reading.invalid(`${quote(selector.text)} not valid on the dst side of a rule`, node);
}

/** autogroup:self compares owners, so every source must be people. */
function checkSelf(reading: Reading, sources: readonly Selector[], to: Selector, also: readonly Selector['kind'][], node: Node): void {
  if (to.kind !== 'autogroup' || to.autogroup !== 'self') return;
  const people = sources.every(
    (from) =>
      ['user', 'group', 'domain', ...also].includes(from.kind) ||
      (from.kind === 'autogroup' && from.autogroup !== 'tagged' && from.autogroup !== 'danger-all'),
  );
  if (!people) throw reading.invalid(NO_SELF, node);
}

function refusePosture(reading: Reading, node: Node | undefined, what: string): void {
  if (node !== undefined && (node.type !== 'array' || (node.children ?? []).length > 0))
    throw reading.source.error('ERR_POLICY_UNSUPPORTED', `${what}: "srcPosture" is not supported`, node);
}

/** A string, or a number as Go's reader of protocols takes it. */
function text(reading: Reading, node: Node, what: string): string {
  return node.type === 'number' ? String(node.value) : reading.source.string(node, what);
}
