/**
 * What the workflows make of the files of `npm run bench -- --json FILE`:
 * - `report.ts compare BASE HEAD` prints a Markdown table of zqlite's figures before and after a change;
 * - `report.ts history FOLDER OUT` writes a page with every case over time, from files named `<date>-<commit>.jsonl`.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** What is read of a line of the JSON output. */
interface Line {
  case: string
  unit: string
  zqlite: number
  spread: Record<string, [min: number, max: number]>
}

/** A change is worth a word when the runs of the two sides do not even touch. */
export function compare(base: string, head: string): string {
  const before = new Map(parse(base).map((line) => [line.case, line]))
  const rows = parse(head).map((now) => {
    const then = before.get(now.case)
    before.delete(now.case)
    if (then === undefined) return `| \`${now.case}\` | – | ${figure(now)} | new |`
    const [low, high] = then.spread['zqlite'] ?? [then.zqlite, then.zqlite]
    const [least, most] = now.spread['zqlite'] ?? [now.zqlite, now.zqlite]
    const change = `${now.zqlite >= then.zqlite ? '+' : ''}${((now.zqlite / then.zqlite - 1) * 100).toFixed(1)} %`
    return `| \`${now.case}\` | ${figure(then)} | ${figure(now)} | ${least > high || most < low ? `**${change}**` : change} |`
  })
  for (const gone of before.values()) rows.push(`| \`${gone.case}\` | ${figure(gone)} | – | gone |`)
  return ['| case | base | this change | |', '|---|---|---|---|', ...rows, '', 'Medians with least and most; bold where the runs of the two do not overlap. Both ran on one shared machine, one after the other.', ''].join('\n')
}

/** One line of text and one curve for each case; `runs` are in order of time. */
export function history(runs: readonly { name: string; text: string }[]): string {
  const cases = new Map<string, { unit: string; points: { name: string; value: number }[] }>()
  for (const { name, text } of runs) {
    for (const line of parse(text)) {
      const known = cases.get(line.case) ?? { unit: line.unit, points: [] }
      known.points.push({ name, value: line.zqlite })
      cases.set(line.case, known)
    }
  }
  const sections = [...cases].map(([name, { unit, points }]) => `<h2>${escape(name)}</h2>\n${curve(points)}\n<p>${round(points.at(-1)?.value ?? 0)} ${escape(unit)} at ${escape(points.at(-1)?.name ?? '')}</p>`)
  return `<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Benchmarks over time</title>\n<h1>Benchmarks over time</h1>\n${sections.join('\n')}\n</html>\n`
}

function curve(points: readonly { name: string; value: number }[]): string {
  const [width, height] = [600, 80]
  const most = Math.max(...points.map(({ value }) => value)) || 1
  const place = ({ value }: { value: number }, i: number): string => `${Math.round((i * width) / Math.max(points.length - 1, 1))},${Math.round(height - (value / most) * height)}`
  const dots = points.map((point, i) => `<circle cx="${place(point, i).replace(',', '" cy="')}" r="3"><title>${escape(point.name)}: ${round(point.value)}</title></circle>`)
  return `<svg viewBox="-5 -5 ${width + 10} ${height + 10}" width="${width}"><polyline fill="none" stroke="currentColor" points="${points.map(place).join(' ')}"/>${dots.join('')}</svg>`
}

function parse(text: string): Line[] {
  return text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Line)
}

function figure({ zqlite, unit, spread }: Line): string {
  const [least, most] = spread['zqlite'] ?? [zqlite, zqlite]
  return `${round(zqlite)} ${unit} (${round(least)} – ${round(most)})`
}

function round(value: number): string {
  return new Intl.NumberFormat('en', { maximumSignificantDigits: 4 }).format(value)
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [mode, first = '', second = ''] = process.argv.slice(2)
  if (mode === 'compare') process.stdout.write(compare(readFileSync(first, 'utf8'), readFileSync(second, 'utf8')))
  else if (mode === 'history') {
    const files = readdirSync(first).filter((name) => name.endsWith('.jsonl')).sort()
    writeFileSync(second, history(files.map((name) => ({ name: name.slice(0, -6), text: readFileSync(join(first, name), 'utf8') }))))
  } else {
    process.stderr.write('error: report.ts compare BASE HEAD, or report.ts history FOLDER OUT\n')
    process.exitCode = 1
  }
}
