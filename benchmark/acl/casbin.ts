/** casbin: roles for labels, a policy a rule, deny before allow; asked without the promise that `enforce` costs. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { measure } from './mesh.js'

interface Casbin {
  newModelFromString: (text: string) => unknown
  newEnforcer: (model: unknown) => Promise<{
    addPolicies: (rules: (string | number)[][]) => Promise<boolean>
    addGroupingPolicies: (members: string[][]) => Promise<boolean>
    enforceSync: (...question: unknown[]) => boolean
  }>
}
const { newEnforcer, newModelFromString } = createRequire(import.meta.url)('casbin') as Casbin

const model = `
[request_definition]
r = source, destination, protocol, port
[policy_definition]
p = source, destination, protocol, low, high, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.source, p.source) && g(r.destination, p.destination) && r.protocol == p.protocol && r.port >= p.low && r.port <= p.high
`

subject(async () =>
  measure(async (rules, peers) => {
    const enforcer = await newEnforcer(newModelFromString(model))
    await enforcer.addPolicies(rules.map((rule) => [rule.source, rule.destination, String(rule.protocol), String(rule.low), String(rule.high), rule.action]))
    await enforcer.addGroupingPolicies(peers.flatMap(({ id, labels }) => labels.map((label) => [String(id), label])))
    return ({ source, destination, port }) => enforcer.enforceSync(String(source), String(destination), 6, port)
  }),
)
