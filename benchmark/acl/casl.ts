/** CASL: a rule with conditions for each of ours, the denies last, since its last rule decides. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { measure } from './mesh.js'

type Add = (action: string, type: string, conditions: object) => void
interface Casl {
  createMongoAbility: unknown
  AbilityBuilder: new (create: unknown) => { can: Add; cannot: Add; build: () => { can: (action: string, what: object) => boolean } }
  subject: (type: string, fields: object) => object
}
const { AbilityBuilder, createMongoAbility, subject: typed } = createRequire(import.meta.url)('@casl/ability') as Casl

subject(async () =>
  measure((rules, peers) => {
    const { can, cannot, build } = new AbilityBuilder(createMongoAbility)
    for (const { action, source, destination, protocol, low, high } of rules.toSorted((a, b) => Number(a.action === 'deny') - Number(b.action === 'deny'))) {
      const add = action === 'allow' ? can : cannot
      add('reach', 'Flow', { sources: source, destinations: destination, protocol, port: { $gte: low, $lte: high } })
    }
    const ability = build()
    return ({ source, destination, port }) =>
      ability.can('reach', typed('Flow', { sources: peers[source]?.labels, destinations: peers[destination]?.labels, protocol: 6, port }))
  }),
)
