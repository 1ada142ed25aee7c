// Runs the system's own tools: ip, wg, nft, sysctl files. Arguments are never a shell's.

import { execFile } from 'node:child_process';
import { GhostwireError } from '../errors.js';

const TIMEOUT = 20_000;

/** The system's own folders first: some other program called `nft` that happens to succeed would be a filter that is none. */
const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** Standard output. @throws GhostwireError ERR_AGENT_SYSTEM with what the tool said */
export function run(command: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: `${SYSTEM_PATH}:${process.env['PATH'] ?? ''}` };
    const child = execFile(command, [...args], { timeout: TIMEOUT, maxBuffer: 64 * 1024 * 1024, env }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else {
        // Not its message, which is the whole command line again.
        const said = stderr.trim().split('\n')[0] ?? '';
        const ended = error.killed === true ? `it was ended after ${TIMEOUT / 1_000} s` : said === '' ? `it ended with ${error.code ?? error.signal}` : said;
        const reason = error.code === 'ENOENT' ? 'it is not installed' : ended;
        const line = [command, ...args].join(' ').slice(0, 200);
        reject(new GhostwireError('ERR_AGENT_SYSTEM', `${line}: ${reason}`, { command }));
      }
    });
    // A tool that ends early does not read to the end; its exit says why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}

/** As `run`, where failing means that there was nothing to do. */
export const attempt = (command: string, args: readonly string[]): Promise<boolean> =>
  run(command, args).then(
    () => true,
    () => false,
  );

/** Whether a tool can be run. */
export const has = (command: string, args: readonly string[] = ['--version']): Promise<boolean> => attempt(command, args);

/** How the system is worked on; tests watch what would be done where a machine cannot do it. */
export interface Tools {
  readonly run: typeof run;
  readonly attempt: typeof attempt;
}

export const TOOLS: Tools = { run, attempt };
