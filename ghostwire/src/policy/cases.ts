// `ghostwire policy compile`: what a policy means for a tailnet that is given beside it, machine by machine, in the form in
// which captures of the real control plane are kept.

import { Type, type Static } from 'typebox';
import { Check, Errors } from 'typebox/value';
import { parseAddress, parsePrefix, type Prefix } from '../addresses/ip.js';
import { GhostwireError } from '../errors.js';
import { failedTests, reachesOf, testsFailed } from './applied.js';
import { compileAttributes } from './attributes.js';
import { readPolicy, type PolicyDocument } from './document.js';
import { compileFilters, type WireFilterRule } from './wire-filters.js';
import type { Reach } from './reach.js';
import { approvedRoutes } from './routes.js';
import { ROLES } from './selectors.js';
import { SshPolicy, type SshWireRule } from './ssh.js';
import { Tailnet, type TailnetNode, type TailnetUser } from './tailnet.js';
import { Visibility, type VisiblePeer } from './visibility.js';

const Optional = Type.Optional;
const Prefixes = Optional(Type.Union([Type.Array(Type.String()), Type.Null()]));

const CaseNode = Type.Object({
  hostname: Optional(Type.String()),
  /** When the machine joined, as a number that ascends; unknown in the captures. */
  id: Optional(Type.Number()),
  user: Optional(Type.Union([Type.String(), Type.Null()])),
  tags: Optional(Type.Union([Type.Array(Type.String()), Type.Null()])),
  ipv4: Optional(Type.Union([Type.String(), Type.Null()])),
  ipv6: Optional(Type.Union([Type.String(), Type.Null()])),
  routable_ips: Prefixes,
  approved_routes: Prefixes,
});

const CaseUser = Type.Object({
  id: Type.Number(),
  name: Type.String(),
  email: Optional(Type.String()),
  /** admin, owner and the like; without any in the tailnet everybody is admin and the first user the owner. */
  roles: Optional(Type.Array(Type.Union(ROLES.map((role) => Type.Literal(role))))),
});

const CaseSchema = Type.Object({
  id: Type.String(),
  /** HuJSON */
  policy: Type.String(),
  topology: Type.Object({ users: Type.Array(CaseUser), nodes: Type.Record(Type.String(), CaseNode) }),
  tailnet: Optional(Type.Union([Type.Object({ domain: Optional(Type.String()) }), Type.Null()])),
});

export type Case = Static<typeof CaseSchema>;

export interface NodeAnswer {
  /** Absent when the machine lets nothing in. */
  rules?: WireFilterRule[];
  peers: VisiblePeer[];
  /** Absent when nobody may log in. */
  ssh?: SshWireRule[];
  /** Values by attribute; null for one that has none. */
  self: { capmap: Record<string, unknown> };
}

export type Answer = { readonly id: string } & (
  | { readonly error: string }
  | { readonly nodes: Readonly<Record<string, NodeAnswer>> }
);

/** Where captures have the plane's own address. */
const PLANE = 'https://unused';

