// What policies mean in small tailnets: filters, peers, routes, SSH rules, attributes and tests, spelled out.

import test from 'ava';
import { answerCase, type Answer, type Case, type NodeAnswer } from '../src/policy/cases.js';
import { startNetwork } from './support/network.js';

const USERS: Case['topology']['users'] = [
  { id: 1, name: 'ann', email: 'ann@example.com' },
  { id: 2, name: 'bob', email: 'bob@other.org' },
  { id: 3, name: 'cleo', email: 'cleo@example.com' },
];

const TAGS = ['web', 'db', 'router', 'exit', 'left', 'right'].map((name) => `"tag:${name}": []`).join();
const DEFINED = `"tagOwners": {${TAGS}}, "groups": {"group:dev": ["ann@example.com", "bob@other.org"], "group:none": []}`;

type Node = Partial<Case['topology']['nodes'][string]>;

/** A tailnet of nodes with addresses 100.64.0.1, 100.64.0.2, … and fd7a:115c:a1e0::1, … in their order. */
function ask(policy: string, nodes: Readonly<Record<string, Node>>): Answer {
  const entries = Object.entries(nodes).map(([name, node], index): [string, Node] => [
    name,
    { id: index + 1, ipv4: `100.64.0.${index + 1}`, ipv6: `fd7a:115c:a1e0::${(index + 1).toString(16)}`, ...node },
  ]);
  return answerCase({ id: 'x', policy: `{${DEFINED}, ${policy}}`, topology: { users: USERS, nodes: Object.fromEntries(entries) } });
}

function answer(policy: string, nodes: Readonly<Record<string, Node>>): Record<string, NodeAnswer> {
  const given = ask(policy, nodes);
  if ('error' in given) throw new Error(given.error);
  return given.nodes;
}

const error = (policy: string, nodes: Readonly<Record<string, Node>>): string | undefined => {
  const given = ask(policy, nodes);
  return 'error' in given ? given.error : undefined;
};

const accept = (src: string[], dst: string[], more: object = {}): string =>
  JSON.stringify({ action: 'accept', src, dst, ...more });
const acls = (...entries: string[]): string => `"acls": [${entries.join()}]`;
const grants = (...entries: object[]): string => `"grants": ${JSON.stringify(entries)}`;
const sees = (node: NodeAnswer | undefined): string[] => (node?.peers ?? []).map(({ name }) => name).sort();
const routes = (node: NodeAnswer | undefined, peer: string): readonly string[] | undefined =>
  node?.peers.find(({ name }) => name === peer)?.allowed.slice(2);
const ports = (First: number, Last = First): { Ports: { First: number; Last: number } } => ({ Ports: { First, Last } });

const SMALL: Record<string, Node> = { laptop: { user: 'ann' }, phone: { user: 'ann' }, desk: { user: 'bob' }, web: { tags: ['tag:web'] } };

test('neither acls nor grants allows all, empty ones nothing', (t) => {
  for (const policy of ['"acls": null', '"hosts": {}']) {
    const { desk, web } = answer(policy, SMALL);
    t.deepEqual(desk?.rules, [
      {
        SrcIPs: ['100.115.94.0-100.127.255.255', '100.64.0.0-100.115.91.255', 'fd7a:115c:a1e0::/48'],
        DstPorts: [{ IP: '*', ...ports(0, 65_535) }],
      },
    ]);
    t.deepEqual(sees(web), ['desk', 'laptop', 'phone']);
  }
  for (const policy of ['"acls": []', '"grants": []']) {
    const { desk } = answer(policy, SMALL);
    t.is(desk?.rules, undefined);
    t.deepEqual(desk?.peers, []);
  }
});

test('groups, ports, protocols; peers see each other both ways', (t) => {
  const { web, laptop, desk } = answer(acls(accept(['group:dev'], ['tag:web:80,443']), accept(['bob@other.org'], ['tag:web:*'], { proto: 'icmp' })), SMALL);
  t.deepEqual(web?.rules, [
    {
      SrcIPs: ['100.64.0.1', '100.64.0.2', '100.64.0.3', 'fd7a:115c:a1e0::1', 'fd7a:115c:a1e0::2', 'fd7a:115c:a1e0::3'],
      DstPorts: ['100.64.0.4', 'fd7a:115c:a1e0::4'].flatMap((IP) => [
        { IP, ...ports(80) },
        { IP, ...ports(443) },
      ]),
    },
    {
      SrcIPs: ['100.64.0.3', 'fd7a:115c:a1e0::3'],
      DstPorts: ['100.64.0.4', 'fd7a:115c:a1e0::4'].map((IP) => ({ IP, ...ports(0, 65_535) })),
      IPProto: [1],
    },
  ]);
  t.is(laptop?.rules, undefined, 'a filter is only for those who are reached');
  t.deepEqual([sees(web), sees(laptop), sees(desk)], [['desk', 'laptop', 'phone'], ['web'], ['web']]);
});

