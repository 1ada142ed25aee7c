// The commands of the coordinator and of those who administer it. Those of a machine that joins do without what is loaded here.

import { Option, type Command } from 'commander';
import { FLAG_ALIASES, formatConfig, loadConfig, SETTINGS, type ConfigInput } from '../config.js';
import { keyCommands } from './keys.js';
import { print } from './output.js';
import { peerCommands, whoisCommand } from './peers.js';
import { policyCommands } from './policy.js';
import { routeCommands } from './routes.js';
import { ruleCommands } from './rules.js';

export function coordinatorCommands(program: Command, setExit: (code: number) => void): void {
  const serving = configurable(program.command('serve', { isDefault: true }).description('start the coordinator (the default command)'))
    .option('--json', 'print addresses and keys as one line of JSON')
    .option('--new-admin-key', 'make another admin key, when the first one is lost');
  serving.action(async () => {
    const { json = false, newAdminKey = false } = serving.opts<{ json?: boolean; newAdminKey?: boolean }>();
    // Loaded here, because the other commands are quicker without a server and its addons.
    const { serve } = await import('./serve.js');
    setExit(await serve({ input: configInput(serving), json, newAdminKey }));
  });

  const config = configurable(
    program.command('config').description('print the configuration in effect, and where each value comes from'),
  ).option('--json', 'print JSON');
  config.action(() => {
    const loaded = loadConfig(configInput(config));
    const json = SETTINGS.map(({ name, section, key }) => [
      name,
      { value: (loaded.config as Record<string, Record<string, unknown>>)[section]?.[key], source: loaded.sources.get(name) },
    ]);
    print(config.opts<{ json?: boolean }>().json ?? false, Object.fromEntries(json), formatConfig(loaded).trimEnd());
  });

  keyCommands(program);
  peerCommands(program);
  whoisCommand(program);
  policyCommands(program);
  ruleCommands(program);
  routeCommands(program);
}

/** Flags for every setting; what is given goes to the configuration as text. */
function configurable(command: Command): Command {
  command.option('--config <file>', 'a TOML file (GHOSTWIRE_CONFIG; default ./ghostwire.toml if there is one)');
  for (const [flag, name] of Object.entries(FLAG_ALIASES)) {
    const setting = SETTINGS.find((known) => known.name === name);
    command.addOption(settable(flag, setting?.type, `short for ${setting?.flag}`));
  }
  for (const { flag, type, description, fallback } of SETTINGS)
    command.addOption(settable(flag, type, `${description} (default: ${JSON.stringify(fallback)})`));
  return command;
}

/** A switch may stand alone. */
const settable = (flag: string, type: string | undefined, description: string): Option =>
  type === 'boolean' ? new Option(`${flag} [value]`, description).preset('true') : new Option(`${flag} <value>`, description);

function configInput(command: Command): ConfigInput {
  const flags: Record<string, string> = {};
  for (const option of command.options) {
    const value: unknown = command.getOptionValue(option.attributeName());
    if ((option.required || option.optional) && option.long !== '--config' && option.long !== undefined && typeof value === 'string') flags[option.long] = value;
  }
  const file: unknown = command.getOptionValue('config');
  return { environment: process.env, flags, ...(typeof file === 'string' ? { file } : {}) };
}
