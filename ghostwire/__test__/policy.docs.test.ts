// docs/policy.md: its examples are policies, and what it says is rejected is rejected with those words.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { answerCase, parseCase } from '../src/policy/cases.js';
import { compilePolicy } from '../src/policy/compile.js';
import { readPolicy } from '../src/policy/document.js';

const page = readFileSync(fileURLToPath(new URL('../../docs/policy.md', import.meta.url)), 'utf8');
const blocks = (language: string): string[] => [...page.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map(([, text = '']) => text);

test('every example is a policy', (t) => {
  const examples = blocks('hujson');
  t.true(examples.length >= 8);
  for (const example of examples) t.notThrows(() => compilePolicy(readPolicy(example)), example);
});

test('the example of a case is one', (t) => {
  const [example = ''] = blocks('json');
  t.deepEqual(answerCase(parseCase(example.replaceAll('\n', ' '))), {
    id: '1',
    nodes: {
      a: {
        rules: [
          {
            SrcIPs: ['100.115.94.0-100.127.255.255', '100.64.0.0-100.115.91.255', 'fd7a:115c:a1e0::/48'],
            DstPorts: [{ IP: '*', Ports: { First: 0, Last: 65_535 } }],
          },
        ],
        peers: [],
        self: { capmap: {} },
      },
    },
  });
});

test('the page names every section', (t) => {
  for (const name of ['groups', 'hosts', 'tagOwners', 'acls', 'grants', 'autoApprovers', 'ssh', 'nodeAttrs', 'tests', 'sshTests'])
    t.regex(page, new RegExp(`^\\| \\[?.*\`${name}\``, 'm'), name);
});