test('rules of the same sources and protocol are one, where the first of them stands', (t) => {
  const { web } = answer(
    acls(accept(['ann@example.com'], ['bob@other.org:22']), accept(['bob@other.org'], ['tag:web:80']), accept(['ann@example.com'], ['tag:web:443'])),
    SMALL,
  );
  t.deepEqual(web?.rules?.map(({ DstPorts }) => DstPorts?.[0]?.Ports.First), [443, 80], "ann's came first, for another machine");
});

test('a tagged machine is nobody\'s', (t) => {
  const nodes = { ...SMALL, web: { user: 'ann', tags: ['tag:web'] } };
  t.deepEqual(sees(answer(acls(accept(['ann@example.com'], ['bob@other.org:*'])), nodes)['desk']), ['laptop', 'phone']);
  t.deepEqual(sees(answer(acls(accept(['autogroup:tagged'], ['bob@other.org:*'])), nodes)['desk']), ['web']);
});

test('autogroup:self is between machines of one owner', (t) => {
  const { laptop, desk, web } = answer(acls(accept(['*'], ['autogroup:self:22'])), SMALL);
  t.deepEqual(laptop?.rules, [
    {
      SrcIPs: ['100.64.0.1', '100.64.0.2', 'fd7a:115c:a1e0::1', 'fd7a:115c:a1e0::2'],
      DstPorts: ['100.64.0.1', 'fd7a:115c:a1e0::1'].map((IP) => ({ IP, ...ports(22) })),
    },
  ]);
  t.deepEqual([sees(laptop), sees(desk), sees(web)], [['phone'], [], []]);
});

test('an address is that address only', (t) => {
  const { web } = answer(acls(accept(['100.64.0.1'], ['100.64.0.4:22'])), SMALL);
  t.deepEqual(web?.rules, [{ SrcIPs: ['100.64.0.1'], DstPorts: [{ IP: '100.64.0.4', ...ports(22) }] }]);
});

const ROUTED: Record<string, Node> = {
  laptop: { user: 'ann' },
  router: { tags: ['tag:router'], routable_ips: ['10.1.0.0/16', '10.2.0.0/16'], approved_routes: ['10.1.0.0/16'] },
  web: { tags: ['tag:web'] },
};

test('routes: delivered by approved subnet, shown to those who may use them', (t) => {
  const { laptop, router, web } = answer(acls(accept(['ann@example.com'], ['10.0.0.0/8:80'])), ROUTED);
  t.deepEqual(router?.rules?.[0]?.DstPorts, [{ IP: '10.0.0.0/8', ...ports(80) }]);
  t.deepEqual(laptop?.peers, [
    {
      name: 'router',
      allowed: ['100.64.0.2/32', 'fd7a:115c:a1e0::2/128', '10.1.0.0/16'],
      primary: ['10.1.0.0/16'],
    },
  ]);
  t.deepEqual(sees(web), []);
  t.deepEqual(sees(answer(acls(accept(['ann@example.com'], ['10.2.0.0/16:80'])), ROUTED)['laptop']), [], 'not approved');
  const reverse = answer(acls(accept(['10.1.0.0/16'], ['ann@example.com:*'])), ROUTED);
  t.deepEqual(routes(reverse['laptop'], 'router'), ['10.1.0.0/16'], 'who is reached from a subnet must know the way back');
});

test('* as a source has what routers carry', (t) => {
  const { web } = answer(acls(accept(['*'], ['tag:web:80'])), ROUTED);
  t.deepEqual(web?.rules?.[0]?.SrcIPs, ['10.1.0.0/16', '100.115.94.0-100.127.255.255', '100.64.0.0-100.115.91.255', 'fd7a:115c:a1e0::/48']);
  t.deepEqual(answer(acls(accept(['autogroup:danger-all'], ['tag:web:80'])), ROUTED)['web']?.rules?.[0]?.SrcIPs, ['*']);
});

test('of several routers one is primary: who joined first', (t) => {
  const route = { routable_ips: ['10.1.0.0/16'], approved_routes: ['10.1.0.0/16'], tags: ['tag:router'] };
  const { laptop, first, second } = answer(acls(accept(['ann@example.com'], ['10.1.0.0/16:*'])), { laptop: { user: 'ann' }, first: route, second: route });
  t.deepEqual([routes(laptop, 'first'), routes(laptop, 'second')], [['10.1.0.0/16'], []]);
  t.is(first?.rules?.length, 1);
  t.deepEqual(second?.rules, first?.rules, 'the other one is ready to take over');
});

