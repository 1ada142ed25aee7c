/** Ghostwire as users start it, on a file of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { subject } from '../subject.js'
import type { Effort } from '../suite.js'
import { load, type Target } from './load.js'

subject(async (effort) => load(effort, await start(effort)))

async function start({ folder }: Effort): Promise<Target> {
  const program = fileURLToPath(new URL('../../ghostwire/dist/main.js', import.meta.url))
  const flags = ['--json', '--db-path', join(folder, 'ghostwire.db'), '--port', '0', '--metrics-port', '0', '--sync-port', '0', '--log-filter', 'warn']
  const server = spawn(process.execPath, ['--max-semi-space-size=64', program, 'serve', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string]
  const { api, adminKey } = JSON.parse(line) as { api: string; adminKey: string }
  const headers = { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' }
  const response = await fetch(`${api}/v1/preauth-keys`, { method: 'POST', headers, body: JSON.stringify({ maxUses: 1_000_000 }) })
  if (!response.ok) throw new Error(`no pre-auth key: ${await response.text()}`)
  const { key } = (await response.json()) as { key: string }
  const stop = async (): Promise<void> => {
    server.kill('SIGTERM')
    await once(server, 'exit')
  }
  return { url: api, preauthKey: key, stop }
}
