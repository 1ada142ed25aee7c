// ghostwire peers: list, show, filter, delete.

import type { Command } from 'commander';
import type { Static } from 'typebox';
import type { PacketFilter, PeerBody, PeerList } from '../api/schemas.js';
import { passage } from './difference.js';
import { fields, print, table } from './output.js';
import { remote } from './remote.js';

export function peerCommands(program: Command): void {
  const peers = program.command('peers').description('the registered machines');
  remote(peers.command('list').description('all peers'), async ({ api, json }) => {
    const all: PeerBody[] = [];
    let after = '';
    do {
      const page: Static<typeof PeerList> = await api.request('GET', `/v1/peers?limit=1000${after === '' ? '' : `&after=${after}`}`);
      all.push(...page.peers);
      after = page.next ?? '';
    } while (after !== '');
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
  remote(peers.command('show').description('one peer').argument('<id>'), async ({ api, json, args }) => {
    const peer = await api.request<PeerBody>('GET', `/v1/peers/${encodeURIComponent(args[0] ?? '')}`);
    print(json, peer, fields(peer));
  });
  remote(peers.command('filter').description('what a peer may be sent, denies subtracted').argument('<id>'), async ({ api, json, args }) => {
    const { rules } = await api.request<Static<typeof PacketFilter>>('GET', `/v1/peers/${encodeURIComponent(args[0] ?? '')}/filter`);
    const rows = rules.map((rule) => [rule.sources.join(), rule.destinations.join(), passage(rule)]);
    print(json, rules, table(['FROM', 'TO', 'WHAT'], rows));
  });
  remote(
    peers.command('delete').description('revoke a peer; others lose sight of it at once').argument('<id>'),
    async ({ api, json, args }) => {
      const [id = ''] = args;
      await api.request('DELETE', `/v1/peers/${encodeURIComponent(id)}`);
      print(json, { id, deleted: true }, `deleted ${id}`);
    },
  );
}