test('exit nodes: approved by exitNode, used through autogroup:internet', (t) => {
  const nodes: Record<string, Node> = { laptop: { user: 'ann' }, gate: { tags: ['tag:exit'], routable_ips: ['0.0.0.0/0', '::/0'] } };
  const internet = acls(accept(['ann@example.com'], ['autogroup:internet:*']));
  const approved = answer(`${internet}, "autoApprovers": {"exitNode": ["tag:exit"]}`, nodes);
  t.deepEqual(routes(approved['laptop'], 'gate'), ['0.0.0.0/0', '::/0']);
  t.is(approved['laptop']?.peers[0]?.primary, null, 'nobody is primary for the internet');
  t.deepEqual(approved['gate']?.rules?.[0]?.DstPorts?.length, 7);
  const byRoutes = answer(`${internet}, "autoApprovers": {"routes": {"0.0.0.0/0": ["tag:exit"], "::/0": ["tag:exit"]}}`, nodes);
  t.deepEqual(byRoutes['laptop']?.peers, [], 'a default route under routes approves nobody');
});

test('autoApprovers: a prefix and what is within it, for users, groups and tags', (t) => {
  const offered = { routable_ips: ['10.1.0.0/16'] };
  const route = (approver: string, node: Node): readonly string[] | undefined =>
    routes(
      answer(`"acls": null, "autoApprovers": {"routes": {"10.0.0.0/8": ["${approver}"]}}`, { laptop: { user: 'cleo' }, router: { ...offered, ...node } })['laptop'],
      'router',
    );
  t.deepEqual(route('tag:router', { tags: ['tag:router'] }), ['10.1.0.0/16']);
  t.deepEqual(route('ann@example.com', { user: 'ann' }), ['10.1.0.0/16']);
  t.deepEqual(route('group:dev', { user: 'bob' }), ['10.1.0.0/16']);
  t.deepEqual(route('group:dev', { user: 'cleo' }), []);
  t.deepEqual(route('ann@example.com', { user: 'ann', tags: ['tag:web'] }), [], "a tagged machine is not its user's");
  t.deepEqual(route('tag:router', { tags: ['tag:router'], routable_ips: ['192.168.0.0/16'] }), []);
});

test('via: through the routers with the tag, each sender by its own', (t) => {
  const router = (tag: string): Node => ({ tags: [tag], routable_ips: ['10.1.0.0/16'], approved_routes: ['10.1.0.0/16'] });
  const nodes: Record<string, Node> = { ann: { user: 'ann' }, bob: { user: 'bob' }, left: router('tag:left'), right: router('tag:right') };
  const { ann, bob, left, right } = answer(
    grants(
      { src: ['ann@example.com'], dst: ['10.0.0.0/8'], ip: ['tcp:80'], via: ['tag:left'] },
      { src: ['bob@other.org'], dst: ['10.1.0.0/16'], ip: ['*'], via: ['tag:right'] },
    ),
    nodes,
  );
  t.deepEqual([sees(ann), sees(bob)], [['left'], ['right']]);
  t.deepEqual([routes(ann, 'left'), routes(bob, 'right')], [['10.1.0.0/16'], ['10.1.0.0/16']]);
  t.deepEqual(left?.rules, [
    { SrcIPs: ['100.64.0.1', 'fd7a:115c:a1e0::1'], DstPorts: [{ IP: '10.0.0.0/8', ...ports(80) }], IPProto: [6] },
  ]);
  t.is(right?.rules?.length, 1);
});

test('capabilities: told to destinations, and back to callers where they may call back', (t) => {
  const { web, laptop } = answer(grants({ src: ['ann@example.com'], dst: ['tag:web'], app: { 'tailscale.com/cap/drive': [{ access: 'rw' }] } }), SMALL);
  t.deepEqual(web?.rules, [
    {
      SrcIPs: ['100.64.0.1', '100.64.0.2', 'fd7a:115c:a1e0::1', 'fd7a:115c:a1e0::2'],
      CapGrant: [{ Dsts: ['100.64.0.4/32', 'fd7a:115c:a1e0::4/128'], CapMap: { 'tailscale.com/cap/drive': [{ access: 'rw' }] } }],
    },
  ]);
  t.deepEqual(laptop?.rules, [
    {
      SrcIPs: ['100.64.0.4', 'fd7a:115c:a1e0::4'],
      CapGrant: [{ Dsts: ['100.64.0.1/32', 'fd7a:115c:a1e0::1/128'], CapMap: { 'tailscale.com/cap/drive-sharer': null } }],
    },
  ]);
});

