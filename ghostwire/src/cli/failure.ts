// How a command says what went wrong: one line on stderr, and an exit code.

import { CommanderError } from 'commander';
import { GhostwireError, isCoded } from '../errors.js';
import { ServerError } from '../http.js';
import { withoutSecrets } from '../log.js';

/** The command line was wrong; everything else that fails is 1. */
const USAGE = 2;

/** Prints the error and returns the exit code. A stack is printed for bugs, and for everything with GHOSTWIRE_DEBUG=1. */
export function explain(error: unknown): number {
  // Commander has printed it already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
  const coded = isCoded(error) || error instanceof ServerError;
  const line = coded ? `${error.code}: ${error.message}` : `ERR_SERVER: ${error instanceof Error ? error.message : String(error)}`;
  process.stderr.write(`ghostwire: ${withoutSecrets(line.replaceAll('\n', ' '))}\n`);
  if ((!coded || process.env['GHOSTWIRE_DEBUG'] === '1') && error instanceof Error)
    process.stderr.write(`${withoutSecrets(error.stack ?? '')}\n`);
  const usage =
    error instanceof GhostwireError && (error.code === 'ERR_USAGE' || error.code === 'ERR_CONFIG' || error.code === 'ERR_CONFIG_UNKNOWN');
  return usage ? USAGE : 1;
}
