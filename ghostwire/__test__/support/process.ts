// The program as a process of its own.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), 'ghostwire-'));

export interface Finished {
  /** null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Standard output so far. */
  readonly output: () => string;
}

const alive = new Set<ChildProcess>();

/** Ends what tests that failed have left behind. */
export function killAll(): void {
  for (const child of alive) child.kill('SIGKILL');
}

export function launch(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Running {
  const { PATH, HOME, TMPDIR } = process.env;
  const child = spawn(process.execPath, ['--import=tsx', MAIN, ...args], {
    env: { ...(PATH === undefined ? {} : { PATH }), ...(HOME === undefined ? {} : { HOME }), ...(TMPDIR === undefined ? {} : { TMPDIR }), ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  alive.add(child);
  child.once('close', () => alive.delete(child));
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const finished = once(child, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as NodeJS.Signals | null, stdout, stderr }));
  return { child, finished, output: () => stdout };
}

export const run = (args: readonly string[], environment?: Readonly<Record<string, string>>, input = ''): Promise<Finished> => {
  const { child, finished } = launch(args, environment);
  child.stdin?.end(input);
  return finished;
};

/** What `serve --json` prints. */
export interface Started {
  readonly api: string;
  readonly metrics: string;
  readonly sync: string;
  readonly peers: number;
  readonly adminKey?: string;
  readonly preauthKey?: string;
  readonly join?: string;
}

export interface Server extends Running {
  readonly started: Started;
  /** Sends SIGINT and waits. */
  stop(): Promise<Finished>;
}

export const FREE_PORTS = ['--port=0', '--metrics-port=0', '--sync-port=0'];

/** Starts a server and waits until it says where it is. @throws Error with what it printed when it ends instead */
export async function start(database: string, args: readonly string[] = FREE_PORTS, environment: Readonly<Record<string, string>> = {}): Promise<Server> {
  const running = launch(['serve', '--json', '--db-path', database, ...args], environment);
  const started = new Promise<Started>((resolve) => {
    running.child.stdout?.on('data', () => {
      const line = running.output().split('\n', 2);
      if (line.length > 1) resolve(JSON.parse(line[0] ?? '') as Started);
    });
  });
  const failed = running.finished.then((finished): never => {
    throw new Error(`the server ended with ${finished.code}: ${finished.stderr}`);
  });
  const server = {
    ...running,
    started: await Promise.race([started, failed]),
    stop: () => {
      running.child.kill('SIGINT');
      return running.finished;
    },
  };
  failed.catch(() => undefined);
  return server;
}
