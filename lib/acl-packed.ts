/** Rules in one array of numbers and one text: reading each property from the native side takes several times as long. */
import type { AclRule } from './acl'

/** What the native side reads: see `acl/packed.rs`. */
export interface PackedRules {
  numbers: Float64Array
  /** A line for each selector and label. */
  texts: string
}

const ALLOW = 1
const DISABLED = 2
const SAME_OWNER = 4
const EXPIRES = 8
const OF_FAMILY = 16

/** `undefined` when a rule is not written as its type says: then the native side, reading it as it is, names what is wrong. */
export function packRules(rules: readonly AclRule[]): PackedRules | undefined {
  if (!Array.isArray(rules)) return undefined
  const packed = new Packed()
  for (const rule of rules as readonly (AclRule | null | undefined)[]) {
    if (rule === null || rule === undefined || !pack(rule, packed)) return undefined
  }
  return { numbers: packed.numbers.subarray(0, packed.length), texts: packed.texts.join('\n') }
}

/** Numbers grow outside of the heap: an ordinary array of them would make the heap grow, and so large it would stay. */
class Packed {
  numbers = new Float64Array(1024)
  length = 0
  readonly texts: string[] = []

  /** Numbers with room for so many more. Once a rule: the first rules are packed before V8 compiles, when each call counts. */
  room(count: number): Float64Array {
    const wanted = this.length + count
    if (wanted > this.numbers.length) {
      const larger = new Float64Array(Math.max(wanted, 2 * this.numbers.length))
      larger.set(this.numbers)
      this.numbers = larger
    }
    return this.numbers
  }
}

function pack(rule: AclRule, packed: Packed): boolean {
  const { id, priority, action, enabled, sources, destinations, protocols, ports, expiresAt, sameOwner, through, family } = rule
  if (typeof id !== 'number' || typeof priority !== 'number' || (action !== 'allow' && action !== 'deny')) return false
  let flags = action === 'allow' ? ALLOW : 0
  if (!isFlag(enabled) || !isFlag(sameOwner)) return false
  if (enabled === false) flags |= DISABLED
  if (sameOwner === true) flags |= SAME_OWNER
  if (expiresAt !== undefined) flags |= EXPIRES
  if (family !== undefined) flags |= OF_FAMILY
  if (!Array.isArray(sources) || !Array.isArray(destinations)) return false
  if (through !== undefined && !Array.isArray(through)) return false
  if (protocols !== undefined && !Array.isArray(protocols)) return false
  if (ports !== undefined && !Array.isArray(ports)) return false
  const numbers = packed.room(10 + (protocols?.length ?? 0) + 2 * (ports?.length ?? 0))
  let at = packed.length
  numbers[at++] = id
  numbers[at++] = priority
  numbers[at++] = flags
  numbers[at++] = sources.length
  numbers[at++] = destinations.length
  numbers[at++] = through === undefined ? 0 : through.length
  numbers[at++] = protocols === undefined ? 0 : protocols.length
  numbers[at++] = ports === undefined ? 0 : ports.length
  if (expiresAt !== undefined) {
    if (typeof expiresAt !== 'number') return false
    numbers[at++] = expiresAt
  }
  if (family !== undefined) {
    if (typeof family !== 'number') return false
    numbers[at++] = family
  }
  if (protocols !== undefined) {
    for (let i = 0; i < protocols.length; i++) {
      const protocol: unknown = protocols[i]
      if (typeof protocol !== 'number') return false
      numbers[at++] = protocol
    }
  }
  if (ports !== undefined) {
    for (let i = 0; i < ports.length; i++) {
      const range: unknown = ports[i]
      if (!Array.isArray(range) || range.length !== 2 || typeof range[0] !== 'number' || typeof range[1] !== 'number') return false
      numbers[at++] = range[0]
      numbers[at++] = range[1]
    }
  }
  packed.length = at
  return packTexts(sources, packed) && packTexts(destinations, packed) && (through === undefined || packTexts(through, packed))
}

function packTexts(list: readonly unknown[], packed: Packed): boolean {
  for (const text of list) {
    if (typeof text !== 'string') return false
    packed.texts.push(text)
  }
  return true
}

function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === 'boolean'
}