/** A line of a file of cases. @throws GhostwireError ERR_VALIDATION */
export function parseCase(line: string): Case {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new GhostwireError('ERR_VALIDATION', `a case is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (Check(CaseSchema, value)) return value;
  const [first] = Errors(CaseSchema, value);
  throw new GhostwireError('ERR_VALIDATION', `a case does not have the expected form: ${first?.instancePath ?? ''} ${first?.message ?? ''}`);
}

/** A rejected policy is an answer, too. @throws GhostwireError ERR_VALIDATION when the case itself makes no sense */
export function answerCase(given: Case): Answer {
  try {
    const applied = applyCase(given);
    const failures = failedTests(applied.document, applied.tailnet);
    if (failures.length > 0) throw testsFailed(failures);
    return { id: given.id, nodes: describe(applied) };
  } catch (error) {
    if (!(error instanceof GhostwireError && error.code.startsWith('ERR_POLICY_'))) throw error;
    const { reason } = error.details;
    return { id: given.id, error: typeof reason === 'string' ? reason : error.message };
  }
}

export interface Applied {
  readonly document: PolicyDocument;
  readonly tailnet: Tailnet;
  readonly reaches: readonly Reach[];
}

/** @throws GhostwireError ERR_POLICY_* */
export function applyCase({ policy, topology, tailnet: settings }: Case): Applied {
  const users = usersOf(topology.users);
  const first = users[0]?.login.split('@').at(-1);
  const domain = settings?.domain?.toLowerCase() ?? first;
  const domains = new Set(domain === undefined ? [] : [domain]);
  const document = readPolicy(policy, { domains });
  const everything = new Tailnet(users, nodesOf(topology, document), document.groups);
  const tailnet = withoutIpv4(document, everything);
  return { document, tailnet, reaches: reachesOf(document, tailnet) };
}

function describe({ document, tailnet, reaches }: Applied): Record<string, NodeAnswer> {
  const ssh = new SshPolicy(document.ssh, tailnet, PLANE);
  const filters = compileFilters(reaches);
  const visibility = new Visibility(tailnet, reaches);
  const attributes = compileAttributes(document.nodeAttrs, tailnet);
  const answers = Object.create(null) as Record<string, NodeAnswer>;
  for (const node of tailnet.nodes) {
    const rules = filters.get(node);
    const sshRules = ssh.rulesFor(node);
    answers[node.name] = {
      ...(rules === undefined ? {} : { rules }),
      peers: visibility.of(node),
      ...(sshRules.length === 0 ? {} : { ssh: sshRules }),
      self: { capmap: Object.fromEntries([...(attributes.get(node) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))) },
    };
  }
  return answers;
}

function usersOf(users: Case['topology']['users']): TailnetUser[] {
  const known = users.some(({ roles }) => roles !== undefined);
  return [...users]
    .sort((a, b) => a.id - b.id)
    .map(({ name, email, roles }, index) => ({
      login: (email ?? `${name}@`).toLowerCase(),
      name,
      roles: known ? (roles ?? []) : index === 0 ? ['admin', 'owner'] : ['admin'],
    }));
}

/** In the order in which they joined, or what takes its place. */
function nodesOf({ users, nodes }: Case['topology'], document: PolicyDocument): TailnetNode[] {
  const logins = new Map(users.map(({ name, email }) => [name, (email ?? `${name}@`).toLowerCase()]));
  const rank = mentions(document);
  const joined = Object.entries(nodes).map(([name, node]) => {
    const tags = node.tags ?? [];
    const user = tags.length > 0 ? null : (logins.get(node.user ?? '') ?? node.user?.toLowerCase() ?? null);
    const offered = (node.routable_ips ?? []).map((text) => prefixOf(text, name));
    const approved = (node.approved_routes ?? []).map((text) => prefixOf(text, name));
    const addresses = [node.ipv4, node.ipv6].flatMap((text) => (text === null || text === undefined || text === '' ? [] : [addressOf(text, name)]));
    const routes = approvedRoutes(document, { user, tags, offered, approved });
    return { id: node.id ?? 0, rank: Math.min(...tags.map((tag) => rank.get(tag) ?? Infinity)), name, user, tags, addresses, routes, offered: offered.length };
  });
  // The plane prefers the router that joined first. Where cases do not say when (captures never do): the one whose tag
  // autoApprovers names first, then the one that offers more, then by name, numbered ones in the order of their numbers.
  joined.sort(
    (a, b) =>
      a.id - b.id ||
      (a.rank === b.rank ? 0 : a.rank - b.rank) ||
      b.offered - a.offered ||
      a.name.length - b.name.length ||
      (a.name < b.name ? -1 : 1),
  );
  return joined.map(({ name, user, tags, addresses, routes, offered }) => ({ name, user, tags, addresses, routes, offered }));
}

/** Approvers in the order in which `autoApprovers` names them. */
function mentions({ autoApprovers }: PolicyDocument): Map<string, number> {
  const rank = new Map<string, number>();
  for (const approver of [...autoApprovers.routes.flatMap(({ approvers }) => approvers), ...autoApprovers.exitNode])
    if (!rank.has(approver)) rank.set(approver, rank.size);
  return rank;
}

/** The attribute disable-ipv4 takes a machine's IPv4 address away. */
function withoutIpv4(document: PolicyDocument, tailnet: Tailnet): Tailnet {
  const attributes = compileAttributes(document.nodeAttrs, tailnet);
  if (![...attributes.values()].some((names) => names.has('disable-ipv4'))) return tailnet;
  const nodes = tailnet.nodes.map((node) =>
    attributes.get(node)?.has('disable-ipv4') === true
      ? { ...node, addresses: node.addresses.filter(({ family }) => family === 6) }
      : node,
  );
  return new Tailnet(tailnet.users, nodes, document.groups);
}

function prefixOf(text: string, name: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new GhostwireError('ERR_VALIDATION', `node ${JSON.stringify(name)}: ${JSON.stringify(text)} is not a prefix`);
  return prefix;
}

function addressOf(text: string, name: string): Prefix {
  const address = parseAddress(text);
  if (address === undefined) throw new GhostwireError('ERR_VALIDATION', `node ${JSON.stringify(name)}: ${JSON.stringify(text)} is not an address`);
  return { ...address, length: address.family === 4 ? 32 : 128 };
}
