// Keeps the agent running after the command that started it: as a systemd service, or, without systemd, as a process of
// its own whose log is a file.

import { spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { GhostwireError } from '../errors.js';
import { ask } from './control.js';
import type { AgentState } from './state.js';
import type { Status } from './status.js';
import { attempt, run } from './system.js';

export const UNIT = 'ghostwire-agent.service';
const UNIT_FILE = `/etc/systemd/system/${UNIT}`;
const READY_WITHIN = 30_000;

const hasSystemd = (): boolean => existsSync('/run/systemd/system');

/** The command line by which this program runs the agent. */
const commandLine = (folder: string): string[] => [
  process.execPath,
  // It has little to do and stays for long: a small nursery costs it nothing and saves some 12 MB.
  '--max-semi-space-size=2',
  ...process.execArgv,
  process.argv[1] ?? '',
  'up',
  '--foreground',
  '--state-dir',
  folder,
];

/** A unit (systemd.service(5)). The host is put back only by `down`: an agent that is restarted leaves traffic alone. */
export function unit(command: readonly string[]): string {
  const quoted = command.map((part) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(part) ? part : JSON.stringify(part))).join(' ');
  return `[Unit]
Description=Ghostwire agent
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
ExecStart=${quoted.replaceAll('%', '%%')}
Restart=always
RestartSec=2
RestartPreventExitStatus=3
# wireguard-go outlives the agent, and with it the tunnel.
KillMode=process

[Install]
WantedBy=multi-user.target
`;
}

/** Starts the agent and waits until it has applied a netmap. @throws GhostwireError ERR_AGENT_SYSTEM with the end of its log */
export async function startService(state: AgentState): Promise<Status> {
  const command = commandLine(state.folder);
  if (hasSystemd()) {
    writeFileSync(UNIT_FILE, unit(command));
    await run('systemctl', ['daemon-reload']);
    await run('systemctl', ['enable', '--now', UNIT]);
  } else {
    const log = openSync(state.log, 'a', 0o600);
    const [program = '', ...args] = command;
    const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log], cwd: '/' });
    child.unref();
    let ended: number | null | undefined;
    child.once('exit', (code) => (ended = code));
    return waitUntilReady(state, () => ended !== undefined);
  }
  return waitUntilReady(state, () => false);
}

async function waitUntilReady(state: AgentState, hasEnded: () => boolean): Promise<Status> {
  const until = Date.now() + READY_WITHIN;
  while (Date.now() < until && !hasEnded()) {
    const status = await ask<Status>(state.socket, 'GET', '/status').catch(() => undefined);
    if (status?.ready === true) return status;
    await sleep(20);
  }
  const where = hasSystemd() ? `journalctl -u ${UNIT}` : state.log;
  const said = hasSystemd() ? '' : `: ${lastLine(state.log)}`;
  throw new GhostwireError('ERR_AGENT_SYSTEM', `the agent has not come up; see ${where}${said}`, { log: where });
}

const lastLine = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim().split('\n').at(-1) ?? '';
  } catch {
    return '';
  }
};

/** The other half of `startService`, for what systemd keeps. */
export async function removeService(): Promise<void> {
  if (!existsSync(UNIT_FILE)) return;
  await attempt('systemctl', ['disable', '--now', UNIT]);
  rmSync(UNIT_FILE, { force: true });
  await attempt('systemctl', ['daemon-reload']);
}
