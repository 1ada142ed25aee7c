/**
 * `npm run bench -- [suite …] [--case NAME …] [--only SUBJECT …] [--quick] [--json FILE] [--runs N]`: measures ours and the rivals side by side, each in its
 * own process on its own files, in turn, several times; shows medians with their spread.
 */
import { spawn } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { median } from './subject.js'
import type { Case, Effort, Subject, Suite } from './suite.js'

/** A line of the JSON output. */
interface Line {
  suite: string
  case: string
  unit: string
  zqlite: number
  spread: { zqlite: [min: number, max: number]; [peer: string]: [min: number, max: number] }
  peers: Record<string, number>
  /** Above 1 we are better, whatever the unit. */
  ratio: Record<string, number>
  runs: number
  context: Record<string, string>
}

const here = fileURLToPath(new URL('.', import.meta.url))
const timeout = 600_000

await main()

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: 'boolean', default: false }, json: { type: 'string' }, runs: { type: 'string' }, case: { type: 'string', multiple: true }, only: { type: 'string', multiple: true }, help: { type: 'boolean', short: 'h', default: false } },
  })
  const available = readdirSync(here, { withFileTypes: true }).filter((e) => existsSync(join(here, e.name, 'suite.ts'))).map((e) => e.name)
  if (values.help) return show(`npm run bench -- [suite …] [--case NAME …] [--only SUBJECT …] [--quick] [--json FILE] [--runs N]\nsuites: ${available.join(', ')}`)
  const unknown = positionals.find((name) => !available.includes(name))
  if (unknown !== undefined) return fail(`there is no suite ${unknown}; there are ${available.join(', ')}`)
  const runs = values.runs === undefined ? (values.quick ? 3 : 5) : Number(values.runs)
  if (!Number.isInteger(runs) || runs < 1) return fail('--runs takes a whole number from 1')
  if (values.json !== undefined) writeFileSync(values.json, '')

  let missed = false
  for (const name of positionals.length > 0 ? positionals : available) {
    const { suite } = (await import(`./${name}/suite.ts`)) as { suite: Suite }
    const cases = values.case
    if (cases !== undefined) suite.cases = suite.cases.filter((one) => cases.some((wanted) => one.name === wanted || one.name.startsWith(`${wanted}/`)))
    const only = values.only
    if (only !== undefined) suite.subjects = suite.subjects.filter((subject) => only.includes(subject.name))
    if (suite.subjects.length === 0) return fail(`the suite ${name} has no subject ${only?.join(', ')}`)
    // A suite that cannot run here, such as one that needs root, does not keep the others from it.
    const lines = await runSuite(suite, runs, values.quick).catch((error: Error) => (fail(`${name}: ${error.message}`), []))
    for (const line of lines) if (values.json !== undefined) appendFileSync(values.json, `${JSON.stringify(line)}\n`)
    missed ||= table(suite, lines)
  }
  if (missed) process.exitCode ??= 2
}

async function runSuite(suite: Suite, runs: number, quick: boolean): Promise<Line[]> {
  suite.prepare?.()
  const context = { cpu: `${cpus().length} × ${cpus()[0]?.model.trim()}`, memory: `${Math.round(totalmem() / 2 ** 30)} GiB`, node: process.versions.node, ...(await suite.context?.()) }
  show(`\n${suite.name}${quick ? ' (quick)' : ''}\n${Object.entries(context).map(([key, value]) => `  ${key}: ${value}`).join('\n')}`)
  const subjects = suite.subjects.filter((subject) => {
    const installed = isInstalled(subject)
    if (!installed) show(`  left out: ${subject.name} (not installed; ${subject.requiresProgram === undefined ? 'npm install --prefix benchmark' : `no ${subject.requiresProgram} on PATH`})`)
    return installed
  })
  const lines: Line[] = []
  for (const one of suite.cases) {
    const asked = subjects.filter(({ cases }) => cases === undefined || cases.includes(one.name))
    const figures = new Map(asked.map(({ name }) => [name, [] as number[]]))
    for (let run = 0; run < runs; run++) {
      for (const subject of asked) {
        if (!figures.has(subject.name)) continue
        progress(`${suite.name}/${one.name}: run ${run + 1} of ${runs}, ${subject.name}`)
        const figure = await measure(subject, one.name, quick)
        if (typeof figure === 'number') figures.get(subject.name)?.push(figure)
        else {
          figures.delete(subject.name)
          progress('')
          show(`  left out of ${suite.name}/${one.name}: ${subject.name} (${figure.unable})`)
        }
      }
    }
    progress('')
    lines.push(summarize(suite, one, figures, runs, context))
  }
  return lines
}

function isInstalled({ requires, requiresProgram }: Subject): boolean {
  if (requiresProgram !== undefined) return (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, requiresProgram)))
  return requires === undefined || existsSync(join(here, 'node_modules', requires, 'package.json'))
}

