/** Many calls at a time, as a server makes them. The rivals that only have synchronous calls make them one after the other. */
import { rivals } from '../drivers/rivals.js'
import type { Case, Suite } from '../suite.js'

const program = 'async/measure.ts'
const perSecond = { unit: 'per second', better: 'higher' } as const
const micros = { unit: 'us', better: 'lower' } as const
const millis = { unit: 'ms p99', better: 'lower' } as const

const cases: Case[] = [
  { name: 'get-1', ...perSecond },
  { name: 'get-64', ...perSecond, mustRatio: { sqlite3: 10, 'better-sqlite3': 1 } },
  { name: 'get-256', ...perSecond },
  ...['rows-1000x5', 'rows-200x20'].flatMap((name): Case[] => [
    { name: `${name}/js-thread`, ...micros, mustRatio: { 'better-sqlite3': 4 } },
    { name: `${name}/wall`, ...micros, mustRatio: { 'better-sqlite3': 1 } },
    { name: `${name}/cpu`, ...micros, mustRatio: { 'better-sqlite3': 1 / 1.1 } },
  ]),
  { name: 'insert-64-callers', ...perSecond, mustRatio: { 'better-sqlite3': 15 } },
  // The same rows as the rivals insert them fastest: 64 in each transaction. Ours still are 64 callers, each with its own answer.
  { name: 'insert-64-callers/64-a-transaction', ...perSecond, mustRatio: { 'better-sqlite3': 0.4 } },
  { name: 'loop-delay', ...millis, must: 2 },
  { name: 'mixed-p99', ...millis, must: 1 },
  { name: 'mixed-p99-scans', ...millis, must: 5 },
]

export const suite: Suite = { name: 'async', cases, subjects: [{ name: 'zqlite', program, args: ['zqlite'] }, ...rivals(program)] }
