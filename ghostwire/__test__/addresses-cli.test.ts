// Addresses by the command line, of a coordinator that is ended and started again.

import { join } from 'node:path';
import test from 'ava';
import type { PeerBody, WhoHasBody } from '../src/api/schemas.js';
import { wireguardKey } from './support/network.js';
import { FREE_PORTS, killAll, runHere, start, temporaryFolder, type Finished } from './support/process.js';

test.after.always(killAll);

test.serial('pools, an address of choice, who has one, and what rests over a restart', async (t) => {
  t.timeout(120_000);
  const database = join(temporaryFolder(), 'gw.db');
  const pools = ['--addresses-pools', '["100.64.0.0/29", "100.65.0.0/29"]'];
  const first = await start(database, [...FREE_PORTS, ...pools]);
  const { adminKey, preauthKey } = first.started as { adminKey: string; preauthKey: string };
  let environment = { GHOSTWIRE_URL: first.started.api, GHOSTWIRE_ADMIN_KEY: adminKey };
  const run = (...args: string[]): Promise<Finished> => runHere(args, environment);
  const prints = async (expected: RegExp, ...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(...args);
    t.is(code, 0, stderr);
    t.regex(stdout, expected);
    return stdout;
  };
  const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await prints(/^[[{]/, ...args, '--json')) as T;
  const fails = async (expected: RegExp, ...args: string[]): Promise<void> => {
    const { code, stderr } = await run(...args);
    t.is(code, 1, stderr);
    t.regex(stderr, expected);
  };
  const register = async (hostname: string, key = preauthKey): Promise<PeerBody> => {
    const body = JSON.stringify({ preauthKey: key, wireguardKey: wireguardKey(), hostname });
    const response = await fetch(`${environment.GHOSTWIRE_URL}/v1/peers/register`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    const answer = (await response.json()) as { peer: PeerBody };
    t.is(response.status, 201, JSON.stringify(answer));
    return answer.peer;
  };

  for (let count = 1; count <= 6; count += 1) t.is((await register(`a${count}`)).addresses[0], `100.64.0.${count}`);
  const overflow = await register('b');
  t.is(overflow.addresses[0], '100.65.0.1', 'the next pool');

  await prints(/^b has 100\.90\.1\.2 and fd7a:115c:a1e0::645a:102\n$/, 'peers', 'set-address', 'b', '100.90.1.2');
  t.deepEqual((await json<PeerBody>('peers', 'set-address', overflow.id, '100.90.1.3')).addresses[0], '100.90.1.3');
  await fails(/ERR_ADDRESS_TAKEN: ipv4: 100\.64\.0\.1 belongs to peer a1/, 'peers', 'set-address', 'b', '100.64.0.1');
  await fails(/ERR_ROUTE: --advertise-routes: "::ffff:a00:0\/104" is IPv4-mapped IPv6; write 10\.0\.0\.0\/8/, 'set', '--advertise-routes', '10.9.0.0/24,::ffff:a00:0/104');
  await fails(/ERR_ADDRESS: ipv4: "100\.100\.100\.100" is reserved/, 'peers', 'set-address', 'b', '100.100.100.100');
  await fails(/ERR_PEER_NOT_FOUND/, 'peers', 'set-address', 'nobody', '100.64.0.1');

  const key = await json<{ id: string; key: string; ipv4: string }>('preauth-key', 'create', '--address', '100.90.1.9');
  t.is(key.ipv4, '100.90.1.9');
  await prints(new RegExp(`ADDRESS.*\n${key.id} .* 100\\.90\\.1\\.9`), 'preauth-key', 'list');
  await fails(/ERR_VALIDATION/, 'preauth-key', 'create', '--reusable', '--address', '100.90.1.10');

  await prints(new RegExp(`^address: +100\\.90\\.1\\.3\nstate: +held\npeer: +b \\(${overflow.id}\\)\n$`), 'whois', '100.90.1.3');
  await prints(/state: +resting\nrestsUntil: 20.*Z\npool: +100\.65\.0\.0\/29/, 'whois', '100.65.0.1');
  t.like(await json<WhoHasBody>('whois', '100.90.1.9'), { state: 'kept', preauthKey: key.id });
  await fails(/ERR_VALIDATION: address: "b" is not an IPv4 or IPv6 address/, 'whois', 'b');

  await json('peers', 'delete', (await json<PeerBody[]>('peers', 'list')).find(({ name }) => name === 'a3')!.id);
  first.child.kill('SIGKILL');
  await first.finished;
  const second = await start(database, [...FREE_PORTS, ...pools]);
  environment = { ...environment, GHOSTWIRE_URL: second.started.api };
  await prints(/state: +resting/, 'whois', '100.64.0.3');
  t.is((await register('c')).addresses[0], '100.65.0.2', 'what rested before rests on');
  t.is((await register('d', key.key)).addresses[0], '100.90.1.9');
  await prints(/has 100\.64\.0\.3 and/, 'peers', 'set-address', 'c', '100.64.0.3');
  await second.stop();

  const third = await start(database, [...FREE_PORTS, ...pools, '--addresses-quarantine', '0']);
  environment = { ...environment, GHOSTWIRE_URL: third.started.api };
  t.is((await register('e')).addresses[0], '100.65.0.1', 'without a quarantine nothing rests');
  await third.stop();
});