async function measure(subject: Subject, name: string, quick: boolean): Promise<number | { unable: string }> {
  // Beside the project, not in /tmp, which is memory on many machines: an fsync there costs nothing.
  const results = join(here, 'results')
  mkdirSync(results, { recursive: true })
  const folder = mkdtempSync(join(results, 'run-'))
  const effort: Effort = { case: name, quick, folder }
  const args = ['--import=tsx', join(here, subject.program), ...(subject.args ?? []), JSON.stringify(effort)]
  const child = spawn(subject.runtime ?? process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout })
  try {
    let output = ''
    for await (const chunk of child.stdout) output += String(chunk)
    if (output === '') throw new Error(`${subject.name} failed in ${name}; see above`)
    const { figure, unable } = JSON.parse(output.trim().split('\n').at(-1) ?? '{}') as { figure?: number; unable?: string }
    if (unable !== undefined && subject.name !== 'zqlite') return { unable }
    if (typeof figure !== 'number' || !Number.isFinite(figure)) throw new Error(`${subject.name} gave no figure for ${name}`)
    return figure
  } finally {
    child.kill()
    rmSync(folder, { recursive: true, force: true })
  }
}

function summarize(suite: Suite, one: Case, figures: Map<string, number[]>, runs: number, context: Record<string, string>): Line {
  const medians = new Map([...figures].map(([name, values]) => [name, median(values)]))
  const ours = medians.get('zqlite') ?? NaN
  const peers = Object.fromEntries([...medians].filter(([name]) => name !== 'zqlite'))
  const ratio = Object.fromEntries(Object.entries(peers).map(([name, theirs]) => [name, one.better === 'lower' ? theirs / ours : ours / theirs]))
  const spread = Object.fromEntries([...figures].map(([name, values]) => [name, [Math.min(...values), Math.max(...values)]])) as Line['spread']
  return { suite: suite.name, case: `${suite.name}/${one.name}`, unit: one.unit, zqlite: ours, spread, peers, ratio, runs, context }
}

/** Shows the figures; returns whether one of ours misses what is promised. */
function table(suite: Suite, lines: Line[]): boolean {
  let missed = false
  for (const line of lines) {
    const one = suite.cases.find((c) => line.case === `${suite.name}/${c.name}`)
    show(`\n  ${line.case}  (${line.unit}, ${one?.better} is better; median of ${line.runs}, least – most)`)
    for (const [name, figure] of [['zqlite', line.zqlite] as const, ...Object.entries(line.peers)]) {
      const [least, most] = line.spread[name] ?? [NaN, NaN]
      const ratio = line.ratio[name]
      show(`    ${name.padEnd(20)}${format(figure).padStart(12)}   ${`${format(least)} – ${format(most)}`.padEnd(24)}${ratio === undefined ? '' : `zqlite is ${ratio < 1000 ? ratio.toFixed(2) : format(ratio)}×`}`)
    }
    if (one === undefined) continue
    const reached = (wanted: number): boolean => (one.better === 'lower' ? line.zqlite < wanted : line.zqlite > wanted)
    const bound = (wanted: number): string => `${one.better === 'lower' ? 'below' : 'above'} ${format(wanted)} ${one.unit}`
    const verdicts = [
      ...(one.must === undefined ? [] : [{ must: true, met: reached(one.must), text: bound(one.must) }]),
      ...(one.aim === undefined ? [] : [{ must: false, met: reached(one.aim), text: bound(one.aim) }]),
      ...ratios(line, one.mustRatio).map((verdict) => ({ must: true, ...verdict })),
      ...ratios(line, one.aimRatio).map((verdict) => ({ must: false, ...verdict })),
    ]
    for (const { must, met, text } of verdicts) {
      missed ||= must && !met
      show(`    ${must ? (met ? 'met' : 'MISSED') : met ? 'aim met' : 'aim missed'}: ${text}`)
    }
  }
  return missed
}

/** Whether rivals are beaten by what is wanted; of those that were not measured nothing is said. */
function ratios(line: Line, wanted: Record<string, number> = {}): { met: boolean; text: string }[] {
  return Object.entries(wanted).flatMap(([name, least]) => {
    const ratio = line.ratio[name]
    return ratio === undefined ? [] : [{ met: ratio >= least, text: `at least ${least.toLocaleString('en', { minimumFractionDigits: 2 })}× ${name}` }]
  })
}

function format(n: number): string {
  return n >= 100 ? Math.round(n).toLocaleString('en') : n.toPrecision(3)
}

function show(line: string): void {
  process.stdout.write(`${line}\n`)
}

function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
}

function fail(line: string): void {
  process.stderr.write(`error: ${line}\n`)
  process.exitCode = 1
}
