/** The prefixes and addresses of the suite, and what each case measures. No address is asked for twice. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { Effort } from '../suite.js'

export const tableFile = fileURLToPath(new URL('../../../shared/data/prefixes/bgp-table.txt.gz', import.meta.url))

/** A table as a subject builds it from all prefixes; the value of each is its place. */
export interface Rival {
  /** The value, prefix or mere yes of the longest prefix, as the subject has it. */
  lookup: (address: string) => unknown
  insert: (prefix: string, value: number) => void
  /** Where the subject has more: without them the case is measured with what there is. */
  remove?: (prefix: string) => void
  lookupNumber?: (address: number) => unknown
  batchV4?: (addresses: Uint32Array) => unknown
  batchV6?: (addresses: Uint8Array) => unknown
  /** Makes the table again from how it was stored: by `build` where it cannot be stored. Afterwards it is asked once. */
  reload?: () => Rival
}

export type Build = (prefixes: readonly string[], mode: 'compact' | 'fast') => Rival

/** Measures a case; a subject that scans its prefixes gets as many addresses as a few seconds allow. */
export function run(effort: Effort, build: Build): number {
  const prefixes = table()
  const random = splitMix(1)
  const start = performance.now()
  const rival = build(prefixes, effort.case.endsWith('fast') ? 'fast' : 'compact')
  const buildTime = performance.now() - start
  const wanted = lookups(effort)
  const name = effort.case.replace(/-(compact|fast)$/, '')
  switch (name) {
    case 'build':
      return buildTime
    case 'v4-batch-covered':
    case 'v4-batch-uniform': {
      const numbers = v4(wanted, name.endsWith('uniform') ? undefined : blocksOf(prefixes, 4), random)
      return rival.batchV4 ? whole(rival.batchV4, numbers, numbers.length) : each(effort, rival.lookup, Array.from(numbers, dotted))
    }
    case 'v6-batch-covered': {
      const bytes = v6(wanted, blocksOf(prefixes, 6), random)
      return rival.batchV6 ? whole(rival.batchV6, bytes, wanted) : each(effort, rival.lookup, colons(bytes))
    }
    case 'v4-single-number': {
      const numbers = v4(wanted, blocksOf(prefixes, 4), random)
      return rival.lookupNumber ? each(effort, rival.lookupNumber, Array.from(numbers)) : each(effort, rival.lookup, Array.from(numbers, dotted))
    }
    case 'v4-single-string':
      return each(effort, rival.lookup, Array.from(v4(wanted, blocksOf(prefixes, 4), random), dotted))
    case 'v6-single-string':
      return each(effort, rival.lookup, colons(v6(wanted, blocksOf(prefixes, 6), random)))
    case 'update': {
      const changed = Array.from({ length: Math.min(wanted, 200_000) }, () => Math.floor(random() * prefixes.length))
      const time = each(effort, (at: number) => {
        const prefix = prefixes[at] ?? ''
        rival.remove?.(prefix)
        rival.insert(prefix, at)
      }, changed)
      return rival.remove ? time / 2 : time
    }
    case 'snapshot-load': {
      const again = performance.now()
      const loaded = rival.reload ? rival.reload() : build(prefixes, 'compact')
      // Loaded is what answers.
      loaded.lookup('192.0.2.1')
      return performance.now() - again
    }
    default:
      throw new Error(`no case ${effort.case}`)
  }
}

/** The prefixes and addresses of a batch case as text, for a program that reads files. */
export function asText(effort: Effort): { prefixes: string[]; addresses: string[] } {
  const all = table()
  const random = splitMix(1)
  const family = effort.case.startsWith('v6') ? 6 : 4
  const covering = effort.case.includes('uniform') ? undefined : blocksOf(all, family)
  const addresses = family === 6 ? colons(v6(lookups(effort), covering ?? [], random)) : Array.from(v4(lookups(effort), covering, random), dotted)
  return { prefixes: all.filter((prefix) => prefix.includes(':') === (family === 6)), addresses }
}

function lookups({ quick }: Effort): number {
  return quick ? 100_000 : 1_000_000
}

