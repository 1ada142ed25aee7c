/** Cedar: a policy a rule, parsed once; peers with labels for parents, of which each question brings the two that it is about. */
import { createRequire } from 'node:module'
import { subject } from '../subject.js'
import { measure } from './mesh.js'

type Failure = { type: 'failure'; errors: unknown }
interface Cedar {
  preparsePolicySet: (id: string, policies: { staticPolicies: string }) => { type: 'success' } | Failure
  statefulIsAuthorized: (call: object) => { type: 'success'; response: { decision: 'allow' | 'deny' } } | Failure
}
const { preparsePolicySet, statefulIsAuthorized } = createRequire(import.meta.url)('@cedar-policy/cedar-wasm/nodejs') as Cedar

subject(async () =>
  measure((rules, peers) => {
    const policies = rules.map(({ action, source, destination, protocol, low, high }) => {
      const when = `context.protocol == ${protocol} && context.port >= ${low} && context.port <= ${high}`
      return `${action === 'allow' ? 'permit' : 'forbid'}(principal in Label::"${source}", action == Action::"reach", resource in Label::"${destination}") when { ${when} };`
    })
    const parsed = preparsePolicySet('rules', { staticPolicies: policies.join('\n') })
    if (parsed.type !== 'success') throw new Error(JSON.stringify(parsed.errors))
    const uid = (peer: number): { type: string; id: string } => ({ type: 'Peer', id: String(peer) })
    const entities = peers.map(({ id, labels }) => ({ uid: uid(id), attrs: {}, parents: labels.map((label) => ({ type: 'Label', id: label })) }))
    return ({ source, destination, port }) => {
      const answer = statefulIsAuthorized({
        principal: uid(source),
        action: { type: 'Action', id: 'reach' },
        resource: uid(destination),
        context: { protocol: 6, port },
        preparsedPolicySetId: 'rules',
        entities: (source === destination ? [source] : [source, destination]).map((peer) => entities[peer]!),
      })
      if (answer.type !== 'success') throw new Error(JSON.stringify(answer.errors))
      return answer.response.decision === 'allow'
    }
  }),
)
