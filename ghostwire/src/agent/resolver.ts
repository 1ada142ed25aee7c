// Points the host's resolver at the agent: for the network's domain only where systemd-resolved can tell domains apart, else
// for everything, by a line in resolv.conf, in which case the agent hands on what is not the network's.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { Undo } from './state.js';
import { TOOLS } from './system.js';

export interface ResolverSetup {
  readonly undo: NonNullable<Undo['resolver']>;
  /** The resolvers that the host had, to hand other questions on to. */
  readonly upstream: readonly string[];
}

const MARK = '# ghostwire: put back by `ghostwire down`';
const RESOLV_CONF = '/etc/resolv.conf';
/** Where systemd-resolved is in charge. */
const STUB = '/run/systemd/resolve/stub-resolv.conf';

/** @returns undefined when the host's names are set up in a way that is not ours to change */
export async function setUpResolver(
  name: string,
  address: string,
  domain: string,
  { path = RESOLV_CONF, stub = STUB, tools = TOOLS } = {},
): Promise<ResolverSetup | undefined> {
  if (existsSync(stub) && (await tools.attempt('resolvectl', ['status', name]))) {
    await tools.run('resolvectl', ['dns', name, address]);
    await tools.run('resolvectl', ['domain', name, `~${domain}`]);
    return { undo: { kind: 'resolved' }, upstream: [] };
  }
  let before: string;
  try {
    before = readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
  if (before.includes(MARK)) before = withoutOurs(before);
  const upstream = nameservers(before).filter((server) => server !== address);
  try {
    // In place: the file may be a mount of its own.
    writeFileSync(path, withOurs(before, address, domain));
  } catch {
    return undefined;
  }
  return { undo: { kind: 'file', path, before }, upstream };
}

/** Puts back what `setUpResolver` changed, unless somebody else has changed it since. */
export function undoResolver(undo: NonNullable<Undo['resolver']>): void {
  // systemd-resolved forgets an interface with the interface.
  if (undo.kind === 'resolved') return;
  try {
    if (readFileSync(undo.path, 'utf8').includes(MARK)) writeFileSync(undo.path, undo.before);
  } catch {
    // Gone, and our line with it.
  }
}

export const nameservers = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1])
    .filter((server) => server !== undefined && isIP(server) !== 0) as string[];

/** Ours first; the others stay behind it, for when the agent is gone. */
function withOurs(before: string, address: string, domain: string): string {
  const searched = /^\s*search\s+(.*)$/m.exec(before)?.[1];
  const rest = before
    .split('\n')
    .filter((line) => !/^\s*search\s/.test(line))
    .join('\n');
  return `${MARK}\nnameserver ${address}\nsearch ${[domain, searched].filter((part) => part !== undefined).join(' ')}\n${rest}`;
}

/** What an agent that died has left. */
const withoutOurs = (text: string): string => text.split('\n').slice(3).join('\n');
