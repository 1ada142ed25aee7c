// ghostwire policy and ghostwire rules against a running server: what they print, and how they exit.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { commandLine, register } from './support/cli.js';
import { killAll, start, temporaryFolder } from './support/process.js';

test.after.always(killAll);

test.serial('policies and rules from the command line', async (t) => {
  t.timeout(300_000);
  const folder = temporaryFolder();
  const server = await start(join(folder, 'gw.db'));
  for (const hostname of ['a', 'b']) await register(server, hostname, { user: `${hostname}@x` });
  const { run, prints, json, fails } = commandLine(t, server);
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const open = file('open.hujson', '{"acls": [\n{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}\n');
  const web = file('web.hujson', '{"acls": [\n{"action": "accept", "src": ["*"], "dst": ["*:80"]}]}\n');
  const bad = file('bad.hujson', '{"acls": [{"action": "drop"}]}');

  await prints(/^policy is now at version 1\n$/, 'policy', 'set', open, '--expect', '0', '-m', 'start');
  await prints(/^valid: 2 rules\n$/, 'policy', 'check', web);
  const checked = await prints(/^valid: 2 rules\n2 peers concerned\n/, 'policy', 'check', web, '--against', 'live');
  t.regex(checked, /lose: 2 pairs of peers, 0 of which are cut off/);
  t.regex(checked, /^- a, b -> a, b: .*tcp,udp:0-79,81-65535/m);
  t.like(await json('policy', 'check', web, '--against', 'live'), { valid: true, difference: { pairs: { losing: 2 } } });
  await fails(1, /ERR_POLICY_LOSS: 2 pairs would lose something/, 'policy', 'check', web, '--fail-on-loss');
  await prints(/nobody gains or loses anything/, 'policy', 'check', open, '--fail-on-loss');
  await fails(1, /ERR_POLICY_INVALID: line 1/, 'policy', 'check', bad);
  await fails(1, /ERR_POLICY_INVALID: line 1/, 'policy', 'check', bad, '--against', 'live');
  await fails(2, /--against/, 'policy', 'check', web, '--against', 'yesterday');
  await fails(1, /ERR_POLICY_INVALID/, 'policy', 'set', bad);
  await fails(1, /ERR_POLICY_CHANGED: the policy is at version 1, not 0/, 'policy', 'set', web, '--expect', '0');
  await prints(/version 2/, 'policy', 'set', web, '--expect', '1');

  t.regex(await prints(/^VERSION +WRITTEN/, 'policy', 'history'), /\n2 .*\n1 .*start\n$/);
  t.like(await json<unknown[]>('policy', 'versions'), { length: 2, 0: { version: 2 } });
  await prints(/"\*:\*"/, 'policy', 'show', '1');
  await fails(1, /ERR_POLICY_VERSION/, 'policy', 'show', '8');
  await fails(2, /ERR_USAGE/, 'policy', 'show', 'x');
  t.regex(await prints(/^--- version 1\n/, 'policy', 'diff', '1'), /^- a, b -> a, b: /m);
  t.like(await json('policy', 'diff', '1', '2'), { access: { pairs: { losing: 2 } } });
  await prints(/^allowed by line 2 of the policy\n\nRULE/, 'policy', 'explain', '--src', 'a', '--dst', 'b', '--port', '80');
  await prints(/^denied: no rule matches\n$/, 'policy', 'explain', '--src', 'a', '--dst', 'b', '--proto', 'udp', '--port', '81');
  await fails(1, /ERR_PEER_NOT_FOUND/, 'policy', 'explain', '--src', 'a', '--dst', 'nobody');
  await fails(2, /--dst/, 'policy', 'explain', '--src', 'a');
  await prints(/version 3, with the text of version 1/, 'policy', 'rollback', '1', '--expect', '2');

  const added = ['rules', 'add', '--deny', '--src', 'a@x', '--dst', '*', '--proto', 'tcp', '--port', '22', '8000-8999', '--expires', '2h', '-m', 'no ssh'];
  await prints(/state: +active\n/, ...added);
  await prints(/^denied by native rule 1 .*\n\n.*\nrule 1 +deny +100 +decides +no ssh\nline 2 +allow +0 +shadowed/, 'policy', 'explain', '--src', 'a', '--dst', 'b', '--port', '22');
  await prints(/\n1 +active +100 +deny +a@x +\* +tcp:22,8000-8999 +2/, 'rules', 'list');
  const exported = await run('policy', 'export');
  t.is(exported.code, 0);
  t.is(exported.stderr, 'ghostwire: native rule 1 is not in the file: a policy file cannot deny\n');
  await fails(1, /ERR_POLICY_UNSUPPORTED: a file cannot express 1 native rules?/, 'policy', 'export', '--strict');
  await prints(/rule 1 is disabled/, 'rules', 'disable', '1');
  await prints(/rule 1 is active/, 'rules', 'enable', '1');
  t.like(await json('rules', 'show', '1'), { id: 1, action: 'deny' });
  const [{ id }] = await json<[{ id: string }]>('peers', 'list');
  await prints(/^FROM +TO +WHAT\n/, 'peers', 'filter', id);
  await prints(/removed rule 1/, 'rules', 'remove', '1');
  await fails(1, /ERR_RULE_NOT_FOUND/, 'rules', 'show', '1');
  await fails(2, /either --deny or --allow/, 'rules', 'add', '--src', '*', '--dst', '*');
  await fails(2, /ERR_USAGE/, 'rules', 'add', '--deny', '--src', '*', '--dst', '*', '--port', 'ssh');
  await fails(1, /ERR_RULE_INVALID/, 'rules', 'add', '--deny', '--src', 'group:x', '--dst', '*');
  const big = file('big.hujson', `{"acls": []} //${'x'.repeat(10_000_000)}`);
  await fails(1, /ERR_BODY_TOO_LARGE/, 'policy', 'set', big);
  t.like(await json('policy', 'get'), { version: 3 });

  // What a restart finds.
  await server.stop();
  const again = await start(join(folder, 'gw.db'));
  const later = commandLine(t, again, server.started.adminKey);
  t.like(await later.json<unknown[]>('policy', 'history'), { length: 3, 0: { version: 3, rollbackOf: 1 }, 2: { comment: 'start' } });
  await later.prints(/version 4/, 'policy', 'rollback', '2', '--expect', '3');
  await again.stop();
});
