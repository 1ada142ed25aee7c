// Which of several routers carries a network, and what the others are told of it.

import test from 'ava';
import fc from 'fast-check';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import { Presence } from '../src/topology/presence.js';
import { Primaries } from '../src/topology/primaries.js';
import { startNetwork, type TestNetwork } from './support/network.js';

const NET = '10.9.0.0/24';

test('the first one carries it, another takes over, and keeps it', (t) => {
  const offline = new Set<number>();
  const kept: [string, number | undefined][] = [];
  const primaries = new Primaries((handle) => !offline.has(handle), (prefix, handle) => kept.push([prefix, handle]));
  const carried = (): number[] => [1, 2, 3].filter((handle) => primaries.routes(handle, [NET]).includes(NET));
  t.deepEqual([...approve(primaries, 1, [NET, '0.0.0.0/0'])], []);
  t.deepEqual(primaries.routes(1, [NET, '0.0.0.0/0']), [NET, '0.0.0.0/0']);
  t.deepEqual([...approve(primaries, 2, [NET])], []);
  t.deepEqual([...approve(primaries, 3, [NET, '::/0'])], []);
  t.deepEqual(primaries.routes(3, [NET, '::/0']), ['::/0'], 'who uses an exit has chosen it by name');
  t.deepEqual(carried(), [1]);
  offline.add(1);
  t.deepEqual([...primaries.review([1])].sort(), [1, 2]);
  t.deepEqual(carried(), [2]);
  offline.delete(1);
  t.deepEqual([...primaries.review([1])], [], 'coming back changes nothing');
  t.deepEqual(carried(), [2]);
  for (const handle of [1, 2, 3]) offline.add(handle);
  t.deepEqual([...primaries.review()], [], 'nobody is better');
  offline.delete(3);
  primaries.review([3]);
  t.deepEqual(carried(), [3]);
  t.deepEqual([...approve(primaries, 3, [])].sort(), [1], 'withdrawn: another one, though it is offline');
  t.deepEqual(carried(), [1]);
  approve(primaries, 1, []);
  t.deepEqual(carried(), [2]);
  approve(primaries, 2, []);
  t.deepEqual(carried(), []);
  t.deepEqual(kept, [[NET, 1], [NET, 2], [NET, 3], [NET, 1], [NET, undefined]]);
});

test('whatever happens, a network that somebody routes has one primary, online if one is, the same as long as it can be', (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('approve' as const), handle: fc.integer({ min: 1, max: 4 }), on: fc.boolean() }),
    fc.record({ kind: fc.constant('online' as const), handle: fc.integer({ min: 1, max: 4 }), on: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const online = new Set<number>();
      const approved = new Set<number>();
      let kept: number | undefined;
      let before: number | undefined;
      const primaries = new Primaries((handle) => online.has(handle), (_, handle) => (kept = handle));
      const holders = (): number[] => [...approved].filter((handle) => primaries.routes(handle, [NET]).length > 0);
      for (const { kind, handle, on } of steps) {
        const told = new Map([...approved].map((one) => [one, holders().includes(one)]));
        let changed: Set<number>;
        if (kind === 'approve') {
          if (on) approved.add(handle);
          else approved.delete(handle);
          changed = approve(primaries, handle, on ? [NET] : []);
          changed.add(handle);
        } else {
          if (on) online.add(handle);
          else online.delete(handle);
          changed = primaries.review([handle]);
        }
        const [primary, more] = holders();
        t.is(more, undefined);
        t.is(primary === undefined, approved.size === 0);
        if (primary !== undefined && !online.has(primary)) t.false([...approved].some((one) => online.has(one)));
        if (before !== undefined && approved.has(before) && online.has(before)) t.is(primary, before, 'it stays');
        for (const [one, held] of told) if (approved.has(one) && held !== (one === primary)) t.true(changed.has(one), 'and those concerned are named');
        t.is(kept, approved.size > 1 ? primary : undefined);
        const holding = primaries.holding('10.9.0.7').map(({ prefix, primary: first, routers }) => [prefix, first, [...routers].sort()]);
        t.deepEqual(holding, primary === undefined ? [] : [[NET, primary, [...approved].sort()]]);
        t.deepEqual(primaries.holding('10.9.1.7'), []);
        before = primary;
      }
    }),
  );
});

