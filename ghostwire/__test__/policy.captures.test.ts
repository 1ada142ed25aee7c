// Every capture of the real control plane against what we say of the same policy and tailnet.
//
// What is compared, machine by machine, of those that were captured:
// - rules: as a list, since the plane's order is that of first mention. Within a rule sources, destinations with their ports,
//   capability grants and their destinations are sets with repetition (the plane repeats a destination that two names stand for).
// - peers: as a set by name, since the plane's order is that of numbers which captures do not have; each with allowed IPs
//   and primary routes as sets.
// - ssh: as a list, since the first rule that fits decides; principals as a set with repetition.
// - capmap: the attributes that the policy names; what the plane gives to everybody has nothing to do with policies.
// - error: letter by letter.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { answerCase, parseCase, type Answer, type NodeAnswer } from '../src/policy/cases.js';
import { captures, caseOf, type Capture } from './support/captures.js';

/** Captures that cannot be matched; docs/policy.md says why. */
const UNMATCHABLE: readonly string[] = [];

const all = captures();
const withData = all === undefined ? test.skip : test;
if (all === undefined) process.stderr.write('SKIPPED: ../shared/data/captures is not there, so no capture was compared\n');

withData('every capture is matched', (t) => {
  const given = all ?? [];
  t.true(given.length > 0);
  for (const capture of given) {
    // As the command line does: from JSON and back.
    const answer = JSON.parse(JSON.stringify(answerCase(parseCase(JSON.stringify(caseOf(capture)))))) as Answer;
    const problems = compare(capture, answer);
    if (UNMATCHABLE.includes(capture.id)) t.not(problems.length, 0, `${capture.id} matches: take it off the list`);
    else t.deepEqual(problems, [], capture.id);
  }
});

withData('the comparison sees what is wrong', (t) => {
  const accepted = (all ?? []).find(({ nodes, code }) => code === 200 && Object.values(nodes ?? {}).some((node) => node.rules && node.ssh));
  if (accepted === undefined) throw new Error('no capture has both rules and ssh');
  const answered = (): { id: string; nodes: Record<string, NodeAnswer> } =>
    JSON.parse(JSON.stringify(answerCase(caseOf(accepted)))) as { id: string; nodes: Record<string, NodeAnswer> };
  t.deepEqual(compare(accepted, answered()), []);
  const name = Object.keys(accepted.nodes ?? {}).find((one) => accepted.nodes?.[one]?.rules && accepted.nodes[one]?.ssh) ?? '';
  const spoiled = (change: (node: NodeAnswer) => void): number => {
    const answer = answered();
    const node = answer.nodes[name];
    if (node !== undefined) change(node);
    return compare(accepted, answer).length;
  };
  t.is(spoiled((node) => node.rules?.[0]?.SrcIPs.push('10.9.9.9')), 1);
  t.is(spoiled((node) => node.rules?.pop()), 1);
  t.is(spoiled((node) => node.peers.pop()), 1);
  t.is(spoiled((node) => node.ssh?.[0]?.principals.pop()), 1);
  t.is(spoiled((node) => (node.self.capmap['x'] = null)), 1);
  t.is(compare(accepted, { id: accepted.id, error: 'no' }).length, 1);
});

withData('docs/policy.md lists the captures that cannot be matched', (t) => {
  const page = readFileSync(fileURLToPath(new URL('../../docs/policy.md', import.meta.url)), 'utf8');
  for (const id of UNMATCHABLE) t.true(page.includes(`\`${id}\``), id);
  t.true(page.includes(`${(all ?? []).length} captures`));
});

function compare(capture: Capture, answer: Answer): string[] {
  const want = capture.code === 200 ? undefined : capture.err;
  const got = 'error' in answer ? answer.error : undefined;
  if (want !== got) return [`error: ${String(want)} is ${String(got)}`];
  if (!('nodes' in answer)) return [];
  const named = attributesOf(capture.policy);
  return Object.entries(capture.nodes ?? {}).flatMap(([name, node]) => {
    const own = answer.nodes[name];
    if (own === undefined) return [`${name} is missing`];
    return (['rules', 'peers', 'ssh', 'capmap'] as const).flatMap((part) => {
      const [expected, actual] = [canonical(node, part, named), canonical(own, part, undefined)];
      return expected === actual ? [] : [`${name}: ${part}\n${expected}\n${actual}`];
    });
  });
}

/** @param named attributes to look at; undefined is all */
function canonical(node: NodeAnswer, part: 'rules' | 'peers' | 'ssh' | 'capmap', named: ReadonlySet<string> | undefined): string {
  if (part === 'rules')
    return text(
      (node.rules ?? []).map(({ SrcIPs, DstPorts, IPProto, CapGrant }) => ({
        SrcIPs: bag(SrcIPs),
        DstPorts: bag(DstPorts ?? []),
        IPProto,
        CapGrant: bag((CapGrant ?? []).map(({ Dsts, CapMap }) => ({ Dsts: bag(Dsts), CapMap }))),
      })),
    );
  if (part === 'peers')
    return text(
      bag(node.peers.map(({ name, allowed, primary }) => ({ name, allowed: bag(allowed), primary: primary === null ? null : bag(primary) }))),
    );
  if (part === 'ssh') return text((node.ssh ?? []).map((rule) => ({ ...rule, principals: bag(rule.principals) })));
  return text(bag(Object.keys(node.self.capmap).filter((name) => named === undefined || named.has(name))));
}

/** In the order of their JSON. */
const bag = (items: readonly unknown[]): unknown[] => [...items].sort((a, b) => (text(a) < text(b) ? -1 : 1));

/** JSON with keys in order. */
function text(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    part !== null && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** Attributes that a policy names, and those that come with them. */
function attributesOf(policy: string): Set<string> {
  const { nodeAttrs = [] } = JSON.parse(policy) as { nodeAttrs?: { attr?: string[] }[] };
  const names = nodeAttrs.flatMap(({ attr = [] }) => attr);
  if (names.includes('funnel'))
    names.push('https://tailscale.com/cap/funnel-ports?ports=443,8443,10000', 'https://tailscale.com/cap/warn-funnel-no-https');
  return new Set(names);
}