/** Nanoseconds an item, for as many items as three seconds allow, or one where it shall be quick. */
function each<T>({ quick }: Effort, ask: (item: T) => unknown, items: readonly T[]): number {
  const start = performance.now()
  let done = 0
  while (done < items.length) {
    // Ever more before the clock is looked at again, so that it costs nothing.
    for (const end = Math.min(items.length, done + Math.max(1, done)); done < end; done++) ask(items[done] as T)
    if (performance.now() - start > (quick ? 1000 : 3000)) break
  }
  return ((performance.now() - start) * 1e6) / done
}

/** Nanoseconds an address, in batches of 4,096, after a first part that warms the code up. */
function whole<T extends Uint32Array | Uint8Array>(ask: (part: T) => unknown, items: T, count: number): number {
  const step = (items.length / count) * 4096
  const parts = Array.from({ length: Math.ceil(items.length / step) }, (_, i) => items.subarray(i * step, (i + 1) * step) as T)
  const warm = parts.splice(0, parts.length >> 3)
  for (const part of warm) ask(part)
  const start = performance.now()
  for (const part of parts) ask(part)
  return ((performance.now() - start) * 1e6) / ((parts.reduce((sum, part) => sum + part.length, 0) / step) * 4096)
}

function table(): string[] {
  if (existsSync(tableFile)) return gunzipSync(readFileSync(tableFile)).toString().split(/\r?\n/).filter((line) => line !== '')
  process.stderr.write(`${tableFile} is absent: measuring with made-up prefixes\n`)
  const random = splitMix(2)
  const made = Array.from({ length: 1_000_000 }, () => {
    const length = 16 + Math.floor(random() * 9)
    const bits = Math.floor(random() * 2 ** 32)
    return random() < 0.85 ? `${dotted((bits >>> (32 - length)) << (32 - length))}/${length}` : `2${((bits >>> 20) | 0x100).toString(16)}:${(bits & 0xffff).toString(16)}:${(bits >>> 16).toString(16)}::/48`
  })
  return [...new Set(made)]
}

/** The first bytes of a prefix, and its length. */
interface Block {
  bytes: number[]
  length: number
}

function blocksOf(prefixes: readonly string[], family: 4 | 6): Block[] {
  return prefixes.filter((prefix) => prefix.includes(':') === (family === 6)).map(block)
}

function block(prefix: string): Block {
  const [address = '', length] = prefix.split('/')
  return { bytes: address.includes(':') ? groups(address) : address.split('.').map(Number), length: Number(length) }
}

function groups(address: string): number[] {
  const [before = '', after] = address.split('::')
  const parse = (part: string): number[] => (part === '' ? [] : part.split(':').flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]))
  const [head, tail] = [parse(before), parse(after ?? '')]
  return after === undefined ? head : [...head, ...Array<number>(16 - head.length - tail.length).fill(0), ...tail]
}

/** An address within one of the blocks. */
function inside(blocks: readonly Block[], random: () => number): number[] {
  const { bytes, length } = blocks[Math.floor(random() * blocks.length)] ?? { bytes: [], length: 0 }
  return bytes.map((byte, i) => byte | (Math.floor(random() * 256) & (255 >> Math.min(8, Math.max(0, length - 8 * i)))))
}

function v4(count: number, blocks: readonly Block[] | undefined, random: () => number): Uint32Array {
  const seen = new Set<number>()
  while (seen.size < count) {
    const bits = blocks ? inside(blocks, random).reduce((sum, byte) => sum * 256 + byte, 0) : Math.floor(random() * 2 ** 32)
    seen.add(bits)
  }
  return Uint32Array.from(seen)
}

function v6(count: number, blocks: readonly Block[], random: () => number): Uint8Array {
  const bytes = new Uint8Array(16 * count)
  for (let i = 0; i < count; i++) bytes.set(inside(blocks, random), 16 * i)
  return bytes
}

function dotted(bits: number): string {
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`
}

function colons(bytes: Uint8Array): string[] {
  const view = new DataView(bytes.buffer)
  const groupsAt = (at: number): string[] => [0, 2, 4, 6, 8, 10, 12, 14].map((offset) => view.getUint16(at + offset).toString(16))
  return Array.from({ length: bytes.length / 16 }, (_, i) => groupsAt(16 * i).join(':'))
}

/** Numbers from 0 to 1 that look random, the same each time: 32 bits of a SplitMix. */
function splitMix(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x9e3779b9) | 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32
  }
}
