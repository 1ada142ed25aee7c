// ghostwire up, down, status, ping, rotate, set, wg-quick: what runs on a machine that joins. What they do is in
// agent/commands.ts, loaded when one of them is called.

import { Option, type Command } from 'commander';
import type { Common, SetOptions, UpOptions } from '../agent/commands.js';

const STATE = '/var/lib/ghostwire-agent';

type SetExit = (code: number) => void;

export function agentCommands(program: Command, setExit: SetExit): void {
  const joining = (command: Command): Command =>
    command
      .option('--server <url>', 'the coordinator, as its join line has it')
      .addOption(new Option('--key <key>', 'a pre-auth key').env('GHOSTWIRE_KEY'))
      .option('--fingerprint <fingerprint>', "of the coordinator's key; default: a certificate that this machine trusts")
      .option('--insecure', 'plain text to another machine');
  const up = local(joining(program.command('up').description('join the network and keep this machine in it')))
    .option('--hostname <name>', "default: the machine's own")
    .option('--user <user>', 'name@domain, for pre-auth keys that are bound to nobody')
    .option('--tag <tag...>', 'tags to carry')
    .option('--interface <name>', 'default: gw0')
    .option('--port <port>', "WireGuard's UDP port; default: 51820")
    .option('--accept-routes', 'use the networks that other machines route')
    .option('--exit-node <name>', 'send everything else through this machine')
    .option('--advertise-routes <prefixes>', 'offer to route these, separated by commas')
    .option('--advertise-exit-node', 'offer to be an exit node')
    .option('--no-dns', "leave this machine's resolver alone")
    .option('--foreground', 'stay in the foreground; else a service is started')
    .option('--log-filter <filter>', 'as RUST_LOG', 'info');
  up.action(async () => setExit(await (await load()).up(up.opts<UpOptions>())));

  const down = local(program.command('down').description('leave the network for now, and everything on this machine as it was'))
    .option('--forget', 'leave it for good: the coordinator deletes this machine, and its keys are deleted here');
  down.action(async () => (await load()).down(down.opts<Common & { forget?: boolean }>()));

  const status = local(program.command('status').description('this machine, its peers, and how they are reached'));
  status.action(async () => (await load()).status(status.opts<Common>()));

  const ping = local(program.command('ping').description('reach a peer, and say by which way').argument('<peer>')).option(
    '--count <n>',
    'how often',
    '4',
  );
  ping.action(async () => setExit(await (await load()).ping(ping.opts<Common & { count: string }>(), ping.args[0] ?? '')));

  const rotate = local(program.command('rotate').description("replace this machine's WireGuard key"));
  rotate.action(async () => (await load()).rotate(rotate.opts<Common>()));

  const set = local(program.command('set').description('change what `up` was told, without coming down'))
    .addOption(new Option('--accept-routes [yes]', 'use the networks that other machines route').choices(['yes', 'no']).preset('yes'))
    .option('--exit-node <name>', "send everything else through this machine; '' for none")
    .option('--advertise-routes <prefixes>', "offer to route these, separated by commas; '' for none")
    .option('--advertise-exit-node', 'offer to be an exit node');
  set.action(async () => (await load()).set(set.opts<SetOptions>()));

  const quick = joining(
    program
      .command('wg-quick')
      .description('register a plain WireGuard client under this name, and print its configuration; the private key is made here')
      .argument('<peer>'),
  ).option('--exit-node <name>', 'send everything else through this machine');
  quick.action(async () => {
    process.stdout.write(await (await load()).wgQuickFor(quick.opts<UpOptions>(), quick.args[0] ?? ''));
  });
}

const local = (command: Command): Command =>
  command.addOption(new Option('--state-dir <folder>', "the agent's files").default(STATE).env('GHOSTWIRE_STATE_DIR')).option('--json', 'print JSON');

/** Other commands need none of it, and are quicker without. */
const load = () => import('../agent/commands.js');
