// The command line against a coordinator, and a machine that registers with it.

import type { ExecutionContext } from 'ava';
import type { PeerBody } from '../../src/api/schemas.js';
import { wireguardKey } from './network.js';
import { runHere, type Finished, type Server } from './process.js';

export interface RegisteredBody {
  readonly peer: PeerBody;
  readonly token: string;
}

/** @throws Error with the answer when the machine is not admitted */
export async function register({ started }: Server, hostname: string, fields: { readonly preauthKey?: string; readonly user?: string } = {}): Promise<RegisteredBody> {
  const response = await fetch(`${started.api}/v1/peers/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ preauthKey: started.preauthKey, wireguardKey: wireguardKey(), hostname, ...fields }),
  });
  if (response.status !== 201) throw new Error(await response.text());
  return (await response.json()) as RegisteredBody;
}

export interface CommandLine {
  readonly run: (...args: readonly string[]) => Promise<Finished>;
  /** What the command prints, which must end well. */
  readonly prints: (expected: RegExp, ...args: readonly string[]) => Promise<string>;
  /** The same as a value, by `--json`. */
  readonly json: <T>(...args: readonly string[]) => Promise<T>;
  /** The command fails: 1 for what the coordinator refuses, 2 for what cannot be meant. */
  readonly fails: (exitCode: 1 | 2, expected: RegExp, ...args: readonly string[]) => Promise<Finished>;
}

/** Commands of an admin. Tests that use it must be serial, see `runHere`. */
export function commandLine(t: ExecutionContext, { started }: Server, adminKey = started.adminKey): CommandLine {
  const environment = { GHOSTWIRE_URL: started.api, GHOSTWIRE_ADMIN_KEY: adminKey ?? '' };
  const run: CommandLine['run'] = (...args) => runHere(args, environment);
  const prints: CommandLine['prints'] = async (expected, ...args) => {
    const { code, stdout, stderr } = await run(...args);
    t.is(code, 0, stderr);
    t.regex(stdout, expected);
    return stdout;
  };
  return {
    run,
    prints,
    json: async <T>(...args: readonly string[]) => JSON.parse(await prints(/^[[{]/, ...args, '--json')) as T,
    fails: async (exitCode, expected, ...args) => {
      const finished = await run(...args);
      t.is(finished.code, exitCode, finished.stdout);
      t.regex(finished.stderr, expected);
      return finished;
    },
  };
}
