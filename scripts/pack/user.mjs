// A user's machine: an empty folder, Node on PATH and nothing else (so no Rust, no C compiler), settings and caches of its own.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const MINUTES = 60_000

export class User {
  /**
   * @param {string} folder made here
   * @param {{ npmrc: string, url: string }} registry the only one that is asked
   */
  constructor(folder, registry) {
    this.folder = folder
    const bin = join(folder, 'bin')
    mkdirSync(bin, { recursive: true })
    symlinkSync(process.execPath, join(bin, 'node'))
    this.env = {
      PATH: bin,
      HOME: join(folder, 'home'),
      npm_config_userconfig: registry.npmrc,
      npm_config_registry: registry.url,
      npm_config_cache: join(folder, 'npm-cache'),
      YARN_NPM_REGISTRY_SERVER: registry.url,
      YARN_UNSAFE_HTTP_WHITELIST: '127.0.0.1',
      YARN_GLOBAL_FOLDER: join(folder, 'yarn'),
      YARN_ENABLE_TELEMETRY: '0',
      YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
      CI: '',
    }
    for (const tool of ['cargo', 'rustc', 'cc', 'gcc', 'make', 'python3']) {
      if (spawnSync(tool, ['--version'], { env: this.env }).error === undefined) throw new Error(`${tool} is on the PATH of the check`)
    }
  }

  /** A folder with these files. */
  project(name, files = {}) {
    const folder = join(this.folder, name)
    mkdirSync(folder)
    for (const [file, text] of Object.entries({ 'package.json': '{ "private": true }\n', ...files })) writeFileSync(join(folder, file), text)
    return folder
  }

  /** Runs a Node program; resolves with what it prints. @throws {Error} with all output, when it fails */
  async node(cwd, ...args) {
    const { code, stdout, stderr } = await this.try(cwd, ...args)
    if (code !== 0) throw new Error(`node ${args.join(' ')} in ${cwd} ended with code ${code}\n${stdout}${stderr}`)
    return stdout.trim()
  }

  /** The same for a program that may fail. */
  async try(cwd, ...args) {
    const child = this.start(cwd, ...args)
    const timer = setTimeout(() => child.kill('SIGKILL'), 5 * MINUTES)
    const output = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr']) child[stream].setEncoding('utf8').on('data', (text) => (output[stream] += text))
    const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve))
    clearTimeout(timer)
    return { code, ...output }
  }

  /** Starts a Node program, which then runs beside us. */
  start(cwd, ...args) {
    return spawn('node', args, { cwd, env: this.env, stdio: ['ignore', 'pipe', 'pipe'] })
  }

  npm(cwd, ...args) {
    return this.node(cwd, npm, ...args)
  }
}

/** npm as it comes with the Node that runs this. */
export const npm = npmProgram()

function npmProgram() {
  const { stdout, status } = spawnSync('npm', ['root', '--global'], { encoding: 'utf8' })
  if (status !== 0) throw new Error('there is no npm')
  return realpathSync(join(stdout.trim(), 'npm', 'bin', 'npm-cli.js'))
}
