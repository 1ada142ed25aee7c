// Addresses by the command line, of a coordinator that is ended and started again.

import { join } from 'node:path';
import test from 'ava';
import type { PeerBody, WhoHasBody } from '../src/api/schemas.js';
import { commandLine, register } from './support/cli.js';
import { FREE_PORTS, killAll, start, temporaryFolder, type Server } from './support/process.js';

test.after.always(killAll);

test.serial('pools, an address of choice, who has one, and what rests over a restart', async (t) => {
  t.timeout(120_000);
  const database = join(temporaryFolder(), 'gw.db');
  const pools = ['--addresses-pools', '["100.64.0.0/29", "100.65.0.0/29"]'];
  const first = await start(database, [...FREE_PORTS, ...pools]);
  const { adminKey, preauthKey } = first.started;
  const { prints, json, fails } = commandLine(t, first);
  const address = async (server: Server, hostname: string, key = preauthKey!): Promise<string | undefined> => (await register(server, hostname, { preauthKey: key })).peer.addresses[0];

  for (let count = 1; count <= 6; count += 1) t.is(await address(first, `a${count}`), `100.64.0.${count}`);
  const { peer: overflow } = await register(first, 'b');
  t.is(overflow.addresses[0], '100.65.0.1', 'the next pool');

  await prints(/^b has 100\.90\.1\.2 and fd7a:115c:a1e0::645a:102\n$/, 'peers', 'set-address', 'b', '100.90.1.2');
  t.deepEqual((await json<PeerBody>('peers', 'set-address', overflow.id, '100.90.1.3')).addresses[0], '100.90.1.3');
  await fails(1, /ERR_ADDRESS_TAKEN: ipv4: 100\.64\.0\.1 belongs to peer a1/, 'peers', 'set-address', 'b', '100.64.0.1');
  await fails(1, /ERR_ROUTE: --advertise-routes: "::ffff:a00:0\/104" is IPv4-mapped IPv6; write 10\.0\.0\.0\/8/, 'set', '--advertise-routes', '10.9.0.0/24,::ffff:a00:0/104');
  await fails(1, /ERR_ADDRESS: ipv4: "100\.100\.100\.100" is reserved/, 'peers', 'set-address', 'b', '100.100.100.100');
  await fails(1, /ERR_PEER_NOT_FOUND/, 'peers', 'set-address', 'nobody', '100.64.0.1');

  const key = await json<{ id: string; key: string; ipv4: string }>('preauth-key', 'create', '--address', '100.90.1.9');
  t.is(key.ipv4, '100.90.1.9');
  await prints(new RegExp(`ADDRESS.*\n${key.id} .* 100\\.90\\.1\\.9`), 'preauth-key', 'list');
  await fails(1, /ERR_VALIDATION/, 'preauth-key', 'create', '--reusable', '--address', '100.90.1.10');

  await prints(new RegExp(`^address: +100\\.90\\.1\\.3\nstate: +held\npeer: +b \\(${overflow.id}\\)\n$`), 'whois', '100.90.1.3');
  await prints(/state: +resting\nrestsUntil: 20.*Z\npool: +100\.65\.0\.0\/29/, 'whois', '100.65.0.1');
  t.like(await json<WhoHasBody>('whois', '100.90.1.9'), { state: 'kept', preauthKey: key.id });
  await fails(1, /ERR_VALIDATION: address: "b" is not an IPv4 or IPv6 address/, 'whois', 'b');

  await json('peers', 'delete', (await json<PeerBody[]>('peers', 'list')).find(({ name }) => name === 'a3')!.id);
  first.child.kill('SIGKILL');
  await first.finished;
  const second = await start(database, [...FREE_PORTS, ...pools]);
  const later = commandLine(t, second, adminKey);
  await later.prints(/state: +resting/, 'whois', '100.64.0.3');
  t.is(await address(second, 'c'), '100.65.0.2', 'what rested before rests on');
  t.is(await address(second, 'd', key.key), '100.90.1.9');
  await later.prints(/has 100\.64\.0\.3 and/, 'peers', 'set-address', 'c', '100.64.0.3');
  await second.stop();

  const third = await start(database, [...FREE_PORTS, ...pools, '--addresses-quarantine', '0']);
  t.is(await address(third, 'e'), '100.65.0.1', 'without a quarantine nothing rests');
  await third.stop();
});
