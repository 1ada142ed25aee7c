// ghostwire policy: the file in force, its versions, and what it means.

import { Option, type Command } from 'commander';
import type { Static } from 'typebox';
import type { AccessDifference, Explanation, Policy, PolicyCheck, PolicyDiff, PolicyExport, PolicyVersion, PolicyVersionList } from '../api/schemas.js';
import { GhostwireError } from '../errors.js';
import { compilePolicy } from '../policy/compile.js';
import { readPolicy } from '../policy/document.js';
import { readInput } from './api.js';
import { compileCommand } from './compile.js';
import { differenceText } from './difference.js';
import { print, table } from './output.js';
import { remote, session, withServer } from './remote.js';

interface WriteOptions {
  readonly expect?: string;
  readonly comment?: string;
}

const ifMatch = ({ expect }: WriteOptions): Record<string, string> =>
  expect === undefined ? {} : { 'if-match': String(wholeNumber(expect, '--expect')) };

const EXPECT = ['--expect <version>', 'only if this version is still in force; 0 is none'] as const;
const COMMENT = ['-m, --comment <text>', 'why; kept with the version'] as const;

export function policyCommands(program: Command): void {
  const policy = program.command('policy').description('who may reach whom');
  remote(policy.command('get').description('print the policy in force'), async ({ api, json }) => {
    const current = await api.request<Static<typeof Policy>>('GET', '/v1/policy');
    print(json, current, current.text ?? '// No policy is set: everybody may reach everybody.');
  });
  remote<WriteOptions>(
    policy.command('set').description('put a policy in force').argument('<file>', 'HuJSON; - reads standard input').option(...EXPECT).option(...COMMENT),
    async ({ api, json, args, options }) => {
      const query = options.comment === undefined ? '' : `?comment=${encodeURIComponent(options.comment)}`;
      const hujson = await readInput(args[0] ?? '-');
      const written = await api.request<Static<typeof Policy>>('PUT', `/v1/policy${query}`, { hujson, headers: ifMatch(options) });
      print(json, written, `policy is now at version ${written.version}`);
    },
  );
  checkCommand(policy);
  versionCommands(policy);
  compileCommand(policy);
  remote<QuestionOptions>(questionOptions(policy.command('explain').description('why one end may reach the other or not')), async ({ api, json, options }) => {
    const explanation = await api.request<Static<typeof Explanation>>('POST', '/v1/policy/explain', { json: questionOf(options) });
    print(json, explanation, explanationText(explanation));
  });
  remote<{ readonly strict?: boolean }>(
    policy
      .command('export')
      .description('all that is in force as one file; what a file cannot say is told on standard error')
      .option('--strict', 'fail when a file cannot say it all'),
    async ({ api, json, options }) => {
      const exported = await api.request<Static<typeof PolicyExport>>('GET', '/v1/policy/export');
      print(json, exported, exported.text);
      for (const { id, reason } of exported.omitted) process.stderr.write(`ghostwire: native rule ${id} is not in the file: ${reason}\n`);
      if (options.strict === true && !exported.complete)
        throw new GhostwireError('ERR_POLICY_UNSUPPORTED', `a file cannot express ${exported.omitted.length} native rules`);
    },
  );
}

interface CheckOptions {
  readonly against?: string;
  readonly failOnLoss?: boolean;
  readonly json?: boolean;
}

function checkCommand(policy: Command): void {
  const check = withServer(
    policy
      .command('check')
      .description('whether a file is a valid policy; needs no server, unless it is compared with what is in force')
      .argument('<file>', 'HuJSON; - reads standard input')
      .addOption(new Option('--against <what>', 'also tell who would gain and lose what').choices(['live']))
      .option('--fail-on-loss', 'exit with 1 when anybody would lose something; implies --against live'),
  );
  check.action(async () => {
    const { against, failOnLoss = false, json = false } = check.opts<CheckOptions>();
    const text = await readInput(check.args[0] ?? '-');
    if (against === undefined && !failOnLoss) {
      const { rules } = compilePolicy(readPolicy(text));
      print(json, { valid: true, rules: rules.length }, `valid: ${rules.length} rules`);
      return;
    }
    const { api } = session<CheckOptions>(check);
    const { rules, difference } = await api.request<Static<typeof PolicyCheck>>('POST', '/v1/policy/check?against=live', { hujson: text });
    if (difference === undefined) throw new GhostwireError('ERR_UNREACHABLE', 'the server did not compare the policy');
    print(json, { valid: true, rules, difference }, `valid: ${rules} rules\n${differenceText(difference)}`);
    const lost = difference.pairs.losing + difference.behind.losing;
    if (failOnLoss && lost > 0) throw new GhostwireError('ERR_POLICY_LOSS', `${lost} pairs would lose something`);
  });
}

