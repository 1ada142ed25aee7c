// What commands that talk to a running server have in common.

import type { Command } from 'commander';
import { Api } from './api.js';

export interface RemoteOptions {
  readonly url?: string;
  readonly fingerprint?: string;
  readonly insecure?: boolean;
  readonly json?: boolean;
}

export interface Session<Options> {
  readonly api: Api;
  readonly json: boolean;
  readonly options: Options;
  /** The command's arguments, in order. */
  readonly args: readonly string[];
}

/** Gives a command its connection options, and its action a session with the server. */
export function remote<Options = RemoteOptions>(command: Command, action: (session: Session<Options>) => Promise<void>): Command {
  return withServer(command).action(() => action(session<Options>(command)));
}

/** Gives a command its connection options. */
export function withServer(command: Command): Command {
  return command
    .option('--url <url>', 'the server (GHOSTWIRE_URL; default http://127.0.0.1:8080); the admin key comes from GHOSTWIRE_ADMIN_KEY')
    .option('--fingerprint <fingerprint>', "the server's key, as its join line has it (GHOSTWIRE_FINGERPRINT); default: a certificate that this machine trusts")
    .option('--insecure', 'plain text to another machine')
    .option('--json', 'print JSON');
}

/** @throws GhostwireError ERR_USAGE without an admin key */
export function session<Options>(command: Command): Session<Options> {
  const options = command.opts<Options & RemoteOptions>();
  const api = new Api({
    url: options.url ?? process.env['GHOSTWIRE_URL'] ?? 'http://127.0.0.1:8080',
    adminKey: process.env['GHOSTWIRE_ADMIN_KEY'],
    fingerprint: options.fingerprint ?? process.env['GHOSTWIRE_FINGERPRINT'],
    insecure: options.insecure,
  });
  return { api, json: options.json ?? false, options, args: command.args };
}
