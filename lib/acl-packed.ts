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
  const numbers: number[] = []
  const texts: string[] = []
  for (const rule of rules as readonly (AclRule | null | undefined)[]) {
    if (rule === null || rule === undefined || !pack(rule, numbers, texts)) return undefined
  }
  return { numbers: new Float64Array(numbers), texts: texts.join('\n') }
}

function pack(rule: AclRule, numbers: number[], texts: string[]): boolean {
  const { id, priority, action, enabled, sources, destinations, protocols, ports, expiresAt, sameOwner, through, family } = rule
  if (typeof id !== 'number' || typeof priority !== 'number' || (action !== 'allow' && action !== 'deny')) return false
  let flags = action === 'allow' ? ALLOW : 0
  if (!isFlag(enabled) || !isFlag(sameOwner)) return false
  if (enabled === false) flags |= DISABLED
  if (sameOwner === true) flags |= SAME_OWNER
  if (expiresAt !== undefined) flags |= EXPIRES
  if (family !== undefined) flags |= OF_FAMILY
  const start = numbers.length
  numbers.push(id, priority, flags, 0, 0, 0, 0, 0)
  if (expiresAt !== undefined) {
    if (typeof expiresAt !== 'number') return false
    numbers.push(expiresAt)
  }
  if (family !== undefined) {
    if (typeof family !== 'number') return false
    numbers.push(family)
  }
  const lists = [sources, destinations, through]
  for (let at = 0; at < lists.length; at++) {
    const list = lists[at]
    if (list === undefined && at === 2) continue
    if (!Array.isArray(list)) return false
    numbers[start + 3 + at] = list.length
    for (const text of list) {
      if (typeof text !== 'string') return false
      texts.push(text)
    }
  }
  if (protocols !== undefined) {
    if (!Array.isArray(protocols)) return false
    numbers[start + 6] = protocols.length
    for (const protocol of protocols) {
      if (typeof protocol !== 'number') return false
      numbers.push(protocol)
    }
  }
  if (ports !== undefined) {
    if (!Array.isArray(ports)) return false
    numbers[start + 7] = ports.length
    for (const range of ports) {
      if (!Array.isArray(range) || range.length !== 2 || typeof range[0] !== 'number' || typeof range[1] !== 'number') return false
      numbers.push(range[0], range[1])
    }
  }
  return true
}

function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === 'boolean'
}
