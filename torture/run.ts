/** The attacks that are written in TypeScript: `scripts/torture.mjs` starts this when all is built. */
import { parseArgs } from 'node:util'
import { config } from './config.js'
import { corruptJournal, victim } from './corrupt-journal.js'
import { kill } from './kill.js'
import { leaks } from './leaks.js'
import { model } from './model.js'
import { Report } from './report.js'
import { workers } from './workers.js'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string' }, seed: { type: 'string' }, json: { type: 'string' }, round: { type: 'string' }, victim: { type: 'string' } },
})
const [command = ''] = positionals

function whole<T>(name: 'rounds' | 'round' | 'seed', fallback: T): number | T {
  const text = values[name]
  if (text === undefined) return fallback
  if (!/^\d{1,15}$/.test(text)) throw new Error(`--${name} is a whole number, not ${text}`)
  return Number(text)
}

const seed = whole('seed', Math.floor(Date.now() / 1000))
const attacks: Record<string, { rounds: number; run: (rounds: number, report: Report) => Promise<void> }> = {
  kill: { rounds: 50, run: (rounds, report) => kill({ rounds, seed, addon: process.env['TORTURE_ADDON']! }, report) },
  'corrupt-journal': { rounds: 400, run: (rounds, report) => corruptJournal(rounds, seed, whole('round', undefined), report) },
  model: { rounds: 100, run: (rounds, report) => model(rounds, seed, report) },
  config: { rounds: 10_000, run: (rounds, report) => config(rounds, seed, report) },
  workers: { rounds: 1_000, run: (rounds, report) => workers(rounds, seed, report) },
  leaks: { rounds: 500, run: (rounds, report) => leaks(rounds, seed, report) },
}
// The process that reads damaged files, and may crash.
if (values.victim !== undefined) {
  const [from, to] = values.victim.split('-').map(Number)
  await victim(seed, from!, to!)
  process.exit(0)
}
const attack = attacks[command]
if (attack === undefined) throw new Error(`there is no attack ${command}; there are ${Object.keys(attacks).join(', ')}`)
const rounds = whole('rounds', attack.rounds)
const report = new Report(command, seed, rounds)
await attack.run(rounds, report)
process.exit(report.finish(values.json) ? 0 : 1)
