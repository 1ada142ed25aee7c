// The policy language: what a HuJSON policy may hold, read into plain data.
//
// Names are resolved here, so what leaves this file refers only to things that exist. What it means for a given tailnet is
// in wire-filters.ts, visibility.ts, ssh.ts and attributes.ts; what it means for the ACL engine in compile.ts.

import type { Prefix } from '../addresses/ip.js';
import { readNodeAttrs, type NodeAttribute } from './attributes.js';
import { readAutoApprovers, readGroups, readHosts, readTagOwners, type AutoApprovers } from './definitions.js';
import { readAcls, readGrants, type Grant } from './grants.js';
import { HuJson, type Node } from './hujson.js';
import { Reading } from './reading.js';
import { readSsh, type SshRule } from './ssh.js';
import { readSshTests, type SshTest } from './ssh-tests.js';
import { readTests, type PolicyTest } from './tests.js';

export interface PolicyDocument {
  /** Logins by `group:name`. */
  readonly groups: ReadonlyMap<string, readonly string[]>;
  readonly hosts: ReadonlyMap<string, Prefix>;
  /** Logins, groups, tags and autogroups by `tag:name`. */
  readonly tagOwners: ReadonlyMap<string, readonly string[]>;
  /** `acls` and `grants` in one form; undefined when the policy has neither, which allows everything. */
  readonly grants: readonly Grant[] | undefined;
  readonly autoApprovers: AutoApprovers;
  readonly ssh: readonly SshRule[];
  readonly nodeAttrs: readonly NodeAttribute[];
  readonly tests: readonly PolicyTest[];
  readonly sshTests: readonly SshTest[];
}

const SECTIONS = [
  'groups',
  'hosts',
  'tagOwners',
  'acls',
  'grants',
  'autoApprovers',
  'ssh',
  'nodeAttrs',
  'tests',
  'sshTests',
  'randomizeClientPort',
  'disableIPv4',
  'OneCGNATRoute',
  'derpMap',
  'postures',
  'defaultSrcPosture',
  'ipsets',
] as const;
type Section = (typeof SECTIONS)[number];

/** Of the language, but not of this version. */
const UNSUPPORTED: readonly Section[] = ['disableIPv4', 'OneCGNATRoute', 'derpMap', 'postures', 'defaultSrcPosture', 'ipsets'];

export interface ReadOptions {
  /** Domains that `user:*@domain` and `localpart:*@domain` may name; undefined is any. */
  readonly domains?: ReadonlySet<string>;
}

/**
 * @throws GhostwireError ERR_POLICY_SYNTAX, ERR_POLICY_INVALID, ERR_POLICY_UNSUPPORTED, each with line, column and reason
 */
export function readPolicy(text: string, options: ReadOptions = {}): PolicyDocument {
  const source = new HuJson(text);
  const sections = source.fields(source.root, 'the policy', SECTIONS);
  for (const name of UNSUPPORTED) {
    const node = sections.get(name);
    if (node !== undefined) throw source.error('ERR_POLICY_UNSUPPORTED', `section "${name}" is not supported`, node);
  }
  // In this order, because each may name what the ones before it define.
  const groups = readGroups(source, sections.get('groups'));
  const hosts = readHosts(source, sections.get('hosts'));
  const tagOwners = readTagOwners(source, sections.get('tagOwners'), groups);
  const reading = new Reading(source, { groups, hosts, tagOwners, domains: options.domains });
  const acls = sections.get('acls');
  const grants = sections.get('grants');
  return {
    groups,
    hosts,
    tagOwners,
    // The plane's filters list what grants allow before what acls allow.
    grants: acls === undefined && grants === undefined ? undefined : [...readGrants(reading, grants), ...readAcls(reading, acls)],
    autoApprovers: readAutoApprovers(reading, sections.get('autoApprovers')),
    ssh: readSsh(reading, sections.get('ssh')),
    nodeAttrs: [
      ...readNodeAttrs(reading, sections.get('nodeAttrs')),
      ...randomizeClientPort(source, sections.get('randomizeClientPort')),
    ],
    tests: readTests(reading, sections.get('tests')),
    sshTests: readSshTests(reading, sections.get('sshTests')),
  };
}

/** An older way to write a node attribute for everybody. */
function randomizeClientPort(source: HuJson, node: Node | undefined): NodeAttribute[] {
  if (node === undefined) return [];
  if (node.type !== 'boolean') throw source.invalid('randomizeClientPort must be true or false', node);
  if (node.value !== true) return [];
  return [{ targets: [{ kind: 'any', text: '*' }], attributes: new Map([['randomize-client-port', null]]), pools: [], line: source.lineOf(node) }];
}
