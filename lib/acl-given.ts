/** What rules, peers and changes are made of, and what is wrong with one that is not: the native side knows nothing of names. */
import type { AclChange, AclPeer, AclRule } from './acl'
import { knownFields, show } from './config'
import { fromNative, ZqliteError } from './errors'

/** What a field holds; with `?` it may be absent. */
type Kind = 'a number' | 'a string' | 'true or false' | 'an array of numbers' | 'an array of strings' | 'an array of pairs of numbers'
type Shape = Kind | `${Kind}?`
type Fields<Of> = Record<keyof Required<Of>, Shape>

const ruleFields: Fields<AclRule> = {
  id: 'a number',
  priority: 'a number',
  action: 'a string',
  enabled: 'true or false?',
  sources: 'an array of strings',
  destinations: 'an array of strings',
  protocols: 'an array of numbers?',
  ports: 'an array of pairs of numbers?',
  expiresAt: 'a number?',
  sameOwner: 'true or false?',
  through: 'an array of strings?',
  family: 'a number?',
}
const peerFields: Fields<AclPeer> = {
  id: 'a number',
  addresses: 'an array of strings',
  labels: 'an array of strings',
  owner: 'a string?',
  routes: 'an array of strings?',
}
const idLists = { removeRules: 'an array of numbers?', enable: 'an array of numbers?', disable: 'an array of numbers?', removePeers: 'an array of numbers?' } as const
const changeFields: Record<keyof Required<AclChange>, true> = { removeRules: true, putRules: true, enable: true, disable: true, removePeers: true, putPeers: true }

/** Gives rules to the native side. Throws `ERR_TYPE` for what is misspelled, and where it cannot read them names rule and field. */
export function withRules<T>(rules: readonly AclRule[], give: () => T): T {
  checkRules(rules)
  return told(give, () => misfitOf('rule', 'rules', rules, ruleFields))
}

/** As {@link withRules}. */
export function withPeers<T>(peers: readonly AclPeer[], give: () => T): T {
  checkPeers(peers)
  return told(give, () => misfitOf('peer', 'peers', peers, peerFields))
}

/** As {@link withRules}. */
export function withChange<T>(change: AclChange, give: () => T): T {
  if (typeof change !== 'object' || change === null || Array.isArray(change)) throw new ZqliteError('ERR_TYPE', `a change must be an object, not ${show(change)}`)
  knownFields(() => 'a change', [change], changeFields)
  checkRules(change.putRules ?? [])
  checkPeers(change.putPeers ?? [])
  return told(give, () => {
    const rules = change.putRules == null ? undefined : misfitOf('rule', 'putRules', change.putRules, ruleFields)
    const peers = change.putPeers == null ? undefined : misfitOf('peer', 'putPeers', change.putPeers, peerFields)
    return fieldOf('a change', change, idLists) ?? rules ?? peers
  })
}

/** Gives ids to the native side, as {@link withRules}. */
export function withIds<T>(ids: readonly number[], give: () => T): T {
  return told(give, () => misfit('ids', ids, 'an array of numbers'))
}

/** An argument that must be a number. */
export function number(name: string, value: number): number {
  if (typeof value !== 'number') throw new ZqliteError('ERR_TYPE', `${name} must be a number, not ${show(value)}`)
  return value
}

function checkRules(rules: readonly AclRule[]): void {
  knownFields(({ id }) => `rule ${show(id)}`, rules, ruleFields)
}

function checkPeers(peers: readonly AclPeer[]): void {
  knownFields(({ id }) => `peer ${show(id)}`, peers, peerFields)
}

/** Makes a native call. Only when it fails is looked for what it could not read: a look at each field takes as long as the call. */
function told<T>(give: () => T, why: () => string | undefined): T {
  try {
    return give()
  } catch (error) {
    const found = fromNative(error)
    const message = found.code === 'ERR_TYPE' ? why() : undefined
    throw message === undefined ? found : new ZqliteError('ERR_TYPE', message)
  }
}

/** What is wrong with the first of these that has a field of another type than it should. */
function misfitOf(what: string, list: string, items: readonly { id: unknown }[], fields: Record<string, Shape>): string | undefined {
  if (!Array.isArray(items)) return `${list} must be an array, not ${show(items)}`
  for (const [at, item] of (items as readonly unknown[]).entries()) {
    if (typeof item !== 'object' || item === null) return `${list}[${at}] must be an object, not ${show(item)}`
    const { id } = item as { id?: unknown }
    const found = fieldOf(typeof id === 'number' ? `${what} ${id}` : `${list}[${at}]`, item, fields)
    if (found !== undefined) return found
  }
  return undefined
}

function fieldOf(name: string, item: object, fields: Record<string, Shape>): string | undefined {
  for (const [field, shape] of Object.entries(fields)) {
    const value = (item as Record<string, unknown>)[field]
    const mayMiss = shape.endsWith('?')
    if (mayMiss && value == null) continue
    const found = misfit(`${name}, ${field}`, value, (mayMiss ? shape.slice(0, -1) : shape) as Kind)
    if (found !== undefined) return found
  }
  return undefined
}

function misfit(name: string, value: unknown, kind: Kind): string | undefined {
  if (kind === 'a number') return typeof value === 'number' ? undefined : wanted(name, kind, value)
  if (kind === 'a string') return typeof value === 'string' ? undefined : wanted(name, kind, value)
  if (kind === 'true or false') return typeof value === 'boolean' ? undefined : wanted(name, kind, value)
  if (!Array.isArray(value)) return wanted(name, kind, value)
  for (const [at, item] of (value as readonly unknown[]).entries()) {
    const place = `${name}[${at}]`
    if (kind !== 'an array of pairs of numbers') {
      const found = misfit(place, item, kind === 'an array of numbers' ? 'a number' : 'a string')
      if (found !== undefined) return found
    } else if (!Array.isArray(item) || item.length !== 2 || !item.every((end) => typeof end === 'number')) {
      return wanted(place, 'a pair of numbers', item)
    }
  }
  return undefined
}

function wanted(name: string, kind: string, value: unknown): string {
  return `${name} must be ${kind}, not ${show(value)}`
}
