/** `config`: random durations, sizes and options: each is understood exactly, or refused with a typed error that names it. */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import fc from 'fast-check'
import { Database, ZqliteError, type DatabaseOptions } from 'zqlite'
import type { Report } from './report.js'

type Parse = (name: string, value: string) => number

/** Not of the public API, which only takes what they make of it. */
const { parseDuration, parseSize } = createRequire(import.meta.url)('../dist/lib/config.js') as { parseDuration: Parse; parseSize: Parse }

const units = { duration: { ms: 1, s: 1e3, m: 60e3, h: 3_600e3 }, size: { KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 } }

/** What is not understood is a typed error that names the option. */
function refused(error: unknown): void {
  assert(error instanceof ZqliteError && error.code === 'ERR_TYPE', String(error))
  assert.match(error.message, /option/)
}

function understood(kind: keyof typeof units, parse: Parse): fc.IProperty<[number, string, string]> {
  return fc.property(fc.nat({ max: 99_999 }), fc.constantFrom(...Object.keys(units[kind])), fc.constantFrom('', ' '), (n, unit, space) => {
    const factor = (units[kind] as Record<string, number>)[unit]!
    try {
      assert.equal(parse('option', `${n}${space}${unit}`), n * factor)
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error
      refused(error)
      // Only what is out of range, or has a space that is not allowed, may be refused.
      assert(n === 0 || space !== '' || n * factor > 30 * 86_400_000, `${n}${unit} was refused: ${String(error)}`)
    }
  })
}

/** Any text is a number in range, or refused. */
function arbitrary(parse: Parse): fc.IProperty<[unknown]> {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[0-9.eE+-]{0,12} ?[a-zA-Z]{0,3}$/), fc.double(), fc.anything())
  return fc.property(text, (value) => {
    try {
      const parsed = parse('option', value as string)
      assert(Number.isFinite(parsed) && parsed >= 0, `${fc.stringify(value)} is ${parsed}`)
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error
      refused(error)
    }
  })
}

export async function config(rounds: number, seed: number, report: Report): Promise<void> {
  const properties: [string, fc.IRawProperty<unknown>][] = [
    ['durations', understood('duration', parseDuration) as fc.IRawProperty<unknown>],
    ['sizes', understood('size', parseSize) as fc.IRawProperty<unknown>],
    ['any duration', arbitrary(parseDuration) as fc.IRawProperty<unknown>],
    ['any size', arbitrary(parseSize) as fc.IRawProperty<unknown>],
  ]
  for (const [name, property] of properties) {
    const checked = fc.check(property as fc.IProperty<unknown>, { numRuns: rounds, seed: seed % 2 ** 31 })
    const failure = checked.failed ? new Error(`${name}: ${String(checked.errorInstance)}\nshrunk to ${fc.stringify(checked.counterexample)}`) : undefined
    report.round(`config --seed ${seed} --rounds ${rounds}`, failure)
  }
  // Whole sets of options: a database opens, or says which option is wrong.
  const option = fc.oneof(fc.anything(), fc.nat(), fc.string())
  const options = fc.dictionary(fc.constantFrom('readonly', 'cacheSize', 'parallelWrites', 'pool', 'transactions', 'attach', 'pragmas', 'limits', 'extensions', 'syncSteps', 'cacheSiz'), option, { maxKeys: 3 })
  const opens = fc.asyncProperty(options, async (given) => {
    try {
      await (await Database.open(':memory:', given as DatabaseOptions)).close()
    } catch (error) {
      assert(error instanceof ZqliteError, `${fc.stringify(given)}: ${String(error)}`)
    }
  })
  const checked = await fc.check(opens, { numRuns: Math.ceil(rounds / 50), seed: seed % 2 ** 31 })
  const failure = checked.failed ? new Error(`options: ${String(checked.errorInstance)}\nshrunk to ${fc.stringify(checked.counterexample)}`) : undefined
  report.round(`config --seed ${seed} --rounds ${rounds}`, failure)
}
