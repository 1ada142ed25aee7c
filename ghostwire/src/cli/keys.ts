// ghostwire preauth-key and admin-key: create, list, revoke.

import type { Command } from 'commander';
import type { Static } from 'typebox';
import type { AdminKeyList, PreauthKeyList } from '../api/schemas.js';
import { GhostwireError } from '../errors.js';
import { parseDuration } from '../units.js';
import { fields, print, table } from './output.js';
import { remote } from './remote.js';

type Kind = 'preauth' | 'admin';

interface CreateOptions {
  readonly description?: string;
  readonly expires?: string;
  readonly uses: string;
  readonly reusable?: boolean;
  readonly tag?: readonly string[];
  readonly user?: string;
  readonly address?: string;
}

export function keyCommands(program: Command): void {
  const preauth = program.command('preauth-key').description('keys that let machines register');
  const create = preauth
    .command('create')
    .description('make a key; it is shown this once')
    .option('--uses <n>', 'registrations that it allows', '1')
    .option('--reusable', 'any number of registrations')
    .option('--tag <tag...>', 'tags of the peers that it registers')
    .option('--user <user>', 'the user whom they belong to')
    .option('--address <ipv4>', 'the address of the one peer that it registers, kept for it until then');
  createCommand(create, 'preauth', ({ uses, reusable, tag, user, address }) => ({
    maxUses: reusable === true ? null : wholeNumber(uses),
    tags: tag,
    user,
    ipv4: address,
  }));
  remote(preauth.command('list').description('all keys, the newest first'), async ({ api, json }) => {
    const { keys } = await api.request<Static<typeof PreauthKeyList>>('GET', '/v1/preauth-keys');
    const rows = keys.map((key) => [
      key.id,
      key.state,
      `${key.uses}/${key.maxUses ?? '∞'}`,
      key.expiresAt ?? 'never',
      key.user ?? '',
      key.tags.join(),
      key.ipv4 ?? '',
      key.description,
    ]);
    print(json, keys, table(['ID', 'STATE', 'USES', 'EXPIRES', 'USER', 'TAGS', 'ADDRESS', 'DESCRIPTION'], rows));
  });
  revokeCommand(preauth, 'preauth');

  const admin = program.command('admin-key').description('keys for the API and this command line');
  createCommand(admin.command('create').description('make a key; it is shown this once'), 'admin', () => ({}));
  remote(admin.command('list').description('all keys, the newest first'), async ({ api, json }) => {
    const { keys } = await api.request<Static<typeof AdminKeyList>>('GET', '/v1/admin-keys');
    const rows = keys.map((key) => [key.id, key.state, key.expiresAt ?? 'never', key.description]);
    print(json, keys, table(['ID', 'STATE', 'EXPIRES', 'DESCRIPTION'], rows));
  });
  revokeCommand(admin, 'admin');
}

function createCommand(command: Command, kind: Kind, more: (options: CreateOptions) => object): void {
  command.option('--description <text>', 'what it is for').option('--expires <duration>', 'e.g. 24h or 90d; never when left out');
  remote<CreateOptions>(command, async ({ api, json, options }) => {
    const { description, expires } = options;
    const key = await api.request<Record<string, unknown>>('POST', `/v1/${kind}-keys`, {
      json: { description, expiresAt: expiry(expires), ...more(options) },
    });
    print(json, key, fields(key));
  });
}

function revokeCommand(parent: Command, kind: Kind): void {
  remote(parent.command('revoke').description('void a key for good').argument('<id>'), async ({ api, json, args }) => {
    const key = await api.request<Record<string, unknown>>('DELETE', `/v1/${kind}-keys/${encodeURIComponent(args[0] ?? '')}`);
    print(json, key, fields(key));
  });
}

/** When something that lasts so long ends. @throws GhostwireError ERR_USAGE */
export function expiry(duration: string | undefined): string | undefined {
  if (duration === undefined) return undefined;
  const milliseconds = parseDuration(duration);
  if (milliseconds === undefined || milliseconds === 0)
    throw new GhostwireError('ERR_USAGE', `--expires ${duration} is not a duration such as 24h`);
  return new Date(Date.now() + milliseconds).toISOString();
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new GhostwireError('ERR_USAGE', `--uses ${text} is not a whole number from 1`);
  return Number(text);
}
