// The WireGuard interface: the kernel's, else wireguard-go's. Changed by differences only, so that live traffic stays.

import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { GhostwireError } from '../errors.js';
import type { PlannedPeer } from './plan.js';
import { TOOLS, type Tools } from './system.js';

export interface KeyPair {
  /** Base64 of 32 bytes, both. */
  readonly privateKey: string;
  readonly publicKey: string;
}

export function makeKeyPair(): KeyPair {
  const { d = '', x = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  const base64 = (text: string): string => Buffer.from(text, 'base64url').toString('base64');
  return { privateKey: base64(d), publicKey: base64(x) };
}

/** A peer as the interface has it. */
export interface LivePeer {
  readonly publicKey: string;
  readonly endpoint: string | undefined;
  readonly allowedIps: readonly string[];
  /** Milliseconds since 1970; 0: never. */
  readonly handshakeAt: number;
  /** Bytes. */
  readonly received: number;
  readonly sent: number;
  readonly keepalive: number;
}

/** Seconds between packets that keep a NAT's mapping alive; most forget after 30. */
export const KEEPALIVE = 25;
/** WireGuard's headers within 1,500 bytes, over IPv6. */
const MTU = 1420;
/** Peers in one call of `wg`: what a slow machine does of it in time stands, and the rest is tried again. */
const AT_ONCE = 50;

export class Tunnel {
  readonly name: string;
  #kind: 'kernel' | 'wireguard-go' = 'kernel';

  readonly #tools: Tools;

  constructor(name: string, tools = TOOLS) {
    this.name = name;
    this.#tools = tools;
  }

  get kind(): string {
    return this.#kind;
  }

  /** Makes the interface if there is none; an earlier agent's is taken over with its peers. @throws GhostwireError ERR_AGENT_SYSTEM */
  async up(keyFile: string, port: number, mark: number): Promise<void> {
    if (!(await this.exists())) {
      if (!(await this.#tools.attempt('ip', ['link', 'add', 'dev', this.name, 'type', 'wireguard']))) {
        await this.#tools.run('wireguard-go', [this.name]).catch(async (error: unknown) => {
          if (await this.#tools.attempt('wireguard-go', ['--version'])) throw error;
          throw new GhostwireError('ERR_AGENT_SYSTEM', 'the kernel has no WireGuard and wireguard-go is not installed');
        });
        this.#kind = 'wireguard-go';
      }
    } else if (!/\bwireguard\b/.test(await this.#tools.run('ip', ['-d', 'link', 'show', 'dev', this.name]))) this.#kind = 'wireguard-go';
    // Setting the port that it has already would open the socket anew.
    const listen = (await this.port()) === port ? [] : ['listen-port', String(port)];
    await this.#tools.run('wg', ['set', this.name, 'private-key', keyFile, 'fwmark', String(mark), ...listen]);
    await this.#tools.run('ip', ['link', 'set', 'dev', this.name, 'mtu', String(MTU), 'up']);
  }

  exists(): Promise<boolean> {
    return this.#tools.attempt('ip', ['link', 'show', 'dev', this.name]);
  }

  async port(): Promise<number> {
    return Number((await this.#tools.run('wg', ['show', this.name, 'listen-port'])).trim());
  }

  async useKey(keyFile: string): Promise<void> {
    await this.#tools.run('wg', ['set', this.name, 'private-key', keyFile]);
  }

  async peers(): Promise<LivePeer[]> {
    const [, ...lines] = (await this.#tools.run('wg', ['show', this.name, 'dump'])).trim().split('\n');
    return lines.map((line) => {
      const [publicKey = '', , endpoint = '', allowedIps = '', handshake, received, sent, keepalive] = line.split('\t');
      return {
        publicKey,
        endpoint: endpoint === '(none)' ? undefined : endpoint,
        allowedIps: allowedIps === '(none)' ? [] : allowedIps.split(','),
        handshakeAt: Number(handshake) * 1_000,
        received: Number(received),
        sent: Number(sent),
        keepalive: keepalive === 'off' ? 0 : Number(keepalive),
      };
    });
  }

  /** Removes, adds and changes peers; those that are as they should be are not touched. Returns how many were. */
  async apply(wanted: readonly PlannedPeer[], keepalive: number, endpoint: (peer: PlannedPeer) => string | undefined): Promise<number> {
    const changes = differences(await this.peers(), wanted, keepalive, endpoint);
    for (let at = 0; at < changes.length; at += AT_ONCE) await this.#tools.run('wg', ['set', this.name, ...changes.slice(at, at + AT_ONCE).flat()]);
    return changes.length;
  }

  async setEndpoints(endpoints: ReadonlyMap<string, string>): Promise<void> {
    const args = [...endpoints].map(([publicKey, endpoint]) => ['peer', publicKey, 'endpoint', endpoint]);
    for (let at = 0; at < args.length; at += AT_ONCE) await this.#tools.run('wg', ['set', this.name, ...args.slice(at, at + AT_ONCE).flat()]);
  }

  /**
   * Has handshakes begun anew, with these addresses: WireGuard itself would wait 5 s. For peers that have never answered, since what
   * waits to be sent to them is lost.
   */
  async renew(peers: readonly { readonly peer: LivePeer; readonly endpoint: string }[]): Promise<void> {
    // A keepalive is what makes WireGuard begin without traffic of others.
    const anew = ({ peer: { publicKey, allowedIps }, endpoint }: (typeof peers)[number]): string[] =>
      ['peer', publicKey, 'remove', 'peer', publicKey, 'allowed-ips', allowedIps.join(), 'endpoint', endpoint, 'persistent-keepalive', String(KEEPALIVE)];
    const back = ({ peer: { publicKey, keepalive } }: (typeof peers)[number]): string[] =>
      keepalive === KEEPALIVE ? [] : ['peer', publicKey, 'persistent-keepalive', keepalive === 0 ? 'off' : String(keepalive)];
    for (let at = 0; at < peers.length; at += AT_ONCE) {
      const some = peers.slice(at, at + AT_ONCE);
      await this.#tools.run('wg', ['set', this.name, ...some.flatMap(anew)]);
      const args = some.flatMap(back);
      if (args.length > 0) await this.#tools.run('wg', ['set', this.name, ...args]);
    }
  }

  /** wireguard-go ends with its interface. */
  async down(): Promise<void> {
    await this.#tools.attempt('ip', ['link', 'del', 'dev', this.name]);
    for (let tries = 0; tries < 50 && (await this.exists()); tries += 1) await sleep(20);
  }
}

/** Arguments of `wg set` for each peer that differs, removals first: an address must be free before another has it. Pure. */
export function differences(
  live: readonly LivePeer[],
  wanted: readonly PlannedPeer[],
  keepalive: number,
  endpoint: (peer: PlannedPeer) => string | undefined,
): string[][] {
  const keys = new Set(wanted.map(({ publicKey }) => publicKey));
  const held = new Map(live.map((peer) => [peer.publicKey, peer]));
  const changes = live.filter(({ publicKey }) => !keys.has(publicKey)).map(({ publicKey }) => ['peer', publicKey, 'remove']);
  for (const peer of wanted) {
    const before = held.get(peer.publicKey);
    const args: string[] = [];
    if (before?.allowedIps.toSorted().join() !== peer.allowedIps.toSorted().join()) args.push('allowed-ips', peer.allowedIps.join());
    if ((before?.keepalive ?? 0) !== keepalive) args.push('persistent-keepalive', keepalive === 0 ? 'off' : String(keepalive));
    const where = before?.endpoint === undefined ? endpoint(peer) : undefined;
    if (where !== undefined) args.push('endpoint', where);
    if (args.length > 0 || before === undefined) changes.push(['peer', peer.publicKey, ...args]);
  }
  return changes;
}