test('ssh: users, checks first, self, names from e-mail addresses', (t) => {
  const ssh = (...entries: object[]): string => `"ssh": ${JSON.stringify(entries)}`;
  const { web, laptop } = answer(
    ssh(
      { action: 'accept', src: ['group:dev'], dst: ['tag:web'], users: ['autogroup:nonroot', 'deploy'] },
      { action: 'check', src: ['ann@example.com'], dst: ['tag:web'], users: ['root'], acceptEnv: ['TERM'] },
      { action: 'accept', src: ['autogroup:member'], dst: ['autogroup:self'], users: ['localpart:*@example.com'] },
    ),
    SMALL,
  );
  t.like(web?.ssh?.[0], { sshUsers: { root: 'root' }, acceptEnv: ['TERM'] });
  t.true('holdAndDelegate' in (web?.ssh?.[0]?.action ?? {}));
  t.deepEqual({ ...web?.ssh?.[1]?.sshUsers }, { '*': '=', deploy: 'deploy', root: '' });
  t.is(web?.ssh?.[1]?.principals.length, 6);
  t.deepEqual(laptop?.ssh?.map(({ sshUsers }) => ({ ...sshUsers })), [{ root: '' }, { ann: 'ann' }]);
});

test('nodeAttrs: by target, with what comes along, and values', (t) => {
  const { laptop, web } = answer(
    `"nodeAttrs": [{"target": ["ann@example.com"], "attr": ["funnel"]}, {"target": ["*"], "attr": ["x"], "app": {"a.b/c": [1]}}]`,
    SMALL,
  );
  t.deepEqual({ ...web?.self.capmap }, { 'a.b/c': [1], x: null });
  t.true('https://tailscale.com/cap/funnel-ports?ports=443,8443,10000' in (laptop?.self.capmap ?? {}));
});

test('tests: hold or reject the policy', (t) => {
  const policy = (...tests: object[]): string => `${acls(accept(['group:dev'], ['tag:web:80,443']), accept(['*'], ['autogroup:self:22']))}, "tests": ${JSON.stringify(tests)}`;
  const holds = (one: object): boolean => error(policy(one), SMALL) === undefined;
  t.true(holds({ src: 'group:dev', accept: ['tag:web:80', '100.64.0.4:443'], deny: ['tag:web:22', 'bob@other.org:80'] }));
  t.true(holds({ src: 'ann@example.com', accept: ['autogroup:self:22'], deny: ['bob@other.org:22'] }));
  t.true(holds({ src: '100.64.0.1', proto: 'tcp', accept: ['tag:web:80'] }));
  for (const one of [
    { src: 'group:dev', deny: ['tag:web:80'] },
    { src: 'autogroup:member', proto: 'sctp', accept: ['tag:web:80'] },
    { src: 'group:dev', accept: ['tag:web:80-443'] },
    { src: 'group:dev', accept: ['tag:nope:80'] },
    { src: 'group:dev', accept: ['10.0.0.0/8:80'] },
    { src: 'group:none', accept: ['tag:web:80'] },
    { src: 'zoe@example.com', accept: ['tag:web:80'] },
    { src: 'group:dev', proto: 'icmp', accept: ['tag:web:80'] },
    { src: 'group:dev' },
    { accept: ['tag:web:80'] },
  ])
    t.is(error(policy(one), SMALL), 'test(s) failed', JSON.stringify(one));
});

test('sshTests: hold or reject the policy', (t) => {
  const policy = (one: object): string =>
    `"ssh": [{"action": "check", "src": ["ann@example.com"], "dst": ["tag:web"], "users": ["root"]}], "sshTests": [${JSON.stringify(one)}]`;
  const holds = (one: object): boolean => error(policy(one), SMALL) === undefined;
  t.true(holds({ src: 'ann@example.com', dst: ['tag:web'], accept: ['root'], check: ['root'], deny: ['mallory'] }));
  t.true(holds({ src: 'bob@other.org', dst: ['tag:web'], deny: ['root'] }));
  t.false(holds({ src: 'bob@other.org', dst: ['tag:web'], accept: ['root'] }));
  t.false(holds({ src: 'ann@example.com', dst: ['tag:web'] }));
  t.false(holds({ src: 'ann@example.com', dst: ['tag:db'], deny: ['root'] }), 'stands for no machine');
});

test('routes that autoApprovers names are approved when a peer registers', async (t) => {
  const { policies, register, stop } = await startNetwork();
  await policies.put('{"tagOwners": {"tag:r": []}, "autoApprovers": {"routes": {"10.0.0.0/8": ["ann@example.com"]}}}', undefined);
  const peer = await register({ hostname: 'r', user: 'ann@example.com', routes: ['10.1.0.0/16', '192.168.0.0/16'] });
  t.deepEqual(peer.record.approvedRoutes, ['10.1.0.0/16']);
  await stop();
});
