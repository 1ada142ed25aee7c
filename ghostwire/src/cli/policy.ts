// ghostwire policy: get, set, check, compile.

import type { Command } from 'commander';
import type { Static } from 'typebox';
import type { Policy } from '../api/schemas.js';
import { compilePolicy } from '../policy/compile.js';
import { readPolicy } from '../policy/document.js';
import { readInput } from './api.js';
import { compileCommand } from './compile.js';
import { print } from './output.js';
import { remote } from './remote.js';

export function policyCommands(program: Command): void {
  const policy = program.command('policy').description('who may reach whom');
  remote(policy.command('get').description('print the policy in force'), async ({ api, json }) => {
    const current = await api.request<Static<typeof Policy>>('GET', '/v1/policy');
    print(json, current, current.text ?? '// No policy is set: everybody may reach everybody.');
  });
  remote<{ readonly ifRevision?: string }>(
    policy
      .command('set')
      .description('put a policy in force')
      .argument('<file>', 'HuJSON; - reads standard input')
      .option('--if-revision <n>', 'only if this revision is still current; 0 is none'),
    async ({ api, json, args, options }) => {
      const headers = options.ifRevision === undefined ? {} : { 'if-match': options.ifRevision };
      const written = await api.request<Static<typeof Policy>>('PUT', '/v1/policy', { hujson: await readInput(args[0] ?? '-'), headers });
      print(json, written, `policy is now at revision ${written.revision}`);
    },
  );
  const check = policy
    .command('check')
    .description('whether a file is a valid policy; needs no server')
    .argument('<file>', 'HuJSON; - reads standard input')
    .option('--json', 'print JSON');
  check.action(async () => {
    const { rules } = compilePolicy(readPolicy(await readInput(check.args[0] ?? '-')));
    print(check.opts<{ json?: boolean }>().json ?? false, { valid: true, rules: rules.length }, `valid: ${rules.length} rules`);
  });
  compileCommand(policy);
}
