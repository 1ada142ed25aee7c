// What is shipped for operators in deploy/: checked by the programs that will read it, where they are installed.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { SETTINGS } from '../src/config.js';

const UNIT = 'deploy/ghostwire.service';
const unit = readFileSync(UNIT, 'utf8');
const withSystemd = spawnSync('systemd-analyze', ['--version']).error === undefined ? test : test.skip;

const verify = (path: string): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
};

withSystemd('systemd takes the unit without a word (needs systemd-analyze)', (t) => {
  const { status, output } = verify(UNIT);
  // Only what is said of this unit counts: others of the machine are read as well.
  t.deepEqual(output.split('\n').filter((line) => line.includes('ghostwire')), []);
  t.is(status, 0, output);
});

withSystemd('and would say it if there were one (needs systemd-analyze)', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ghostwire-unit-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'ghostwire.service');
  writeFileSync(path, unit.replace('LimitNOFILE=', 'LimitNOFILES='));
  t.true(verify(path).output.includes('LimitNOFILES'));
});

withSystemd('the unit is closed off as far as it promises (needs systemd-analyze)', (t) => {
  const { stdout, status } = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=20', UNIT], { encoding: 'utf8' });
  t.is(status, 0, stdout.trim().split('\n').at(-1));
});

test('the unit has a user, restarts, raises the limit, and names settings that exist', (t) => {
  for (const line of ['User=ghostwire', 'Restart=on-failure', 'LimitNOFILE=200000', 'NoNewPrivileges=yes', 'ProtectSystem=strict']) t.true(unit.split('\n').includes(line), line);
  t.regex(unit, /^ExecStart=.* --db-path=\S+$/m);
});

const fallback = (name: string): string => String(SETTINGS.find((setting) => setting.name === name)?.fallback);

test('the Dockerfile and the scrape configuration agree with the defaults', (t) => {
  const dockerfile = readFileSync('deploy/Dockerfile', 'utf8');
  const [api, metrics, sync] = [fallback('server.port'), fallback('server.metrics_port'), fallback('server.sync_port')];
  t.true(dockerfile.includes(`EXPOSE ${api} ${metrics} ${sync}\n`));
  t.true(dockerfile.includes(`http://127.0.0.1:${metrics}/readyz`));
  for (const [, name = ''] of dockerfile.matchAll(/^ENV GHOSTWIRE_(\w+)=/gm)) {
    t.true(SETTINGS.some((setting) => setting.name.replace('.', '_').toUpperCase() === name), name);
  }
  const scrape = readFileSync('deploy/prometheus.yml', 'utf8');
  t.true(scrape.includes(`targets: ['127.0.0.1:${metrics}']`) && scrape.includes('metrics_path: /metrics'));
});