function versionCommands(policy: Command): void {
  remote(policy.command('history').alias('versions').description('the versions that are kept, the newest first'), async ({ api, json }) => {
    const { versions } = await api.request<Static<typeof PolicyVersionList>>('GET', '/v1/policy/versions');
    const rows = versions.map(({ version, writtenAt, author, size, comment }) => [
      String(version),
      writtenAt ?? '',
      author ?? '',
      String(size),
      comment,
    ]);
    print(json, versions, table(['VERSION', 'WRITTEN', 'AUTHOR', 'SIZE', 'COMMENT'], rows));
  });
  remote(policy.command('show').description('print one version').argument('<version>'), async ({ api, json, args }) => {
    const version = wholeNumber(args[0] ?? '', '<version>');
    const shown = await api.request<Static<typeof PolicyVersion>>('GET', `/v1/policy/versions/${version}`);
    print(json, shown, shown.text);
  });
  remote(
    policy
      .command('diff')
      .description('what differs between two versions: the text, and who may do what')
      .argument('<from>', 'a version; 0 is no policy')
      .argument('[to]', 'a version; what is in force when left out', 'live'),
    async ({ api, json, args }) => {
      const [from = '', to = 'live'] = args;
      const query = new URLSearchParams({ from, to });
      const diff = await api.request<Static<typeof PolicyDiff>>('GET', `/v1/policy/diff?${query.toString()}`);
      print(json, diff, diffText(diff));
    },
  );
  remote<WriteOptions>(
    policy.command('rollback').description('put an earlier version in force again').argument('<version>').option(...EXPECT).option(...COMMENT),
    async ({ api, json, args, options }) => {
      const body = { version: wholeNumber(args[0] ?? '', '<version>'), comment: options.comment };
      const written = await api.request<Static<typeof Policy>>('POST', '/v1/policy/rollback', { json: body, headers: ifMatch(options) });
      print(json, written, `policy is now at version ${written.version}, with the text of version ${body.version}`);
    },
  );
}

function diffText({ text, access }: Static<typeof PolicyDiff>): string {
  const lines = text === null ? 'the texts have too little in common to show line by line' : text === '' ? 'the texts are the same' : text.trimEnd();
  return `${lines}\n\n${differenceText(access satisfies Static<typeof AccessDifference>)}`;
}

interface QuestionOptions {
  readonly src: string;
  readonly dst: string;
  readonly proto: string;
  readonly port: string;
}

function questionOptions(command: Command): Command {
  return command
    .requiredOption('--src <end>', "a peer's name, id or address, or any other address")
    .requiredOption('--dst <end>', 'as --src')
    .option('--proto <protocol>', 'tcp, udp, icmp or an IANA number', 'tcp')
    .option('--port <port>', 'destination port; 0 for protocols without ports', '0');
}

function questionOf({ src, dst, proto, port }: QuestionOptions): object {
  return { src, dst, proto: /^\d+$/.test(proto) ? Number(proto) : proto, port: wholeNumber(port, '--port') };
}

function explanationText({ reason, routed, matching, matches }: Static<typeof Explanation>): string {
  const rows = matching.map(({ line, rule, action, priority, shadowed, text }) => [
    rule === null ? (line === null ? 'default' : `line ${line}`) : `rule ${rule}`,
    action,
    String(priority),
    shadowed ? 'shadowed' : 'decides',
    text,
  ]);
  return [
    reason,
    ...(routed === null ? [] : [`by way of ${routed}, an address behind the destination`]),
    ...(rows.length === 0 ? [] : ['', table(['RULE', 'ACTION', 'PRIORITY', '', ''], rows)]),
    ...(matches > matching.length ? [`and ${matches - matching.length} more`] : []),
  ].join('\n');
}

/** @throws GhostwireError ERR_USAGE */
export function wholeNumber(text: string, what: string): number {
  if (!/^\d{1,12}$/.test(text)) throw new GhostwireError('ERR_USAGE', `${what} ${JSON.stringify(text)} is not a whole number`);
  return Number(text);
}
