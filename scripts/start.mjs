// `npm start`: sets up what is missing and runs the coordinator. Arguments after `--` are the coordinator's.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { root, setup } from './setup.mjs'

setup()

// Requests leave much short-lived memory behind: with 64 MiB (instead of 16) to fill between two collections a registration
// costs a tenth less of the JavaScript thread.
const child = spawn(process.execPath, ['--max-semi-space-size=64', join(root, 'ghostwire/dist/main.js'), 'serve', ...process.argv.slice(2)], { stdio: 'inherit' })
// A terminal sends Ctrl-C to both; the coordinator decides when it is done.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.on('error', (error) => {
  process.stderr.write(`error: cannot start the coordinator: ${error.message}\n`)
  process.exit(1)
})
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)))
