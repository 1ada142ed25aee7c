// ghostwire peers: list, show, filter, rename, set-tags, set-address, delete; ghostwire whois.

import type { Command } from 'commander';
import type { Static } from 'typebox';
import type { PacketFilter, PeerBody, PeerList, WhoHasBody } from '../api/schemas.js';
import { GhostwireError } from '../errors.js';
import type { Api } from './api.js';
import { passage } from './difference.js';
import { fields, print, table } from './output.js';
import { remote } from './remote.js';

export function peerCommands(program: Command): void {
  const peers = program.command('peers').description('the registered machines');
  remote(peers.command('list').description('all peers'), async ({ api, json }) => {
    const all = await allPeers(api);
    const rows = all.map((peer) => [
      peer.id,
      peer.name,
      peer.addresses[0] ?? '',
      peer.tags.join() || (peer.user ?? ''),
      peer.os,
      peer.createdAt,
    ]);
    print(json, all, table(['ID', 'NAME', 'ADDRESS', 'OWNER', 'OS', 'REGISTERED'], rows));
  });
  const about = (name: string, description: string): Command => peers.command(name).description(description).argument('<peer>', 'id or name');
  remote(about('show', 'one peer'), async ({ api, json, args }) => {
    const peer = await findPeer(api, args[0] ?? '');
    print(json, peer, fields(peer));
  });
  remote(about('filter', 'what a peer may be sent, denies subtracted'), async ({ api, json, args }) => {
    const { id } = await findPeer(api, args[0] ?? '');
    const { rules } = await api.request<Static<typeof PacketFilter>>('GET', `/v1/peers/${id}/filter`);
    const rows = rules.map((rule) => [rule.sources.join(), rule.destinations.join(), passage(rule)]);
    print(json, rules, table(['FROM', 'TO', 'WHAT'], rows));
  });
  const change = (command: Command, update: (args: readonly string[]) => object, said: (peer: PeerBody, before: PeerBody) => string): Command =>
    remote(command, async ({ api, json, args }) => {
      const [wanted = '', ...rest] = args;
      const before = await findPeer(api, wanted);
      const peer = await api.request<PeerBody>('PATCH', `/v1/peers/${before.id}`, { json: update(rest) });
      print(json, peer, said(peer, before));
    });
  change(
    about('rename', 'give a peer another name in the network').argument('<name>'),
    ([name]) => ({ name }),
    (peer, before) => `${before.name} is ${peer.name} now`,
  );
  change(
    about('set-tags', 'tag a peer, in place of the tags that it has; without any it is its user\'s again').argument('[tag...]'),
    (tags) => ({ tags }),
    (peer) => `${peer.name} has ${peer.tags.join(', ') || 'no tags'}`,
  );
  change(
    about('set-address', 'give a peer another IPv4 address of the network; its IPv6 address follows').argument('<ipv4>'),
    ([ipv4]) => ({ ipv4 }),
    (peer) => `${peer.name} has ${peer.addresses.join(' and ')}`,
  );
  remote(about('delete', 'revoke a peer; others lose sight of it at once'), async ({ api, json, args }) => {
    const { id, name } = await findPeer(api, args[0] ?? '');
    await api.request('DELETE', `/v1/peers/${id}`);
    print(json, { id, deleted: true }, `deleted ${name} (${id})`);
  });
}

/** Who has an address. */
export function whoisCommand(program: Command): void {
  const command = program.command('whois').description('who has an address: a peer, nobody, or those behind a router').argument('<address>');
  remote(command, async ({ api, json, args }) => {
    const found = await api.request<WhoHasBody>('GET', `/v1/addresses/${encodeURIComponent(args[0] ?? '')}`);
    const { address, state, peer, preauthKey, restsUntil, pool, routes } = found;
    const shown = {
      address,
      state,
      peer: peer && `${peer.name} (${peer.id})`,
      preauthKey,
      restsUntil,
      pool,
      routes: routes.map(({ prefix, primary, routers }) => `${prefix} through ${primary.name}${routers.length > 1 ? ` (of ${routers.length})` : ''}`),
    };
    print(json, found, fields(shown));
  });
}

export async function allPeers(api: Api): Promise<PeerBody[]> {
  const all: PeerBody[] = [];
  let after = '';
  do {
    const page: Static<typeof PeerList> = await api.request('GET', `/v1/peers?limit=1000${after === '' ? '' : `&after=${after}`}`);
    all.push(...page.peers);
    after = page.next ?? '';
  } while (after !== '');
  return all;
}

/** @param wanted id or name @throws GhostwireError ERR_PEER_NOT_FOUND */
export async function findPeer(api: Api, wanted: string): Promise<PeerBody> {
  // No name has an underscore.
  if (wanted.startsWith('p_')) return api.request<PeerBody>('GET', `/v1/peers/${encodeURIComponent(wanted)}`);
  const peer = (await allPeers(api)).find(({ name }) => name === wanted.toLowerCase());
  if (peer === undefined) throw new GhostwireError('ERR_PEER_NOT_FOUND', `no peer has the id or name ${JSON.stringify(wanted)}`);
  return peer;
}
