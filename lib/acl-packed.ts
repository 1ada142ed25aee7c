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

  push(number: number): void {
    if (this.length === this.numbers.length) {
      const larger = new Float64Array(2 * this.length)
      larger.set(this.numbers)
      this.numbers = larger
    }
    this.numbers[this.length++] = number
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
  packed.push(id)
  packed.push(priority)
  packed.push(flags)
  packed.push(sources.length)
  packed.push(destinations.length)
  packed.push(through?.length ?? 0)
  packed.push(protocols?.length ?? 0)
  packed.push(ports?.length ?? 0)
  if (expiresAt !== undefined) {
    if (typeof expiresAt !== 'number') return false
    packed.push(expiresAt)
  }
  if (family !== undefined) {
    if (typeof family !== 'number') return false
    packed.push(family)
  }
  if (!packTexts(sources, packed) || !packTexts(destinations, packed)) return false
  if (through !== undefined && !packTexts(through, packed)) return false
  return (protocols === undefined || packProtocols(protocols, packed)) && (ports === undefined || packPorts(ports, packed))
}

function packProtocols(protocols: readonly unknown[], packed: Packed): boolean {
  for (const protocol of protocols) {
    if (typeof protocol !== 'number') return false
    packed.push(protocol)
  }
  return true
}

function packPorts(ports: readonly unknown[], packed: Packed): boolean {
  for (const range of ports) {
    if (!Array.isArray(range) || range.length !== 2 || typeof range[0] !== 'number' || typeof range[1] !== 'number') return false
    packed.push(range[0])
    packed.push(range[1])
  }
  return true
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
