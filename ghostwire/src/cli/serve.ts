// ghostwire serve: starts a coordinator, says where it is, and stops it cleanly on SIGINT or SIGTERM.

import { initLogging as initDatabaseLogging } from 'zqlite';
import { loadConfig, type ConfigInput } from '../config.js';
import { startCoordinator, type Coordinator } from '../coordinator.js';
import { createLog } from '../log.js';
import { initLogging as initSyncLogging } from '../sync.js';
import { isLoopback } from '../tls.js';
import { VERSION } from '../version.js';
import { explain } from './failure.js';

export interface ServeOptions {
  readonly input: ConfigInput;
  readonly json: boolean;
  /** Makes another admin key, for operators who lost theirs. */
  readonly newAdminKey: boolean;
}

/** Resolves with the exit code when the server has stopped. */
export async function serve({ input, json, newAdminKey }: ServeOptions): Promise<number> {
  const { config } = loadConfig(input);
  const log = createLog(config.log.filter);
  initDatabaseLogging(config.log.filter);
  initSyncLogging(config.log.filter);

  let stop: (code: number) => void = () => undefined;
  const stopped = new Promise<number>((resolve) => {
    stop = resolve;
  });
  const onSignal = (): void => {
    // The second signal finds no listener of ours and ends the process at once.
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    stop(0);
  };
  // From here on, so that a signal during a slow start is not lost.
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const coordinator = await startCoordinator({ config, log, version: VERSION, onFailure: (error) => stop(explain(error)) });

  const created = newAdminKey
    ? (await coordinator.domain.adminKeys.create({ description: 'made by --new-admin-key', expiresAt: null })).text
    : undefined;
  const { urls, firstKeys } = coordinator;
  const peers = coordinator.domain.directory.size;
  const adminKey = created ?? firstKeys?.adminKey;
  const join = firstKeys === undefined ? undefined : joinLine(urls.api, firstKeys.preauthKey, coordinator.fingerprint);
  process.stdout.write(
    json
      ? `${JSON.stringify({ version: VERSION, ...urls, database: config.database.path, peers, fingerprint: coordinator.fingerprint, adminKey, preauthKey: firstKeys?.preauthKey, join })}\n`
      : banner(coordinator, config.database.path, adminKey, join),
  );
  log('ghostwire').info({ ...urls, peers, version: VERSION }, 'started');

  const code = await stopped;
  log('ghostwire').info('stopping');
  await coordinator.close();
  log('ghostwire').info('stopped');
  return code;
}

function banner(
  { urls, firstKeys, domain }: Coordinator,
  database: string,
  adminKey: string | undefined,
  join: string | undefined,
): string {
  const lines = [
    `Ghostwire ${VERSION}`,
    `  API       ${urls.api}`,
    `  sync      ${urls.sync}`,
    `  metrics   ${urls.metrics}/metrics`,
    `  database  ${database}: ${domain.directory.size} peer${domain.directory.size === 1 ? '' : 's'}`,
  ];
  if (adminKey !== undefined) lines.push('', 'Shown this once, stored hashed:', `  admin key     ${adminKey}`);
  if (firstKeys !== undefined)
    lines.push(`  pre-auth key  ${firstKeys.preauthKey}`, '', 'To join, on the machine that joins:', `  ${join}`);
  return `${lines.join('\n')}\n\n`;
}

/** What to type on the machine that joins. The fingerprint tells it that the server is this one. */
function joinLine(api: string, preauthKey: string, fingerprint: string | undefined): string {
  const pinned = fingerprint === undefined ? '' : ` --fingerprint ${fingerprint}`;
  const plain = fingerprint === undefined && !isLoopback(new URL(api).hostname) && api.startsWith('http:') ? ' --insecure' : '';
  return `ghostwire up --server ${api} --key ${preauthKey}${pinned}${plain}`;
}
