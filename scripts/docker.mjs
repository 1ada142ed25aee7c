// `npm run docker:check`: carries out ghostwire/deploy/Dockerfile in roots made by debootstrap (as root, no Docker
// needed): every RUN and COPY as written. Then starts what ENTRYPOINT and CMD say as its USER, waits for its HEALTHCHECK, and stops it.
//
// The image's packages come from a registry on loopback with those of this checkout. Understands what the Dockerfile uses, and
// refuses any other instruction rather than leave it out. Skips loudly, with exit code 77, where it cannot work.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root as checkout, run, say, setup } from './setup.mjs'
import { stage } from './pack/packages.mjs'
import { startRegistry } from './pack/registry.mjs'
import { installTools, VERDACCIO } from './pack/tools.mjs'
import { npm } from './pack/user.mjs'

const DOCKERFILE = join(checkout, 'ghostwire', 'deploy', 'Dockerfile')
const WORK = join(checkout, 'target', 'docker')
const SUITE = 'bookworm'
const STEP_MS = 900_000
/** What of an image only says something to Docker. */
const DECLARATIONS = new Set(['EXPOSE', 'VOLUME'])

for (const program of ['debootstrap', 'unshare', 'chroot']) {
  if (spawnSync(program, ['--version']).error !== undefined) skip(`there is no ${program}`)
}
if (process.getuid?.() !== 0) skip('only root can make and enter a root')

setup()
installTools()
const temporary = mkdtempSync(join(tmpdir(), 'zqlite-docker-'))
const registry = await startRegistry(join(temporary, 'registry'), VERDACCIO)
try {
  for (const { folder } of stage(join(temporary, 'packages'), { allowMissing: true })) {
    const { status, stderr } = spawnSync(process.execPath, [npm, 'publish', `--registry=${registry.url}`, `--userconfig=${registry.npmrc}`], { cwd: folder, encoding: 'utf8' })
    if (status !== 0) throw new Error(stderr)
  }
  const last = build(readFileSync(DOCKERFILE, 'utf8'), { NPM_CONFIG_REGISTRY: registry.url })
  start(last)
  say('ok: every step of the Dockerfile ran, the coordinator became healthy, and stopped when told to')
} finally {
  registry.stop()
  rmSync(temporary, { recursive: true, force: true })
}

/** Carries out the instructions; returns the last stage. */
function build(text, givenArgs) {
  const stages = []
  let image
  for (const { instruction, rest } of instructions(text)) {
    say(`${instruction} ${rest}`)
    if (DECLARATIONS.has(instruction)) continue
    if (instruction === 'FROM') stages.push((image = from(rest, stages.length)))
    else if (instruction === 'ARG') {
      const [name, value] = rest.split('=')
      const given = givenArgs[name] ?? value
      if (given !== undefined) image.args[name] = given
    } else if (instruction === 'ENV') {
      const [, name, value] = /^(\w+)=(\S*)$/.exec(rest) ?? refuse(rest)
      image.env[name] = value
    } else if (instruction === 'WORKDIR') {
      image.workdir = rest
      mkdirSync(join(image.folder, rest), { recursive: true })
    } else if (instruction === 'USER') image.user = rest
    else if (instruction === 'COPY') {
      const [, name, source, target] = /^--from=(\w+) (\/\S+) (\/\S+)$/.exec(rest) ?? refuse(rest)
      const other = stages.find((one) => one.name === name) ?? refuse(rest)
      cpSync(join(other.folder, source), join(image.folder, target), { recursive: true, verbatimSymlinks: true })
    } else if (instruction === 'RUN') inside(image, ['/bin/sh', '-c', rest], { ...image.env, ...image.args })
    else if (instruction === 'HEALTHCHECK') image.health = JSON.parse(rest.replace(/^CMD /, ''))
    else if (instruction === 'ENTRYPOINT') image.entrypoint = JSON.parse(rest)
    else if (instruction === 'CMD') image.cmd = JSON.parse(rest)
    else refuse(`${instruction} ${rest}`)
  }
  return image
}

function instructions(text) {
  return text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, instruction, rest] = /^([A-Z]+) (.*)$/.exec(line) ?? refuse(line)
      return { instruction, rest: rest.trim() }
    })
}

/** A fresh root for `debian:<suite>-slim`; the packages of the suite are fetched once. */
function from(rest, index) {
  const [, suite, name] = /^debian:(\w+)-slim(?: AS (\w+))?$/.exec(rest) ?? refuse(rest)
  if (suite !== SUITE) refuse(rest)
  const base = join(WORK, 'base')
  if (!existsSync(join(base, 'etc', 'debian_version'))) {
    rmSync(base, { recursive: true, force: true })
    if (run('debootstrap', ['--variant=minbase', suite, base], { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } }) !== 0) throw new Error('debootstrap failed; see above')
  }
  const folder = join(WORK, `stage-${index}`)
  rmSync(folder, { recursive: true, force: true })
  if (run('cp', ['-a', base, folder]) !== 0) throw new Error('copying the root failed; see above')
  // As Docker does, so that names resolve.
  cpSync('/etc/resolv.conf', join(folder, 'etc/resolv.conf'), { dereference: true })
  return { name, folder, args: {}, env: {}, workdir: '/', user: 'root', cmd: [], entrypoint: [] }
}

/** Runs a command in the root of a stage, with mounts and processes of its own that end with it. */
function inside({ folder, workdir }, command, env) {
  enter(folder, [], `exec chroot "$0" /bin/sh -c 'cd "$0" && exec "$@"' "$@"`, [workdir, ...command], env)
}

/** Starts the image as Docker would, in a network of its own, until its health check succeeds; then stops it. */
function start({ folder, workdir, user, env, entrypoint, cmd, health }) {
  const script = `
    ip link set lo up
    as_user() { exec chroot --userspec=${user} "$root" /bin/sh -c 'cd "$0" && exec "$@"' ${workdir} "$@"; }
    root="$0"
    as_user ${quoted([...entrypoint, ...cmd])} & coordinator=$!
    healthy=1
    for _ in $(seq 60); do sleep 1; kill -0 $coordinator || break; (as_user ${quoted(health)}) && healthy=0 && break; done
    kill -TERM $coordinator
    wait $coordinator || { echo "the coordinator ended with code $?"; exit 1; }
    exit $healthy`
  enter(folder, ['--net'], script, [], env)
}

function enter(folder, namespaces, script, args, env) {
  const mounts = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit 1'
  const { status, error } = spawnSync('unshare', ['--mount', '--pid', '--fork', '--kill-child', ...namespaces, 'sh', '-c', `${mounts}\n${script}`, folder, ...args], {
    stdio: ['ignore', 2, 2],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', DEBIAN_FRONTEND: 'noninteractive', ...env },
    timeout: STEP_MS,
  })
  if (error !== undefined || status !== 0) throw new Error(`the step failed with ${error?.message ?? `code ${status}`}; see above`)
}

function quoted(words) {
  return words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
}

function refuse(line) {
  throw new Error(`the Dockerfile has what this check does not carry out: ${line}`)
}

function skip(reason) {
  say(`SKIPPED: ${reason}`)
  process.exit(77)
}
