// ghostwire policy compile: lines in, lines out.

import test from 'ava';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { launch, temporaryFolder, type Finished } from './support/process.js';

const topology = {
  users: [{ id: 1, name: 'ann', email: 'ann@example.com' }],
  nodes: { a: { user: 'ann', ipv4: '100.64.0.1', tags: [] }, b: { ipv4: '100.64.0.2', tags: ['tag:b'] } },
};
const policy = '// comments too\n{"tagOwners": {"tag:b": []}, "acls": [{"action": "accept", "src": ["ann@example.com"], "dst": ["tag:b:22"]}]}';
const good = JSON.stringify({ id: 'good', policy, topology, tailnet: {} });
const bad = JSON.stringify({ id: 'bad', policy: '{"acls": [{"action": "accept", "src": ["tag:x"], "dst": []}]}', topology });

const ANSWERS = [
  {
    id: 'good',
    nodes: {
      a: { peers: [{ name: 'b', allowed: ['100.64.0.2/32'], primary: null }], self: { capmap: {} } },
      b: {
        rules: [{ SrcIPs: ['100.64.0.1'], DstPorts: [{ IP: '100.64.0.2', Ports: { First: 22, Last: 22 } }] }],
        peers: [{ name: 'a', allowed: ['100.64.0.1/32'], primary: null }],
        self: { capmap: {} },
      },
    },
  },
  { id: 'bad', error: 'src=tag not found: "tag:x"' },
];

async function compile(file: string, input?: string): Promise<Finished> {
  const { child, finished } = launch(['policy', 'compile', '--cases', file]);
  child.stdin?.end(input ?? '');
  return finished;
}

const parsed = ({ stdout }: Finished): unknown[] => stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as unknown);

test('a file, a gzip file, standard input', async (t) => {
  t.timeout(120_000);
  const folder = temporaryFolder();
  const [plain, gzip] = [join(folder, 'cases.jsonl'), join(folder, 'cases.jsonl.gz')];
  writeFileSync(plain, `${good}\n\n${bad}\n`);
  writeFileSync(gzip, gzipSync(`${good}\r\n${bad}`));
  for (const finished of [await compile(plain), await compile(gzip), await compile('-', `${good}\n${bad}`)]) {
    t.is(finished.code, 0, finished.stderr);
    t.deepEqual(parsed(finished), ANSWERS);
  }
});

test('what is no case is answered as such, and said at the end with its line', async (t) => {
  t.timeout(120_000);
  const broken = await compile('-', `${good}\n{"id": "x"}\n${bad}\n`);
  t.is(broken.code, 1);
  t.like(parsed(broken), { 0: ANSWERS[0], 1: { id: 'x' }, 2: ANSWERS[1] });
  t.regex((parsed(broken)[1] as { error: string }).error, /expected form/);
  t.regex(broken.stderr, /^ghostwire: ERR_VALIDATION: 1 lines are no cases; the first: -: line 2: /);
  t.regex((await compile('/nowhere/at/all')).stderr, /ERR_USAGE: cannot read \/nowhere/);
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'x.gz'), 'plain');
  t.regex((await compile(join(folder, 'x.gz'))).stderr, /ERR_USAGE: cannot read .*x\.gz/);
});
