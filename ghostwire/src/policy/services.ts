// Protocols and ports: `proto` and the end of `dst` in acls and tests, `ip` in grants.

import { quote } from './quote.js';

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** IANA protocol numbers; undefined is what Tailscale means by none: TCP, UDP and ICMP of both families. */
export interface Service {
  readonly protocol: number | undefined;
  readonly ports: readonly PortRange[];
}

export const ALL_PORTS: PortRange = { first: 0, last: 65_535 };

/** What no protocol stands for. */
export const DEFAULT_PROTOCOLS = [6, 17, 1, 58] as const;

/** What is wrong with a service; the reader of the policy adds the place. */
export class ServiceError extends Error {}

/** https://www.iana.org/assignments/protocol-numbers, the names that Tailscale takes */
const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['icmp', 1],
  ['igmp', 2],
  ['ipv4', 4],
  ['ip-in-ip', 4],
  ['tcp', 6],
  ['egp', 8],
  ['igp', 9],
  ['udp', 17],
  ['gre', 47],
  ['esp', 50],
  ['ah', 51],
  ['ipv6-icmp', 58],
  ['sctp', 132],
  ['fc', 133],
]);

const WITH_PORTS = new Set([6, 17, 132]);

/** A name or a number; '' is none. @throws ServiceError */
export function parseProtocol(written: string): number | undefined {
  const text = written.trim().toLowerCase();
  if (text === '') return undefined;
  const named = PROTOCOLS.get(text);
  if (named !== undefined) return named;
  if (!/^\d+$/.test(text))
    throw new ServiceError(`proto name ${quote(text)} not known; use protocol number 0-255 or protocol name (icmp, tcp, udp, etc.)`);
  if (text.startsWith('0')) throw new ServiceError(`leading 0 not permitted in protocol number: ${quote(text)}`);
  if (Number(text) > 255) throw new ServiceError(`protocol number out of range (0-255): ${quote(text)}`);
  return Number(text);
}

/** '*', '22', '80,443', '8000-8999'. @throws ServiceError */
function parsePorts(text: string): PortRange[] {
  if (text === '*') return [ALL_PORTS];
  return text.split(',').map((part) => {
    const dash = part.indexOf('-');
    const first = port(dash < 0 ? part : part.slice(0, dash), 'first', text);
    const last = dash < 0 ? first : port(part.slice(dash + 1), 'last', text);
    if (first > last) throw new ServiceError(`port range ${quote(text)}: first port is greater than last port`);
    return { first, last };
  });
}

function port(text: string, which: 'first' | 'last', whole: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) > 65_535) throw new ServiceError(`port range ${quote(whole)}: invalid ${which} integer`);
  return Number(text);
}

/** An entry of a grant's `ip`: '*', ports, or protocol:ports. @throws ServiceError */
export function parseService(written: string): Service {
  const text = written.trim();
  const parts = text.split(':');
  if (parts.length > 2) throw new ServiceError(`expected only one colon in Internet protocol and port type, got: ${quote(text)}`);
  const [protocolText, portsText] = parts.length === 2 ? parts : ['', text];
  if (parts.length === 2 && protocolText === '') throw new ServiceError(`${quote(text)}: empty protocol`);
  const service = { protocol: protocolText === '*' ? undefined : parseProtocol(protocolText ?? ''), ports: parsePorts(portsText ?? '') };
  checkPorts(service);
  return service;
}

/** Only TCP, UDP and SCTP have ports to choose from. @throws ServiceError */
export function checkPorts({ protocol, ports }: Service): void {
  if (protocol === undefined || WITH_PORTS.has(protocol) || ports.every(isAll)) return;
  throw new ServiceError(`protocol ${protocol} has no ports; only "*" is allowed`);
}

export const isAll = ({ first, last }: PortRange): boolean => first === ALL_PORTS.first && last === ALL_PORTS.last;

/** The end of `dst`: host and ports after the last colon. @throws ServiceError */
export function splitPorts(text: string): { host: string; ports: PortRange[] } {
  const bracketed = /^\[([^\]]+)\](\/\d+)?(:.*)$/.exec(text);
  const plain = bracketed === null ? text : `${bracketed[1]}${bracketed[2] ?? ''}${bracketed[3]}`;
  const colon = plain.lastIndexOf(':');
  if (colon < 0) throw new ServiceError(`dst=${quote(text)}: hostport must contain a colon (":")`);
  try {
    return { host: plain.slice(0, colon), ports: parsePorts(plain.slice(colon + 1)) };
  } catch (error) {
    throw error instanceof ServiceError ? new ServiceError(`dst=${quote(text)}: ${error.message}`) : error;
  }
}