test('what was chosen before is chosen again, whoever is heard of first', (t) => {
  for (const order of [[1, 2], [2, 1]]) {
    const kept: unknown[] = [];
    const primaries = new Primaries(() => true, (prefix, handle) => kept.push([prefix, handle]));
    primaries.recall(NET, 2);
    primaries.approve(order.map((handle) => [handle, [NET]]));
    t.deepEqual([1, 2].map((handle) => primaries.routes(handle, [NET])), [[], [NET]]);
    t.deepEqual(kept, [], 'nothing new to remember');
  }
});

test('somebody is offline when the connection has been gone for a while, and nobody just after the start', async (t) => {
  const said: (number[] | undefined)[] = [];
  const presence = new Presence((handles) => said.push(handles && [...handles]), { offlineAfter: 40, settledAfter: 80 });
  t.teardown(() => presence.stop());
  const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  presence.take([{ handle: 1, connected: true }, { handle: 2, connected: true }]);
  t.true(presence.isOnline(9));
  await sleep(100);
  t.deepEqual([1, 2, 9].map((handle) => presence.isOnline(handle)), [true, true, false]);
  presence.take([{ handle: 1, connected: false }, { handle: 2, connected: false }]);
  presence.take([{ handle: 2, connected: true }]);
  t.true(presence.isOnline(1), 'for a moment');
  await sleep(80);
  t.deepEqual([1, 2].map((handle) => presence.isOnline(handle)), [false, true]);
  t.deepEqual(said, [[1, 2], undefined, [2], [1]]);
});

/** Approves one router; others that are concerned. */
function approve(primaries: Primaries, handle: number, routes: readonly string[]): Set<number> {
  const concerned = primaries.approve([[handle, routes]]);
  concerned.delete(handle);
  return concerned;
}

/** The routes of each peer as the others are told. */
const told = ({ sync }: TestNetwork, ...peers: { readonly handle: number }[]): string[][] =>
  peers.map(({ handle }) => (JSON.parse(sync.records.get(handle) ?? '{}') as { routes: string[] }).routes);

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 200 && !condition(); tries += 1) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('netmaps name one router of a network, and after a restart the same', async (t) => {
  const store = new MemoryStore();
  const network = await startNetwork(new MemoryJournal(store));
  const join = async (at: TestNetwork, hostname: string) => {
    const { id } = await at.register({ hostname, routes: [NET] });
    return at.peers.update(id, { approvedRoutes: [NET] });
  };
  const [a, b] = [await join(network, 'a'), await join(network, 'b')];
  t.deepEqual(told(network, a, b), [[NET], []]);
  const self = JSON.parse(network.sync.recipients.get(b.handle)!.self) as { routes: string[]; approvedRoutes: string[] };
  t.deepEqual([self.routes, self.approvedRoutes], [[], [NET]], 'the one that stands by knows what it may route');

  // Both come, and the first one goes for good.
  network.presence.take([a, b].map(({ handle }) => ({ handle, connected: true })));
  await network.peers.delete(a.id);
  t.deepEqual(told(network, b), [[NET]]);
  const c = await join(network, 'c');
  t.deepEqual(told(network, b, c), [[NET], []]);
  t.true(network.sync.batches.at(-1)!.puts.every(({ changedAt }) => changedAt === undefined), 'who is told of it again after a restart');
  // Written beside; no commit waits for it.
  await until(() => store.log.some(({ events }) => events.some(({ key }) => key.startsWith('route-primaries/'))));
  await network.replica.caughtUp();
  await network.stop();

  const after = await startNetwork(new MemoryJournal(store));
  const [laterB, laterC] = [after.peers.get(b.id), after.peers.get(c.id)];
  t.deepEqual(told(after, laterB, laterC), [[NET], []]);
  await after.stop();
});
