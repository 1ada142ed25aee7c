// ghostwire routes: list, approve, withdraw. A machine offers routes; an admin agrees to them.

import type { Command } from 'commander';
import type { PeerBody } from '../api/schemas.js';
import { print, table } from './output.js';
import { allPeers, findPeer } from './peers.js';
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
      const peer = await findPeer(api, wanted);
      const approvedRoutes = next(peer.approvedRoutes, prefixes);
      const { approvedRoutes: now } = await api.request<PeerBody>('PATCH', `/v1/peers/${peer.id}`, { json: { approvedRoutes } });
      print(json, { id: peer.id, approvedRoutes: now }, `${peer.name} routes ${now.join(', ') || 'nothing'}`);
    });
  };
  change('approve', 'let the network use routes that a peer offers', (before, given) => [...new Set([...before, ...given])]);
  change('withdraw', 'take an approval back', (before, given) => before.filter((route) => !given.includes(route)));
}
