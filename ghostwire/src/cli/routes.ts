// ghostwire routes: list, approve, withdraw. A machine offers routes; an admin agrees to them.

import type { Command } from 'commander';
import type { Static } from 'typebox';
import type { PeerBody, PeerList } from '../api/schemas.js';
import { GhostwireError } from '../errors.js';
import type { Api } from './api.js';
import { print, table } from './output.js';
import { remote } from './remote.js';

export function routeCommands(program: Command): void {
  const routes = program.command('routes').description('networks that machines route for the others');
  remote(routes.command('list').description('all that are offered or approved'), async ({ api, json }) => {
    const found = (await allPeers(api)).flatMap(({ id, name, advertisedRoutes, approvedRoutes, primaryRoutes }) =>
      [...new Set([...advertisedRoutes, ...approvedRoutes])]
        .sort()
        .map((prefix) => ({ prefix, peer: name, id, approved: approvedRoutes.includes(prefix), primary: primaryRoutes.includes(prefix) })),
    );
    const rows = found.map(({ prefix, peer, id, approved, primary }) => [prefix, peer, id, approved ? 'yes' : 'no', primary ? 'yes' : 'no']);
    print(json, found, table(['PREFIX', 'PEER', 'ID', 'APPROVED', 'PRIMARY'], rows));
  });
  const change = (name: string, description: string, next: (before: readonly string[], given: readonly string[]) => string[]): void => {
    const command = routes.command(name).description(description).argument('<peer>', 'id or name').argument('<prefix...>');
    remote(command, async ({ api, json, args }) => {
      const [wanted = '', ...prefixes] = args;
      const peer = (await allPeers(api)).find((one) => one.id === wanted || one.name === wanted);
      if (peer === undefined) throw new GhostwireError('ERR_PEER_NOT_FOUND', `no peer has the id or name ${JSON.stringify(wanted)}`);
      const approvedRoutes = next(peer.approvedRoutes, prefixes);
      const { approvedRoutes: now } = await api.request<PeerBody>('PATCH', `/v1/peers/${peer.id}`, { json: { approvedRoutes } });
      print(json, { id: peer.id, approvedRoutes: now }, `${peer.name} routes ${now.join(', ') || 'nothing'}`);
    });
  };
  change('approve', 'let the network use routes that a peer offers', (before, given) => [...new Set([...before, ...given])]);
  change('withdraw', 'take an approval back', (before, given) => before.filter((route) => !given.includes(route)));
}

async function allPeers(api: Api): Promise<PeerBody[]> {
  const all: PeerBody[] = [];
  let after = '';
  do {
    const page: Static<typeof PeerList> = await api.request('GET', `/v1/peers?limit=1000${after === '' ? '' : `&after=${after}`}`);
    all.push(...page.peers);
    after = page.next ?? '';
  } while (after !== '');
  return all;
}
