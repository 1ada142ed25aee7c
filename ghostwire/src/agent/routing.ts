// Addresses, routes and routing rules of the interface.
//
// The network's own prefixes and accepted routes are ordinary routes. With an exit node everything else has a table of its
// own, asked for all packets but WireGuard's (which bear its mark) and after every route of the main table that is more
// than a default; the way to the coordinator stays outside. https://www.wireguard.com/netns/ describes the scheme.

import { readFile, writeFile } from 'node:fs/promises';
import type { Plan } from './plan.js';
import { attempt, run } from './system.js';

/** The mark of WireGuard's packets, and the number of the table. */
export const MARK = 51_820;
const PRIORITY = { server: 5_190, main: 5_200, tunnel: 5_210 } as const;

const FAMILIES = ['-4', '-6'] as const;
const familyOf = (text: string): '-4' | '-6' => (text.includes(':') ? '-6' : '-4');

export class Routing {
  readonly #name: string;
  /** What stands now, as text, so that only differences are made. */
  #addresses = new Set<string>();
  #routes = new Set<string>();
  #exit = '';

  constructor(name: string) {
    this.#name = name;
  }

  /** Learns what an earlier agent has left on the interface. */
  async adopt(): Promise<void> {
    for (const family of FAMILIES) {
      const lines = (await run('ip', [family, '-o', 'address', 'show', 'dev', this.#name])).split('\n');
      for (const line of lines) {
        const [, address] = /inet6? (\S+)/.exec(line) ?? [];
        if (address !== undefined && !address.startsWith('fe80:')) this.#addresses.add(address);
      }
      for (const line of (await run('ip', [family, 'route', 'show', 'dev', this.#name, 'table', 'main'])).split('\n')) {
        const [prefix = ''] = line.split(' ');
        if (prefix.includes('/')) this.#routes.add(prefix);
      }
    }
  }

  async apply({ addresses, routes, exit }: Pick<Plan, 'addresses' | 'routes' | 'exit'>, servers: readonly string[]): Promise<void> {
    const wanted = new Set(addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`));
    // The old ones last: with the only address of a family its routes would go too.
    for (const address of wanted) {
      if (this.#addresses.has(address)) continue;
      // Without `nodad` an IPv6 address cannot be used for a second.
      await run('ip', ['address', 'replace', address, 'dev', this.#name, ...(address.includes(':') ? ['nodad'] : [])]);
      this.#addresses.add(address);
    }
    for (const address of this.#addresses) {
      if (wanted.has(address)) continue;
      await attempt('ip', ['address', 'del', address, 'dev', this.#name]);
      this.#addresses.delete(address);
    }
    for (const route of this.#routes) {
      if (routes.includes(route) || wanted.has(route)) continue;
      await attempt('ip', [familyOf(route), 'route', 'del', route, 'dev', this.#name]);
      this.#routes.delete(route);
    }
    for (const route of routes) {
      if (this.#routes.has(route)) continue;
      await run('ip', [familyOf(route), 'route', 'replace', route, 'dev', this.#name]);
      this.#routes.add(route);
    }
    const through = exit ? servers.join() || 'none' : '';
    if (through === this.#exit) return;
    await clearExit();
    if (exit) {
      for (const family of FAMILIES) {
        await run('ip', [family, 'route', 'replace', 'default', 'dev', this.#name, 'table', String(MARK)]);
        for (const server of servers.filter((address) => familyOf(address) === family))
          await run('ip', [family, 'rule', 'add', 'to', server, 'lookup', 'main', 'priority', String(PRIORITY.server)]);
        await run('ip', [family, 'rule', 'add', 'lookup', 'main', 'suppress_prefixlength', '0', 'priority', String(PRIORITY.main)]);
        await run('ip', [family, 'rule', 'add', 'not', 'fwmark', String(MARK), 'lookup', String(MARK), 'priority', String(PRIORITY.tunnel)]);
      }
    }
    this.#exit = through;
  }
}

/** Takes the routing rules of an exit node away; the routes went with the interface. */
export async function clearExit(): Promise<void> {
  for (const family of FAMILIES)
    for (const priority of Object.values(PRIORITY)) while (await attempt('ip', [family, 'rule', 'del', 'priority', String(priority)]));
}

/** Kernel settings that the agent needs at times, all of them switches. */
const SWITCHES = {
  /** Pass packets on. */
  forwarding: ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'],
  /** Let the strict reverse-path filter look at the mark: WireGuard's packets go another way than the rest. */
  marked: ['/proc/sys/net/ipv4/conf/all/src_valid_mark'],
} as const;

/** Turns settings on; returns them as they were, for `restoreKernel`. */
export async function setKernel(what: keyof typeof SWITCHES): Promise<Record<string, string>> {
  const before: Record<string, string> = {};
  for (const path of SWITCHES[what]) {
    const value = await readFile(path, 'utf8').catch(() => undefined);
    if (value === undefined || value.trim() === '1') continue;
    await writeFile(path, '1');
    before[path] = value.trim();
  }
  return before;
}

export async function restoreKernel(before: Readonly<Record<string, string>>): Promise<void> {
  for (const path of Object.values(SWITCHES).flat()) {
    const value = before[path];
    if (value !== undefined) await writeFile(path, value).catch(() => undefined);
  }
}
