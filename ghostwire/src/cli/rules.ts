// ghostwire rules: what stands beside the policy file. Add, list, show, enable, disable, remove.

import type { Command } from 'commander';
import type { Static } from 'typebox';
import type { RuleBody, RuleList } from '../api/schemas.js';
import { GhostwireError } from '../errors.js';
import { passage } from './difference.js';
import { expiry } from './keys.js';
import { fields, print, table } from './output.js';
import { wholeNumber } from './policy.js';
import { remote } from './remote.js';

interface AddOptions {
  readonly deny?: boolean;
  readonly allow?: boolean;
  readonly src: readonly string[];
  readonly dst: readonly string[];
  readonly proto?: readonly string[];
  readonly port?: readonly string[];
  readonly priority?: string;
  readonly expires?: string;
  readonly disabled?: boolean;
  readonly comment?: string;
}

export function ruleCommands(program: Command): void {
  const rules = program.command('rules').description('rules beside the policy file: with priority, deny, expiry');
  remote<AddOptions>(
    rules
      .command('add')
      .description('put a rule in force')
      .option('--deny', 'drop what matches')
      .option('--allow', 'let pass what matches')
      .requiredOption('--src <selector...>', "'*', user, group:, tag:, address, prefix, range")
      .requiredOption('--dst <selector...>', 'as --src')
      .option('--proto <protocol...>', 'tcp, udp, icmp or IANA numbers; all when left out')
      .option('--port <port...>', '443 or 8000-8999; all when left out')
      .option('--priority <n>', 'higher decides first; the policy file has 0', '100')
      .option('--expires <duration>', 'e.g. 90min or 7d; never when left out')
      .option('--disabled', 'do not enable it yet')
      .option('-m, --comment <text>', 'what it is for'),
    async ({ api, json, options }) => {
      const rule = await api.request<RuleBody>('POST', '/v1/policy/rules', { json: newRule(options) });
      print(json, rule, fields(shown(rule)));
    },
  );
  remote(rules.command('list').description('all rules, in the order in which they decide'), async ({ api, json }) => {
    const { rules: all } = await api.request<Static<typeof RuleList>>('GET', '/v1/policy/rules');
    const rows = all.map((rule) => [
      String(rule.id),
      rule.state,
      String(rule.priority),
      rule.action,
      rule.sources.join(),
      rule.destinations.join(),
      passage(rule),
      rule.expiresAt ?? 'never',
      rule.comment,
    ]);
    print(json, all, table(['ID', 'STATE', 'PRIORITY', 'ACTION', 'FROM', 'TO', 'WHAT', 'EXPIRES', 'COMMENT'], rows));
  });
  remote(rules.command('show').description('one rule').argument('<id>'), async ({ api, json, args }) => {
    const rule = await api.request<RuleBody>('GET', `/v1/policy/rules/${id(args)}`);
    print(json, rule, fields(shown(rule)));
  });
  for (const [name, enabled] of [['enable', true], ['disable', false]] as const) {
    remote(rules.command(name).description(enabled ? 'switch a rule on' : 'switch a rule off').argument('<id>'), async ({ api, json, args }) => {
      const rule = await api.request<RuleBody>('PATCH', `/v1/policy/rules/${id(args)}`, { json: { enabled } });
      print(json, rule, `rule ${rule.id} is ${rule.state}`);
    });
  }
  remote(rules.command('remove').description('remove a rule').argument('<id>'), async ({ api, json, args }) => {
    await api.request('DELETE', `/v1/policy/rules/${id(args)}`);
    print(json, { id: id(args), removed: true }, `removed rule ${id(args)}`);
  });
}

const id = (args: readonly string[]): number => wholeNumber(args[0] ?? '', '<id>');

function shown({ protocols, ports, ...rule }: RuleBody): Record<string, unknown> {
  return { ...rule, what: passage({ protocols, ports }) };
}

function newRule({ deny = false, allow = false, src, dst, proto = [], port = [], priority, expires, disabled = false, comment }: AddOptions): object {
  if (deny === allow) throw new GhostwireError('ERR_USAGE', 'a rule is made with either --deny or --allow');
  if (priority !== undefined && !/^-?\d{1,7}$/.test(priority)) throw new GhostwireError('ERR_USAGE', `--priority ${priority} is not a whole number`);
  return {
    action: deny ? 'deny' : 'allow',
    sources: src,
    destinations: dst,
    protocols: proto.map(protocolNumber),
    ports: port.map(portRange),
    priority: priority === undefined ? undefined : Number(priority),
    expiresAt: expiry(expires),
    enabled: !disabled,
    comment,
  };
}

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, icmp: 1, 'ipv6-icmp': 58, sctp: 132 };

const protocolNumber = (text: string): number => PROTOCOLS[text.toLowerCase()] ?? wholeNumber(text, '--proto');

function portRange(text: string): [number, number] {
  const [first = '', last = first] = text.split('-');
  return [wholeNumber(first, '--port'), wholeNumber(last, '--port')];
}
