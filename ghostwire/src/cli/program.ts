// The command line: which commands there are, and what their flags mean.

import { Command } from 'commander';
import { GhostwireError } from '../errors.js';
import { nearest } from '../nearest.js';
import { VERSION } from '../version.js';
import { agentCommands } from './agent.js';
import { explain } from './failure.js';

/** Runs a command line (without the program's own name) and returns the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  let code = 0;
  const setExit = (exit: number): void => {
    code = exit;
  };
  const program = new Command('ghostwire').description('A mesh VPN coordinator for WireGuard peers.').version(VERSION, '-V, --version');
  // Subcommands inherit these only when they are made afterwards.
  program.exitOverride().showHelpAfterError('(--help shows what there is)');
  program.configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'ghostwire: ERR_USAGE: ')) });

  agentCommands(program, setExit);
  // A machine that joins is up sooner without what only a coordinator needs.
  if (!program.commands.some((command) => command.name() === args[0])) {
    const { coordinatorCommands } = await import('./coordinator.js');
    coordinatorCommands(program, setExit);
  }

  try {
    checkCommand(program, args[0]);
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    return explain(error);
  }
}

/** Commander would take what it does not know for an argument of `serve`, which is the default. @throws GhostwireError ERR_USAGE */
function checkCommand(program: Command, first = '--help'): void {
  const known = ['help', ...program.commands.flatMap((command) => [command.name(), ...command.aliases()])];
  if (first.startsWith('-') || known.includes(first)) return;
  const near = nearest(first, known);
  const hint = near === undefined ? '' : `did you mean ${near}? `;
  throw new GhostwireError('ERR_USAGE', `there is no command ${JSON.stringify(first)}; ${hint}--help shows what there is`);
}
