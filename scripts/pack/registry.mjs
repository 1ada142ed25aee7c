// A registry of our own on loopback, for the length of `npm run pack:check`. Our packages exist nowhere but in it: it never
// asks another registry for them. What they depend on it fetches from the registry that npm is set up with.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const START_MS = 60_000

/**
 * @param {string} folder for its files; empty
 * @param {string} verdaccio its entry point
 * @returns {Promise<{ url: string, npmrc: string, stop: () => void }>} `npmrc` is a file that sends a client here only
 */
export async function startRegistry(folder, verdaccio) {
  mkdirSync(folder, { recursive: true })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}/`
  const everyone = { access: '$all', publish: '$all' }
  const settings = {
    storage: join(folder, 'storage'),
    auth: { htpasswd: { file: join(folder, 'htpasswd') } },
    uplinks: { configured: { url: npmSetting('registry'), timeout: '30s' } },
    packages: {
      zqlite: everyone,
      'zqlite-*': everyone,
      ghostwire: everyone,
      'ghostwire-*': everyone,
      '**': { access: '$all', publish: 'nobody', proxy: 'configured' },
    },
    max_body_size: '64mb',
    web: { enable: false },
    log: { type: 'file', path: join(folder, 'log'), level: 'warn' },
  }
  // Each JSON document is a YAML document.
  writeFileSync(join(folder, 'config.yaml'), JSON.stringify(settings))
  // Publishing asks for a token; any will do here.
  const npmrc = join(folder, 'npmrc')
  writeFileSync(npmrc, `registry=${url}\n//127.0.0.1:${port}/:_authToken=loopback\naudit=false\nfund=false\nupdate-notifier=false\n`)
  const child = spawn(process.execPath, [verdaccio, '--config', join(folder, 'config.yaml'), '--listen', `127.0.0.1:${port}`], { stdio: ['ignore', 'ignore', 'inherit'] })
  for (const deadline = Date.now() + START_MS; !(await answers(`${url}-/ping`)); await sleep(100)) {
    if (child.exitCode !== null) throw new Error(`the registry ended with code ${child.exitCode}: ${logOf(folder)}`)
    if (Date.now() > deadline) throw new Error(`the registry did not start within ${START_MS} ms: ${logOf(folder)}`)
  }
  return { url, npmrc, stop: () => child.kill() }
}

async function answers(url) {
  try {
    return (await fetch(url)).ok
  } catch {
    return false
  }
}

function logOf(folder) {
  return existsSync(join(folder, 'log')) ? readFileSync(join(folder, 'log'), 'utf8') : 'no log'
}

function npmSetting(name) {
  const { stdout, status } = spawnSync('npm', ['config', 'get', name], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`npm config get ${name} failed`)
  return stdout.trim()
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject).listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
