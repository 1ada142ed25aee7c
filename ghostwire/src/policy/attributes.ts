// `nodeAttrs`: what machines are told that they are or may do.

import type { Node } from './hujson.js';
import { quote } from './quote.js';
import type { Reading } from './reading.js';
import { parseNetwork, type Selector } from './selectors.js';
import type { Tailnet, TailnetNode } from './tailnet.js';
import { rangeOf } from '../addresses/ranges.js';

export interface NodeAttribute {
  readonly targets: readonly Selector[];
  readonly attributes: readonly string[];
  readonly line: number;
}

/** Attributes that come with another one. */
const IMPLIED: Readonly<Record<string, readonly string[]>> = {
  funnel: ['https://tailscale.com/cap/funnel-ports?ports=443,8443,10000', 'https://tailscale.com/cap/warn-funnel-no-https'],
};

export function readNodeAttrs(reading: Reading, node: Node | undefined): NodeAttribute[] {
  const { source } = reading;
  return source.items(node, 'nodeAttrs').map((entry, index) => {
    const what = `nodeAttrs[${index}]`;
    const fields = source.fields(entry, what, ['target', 'attr', 'app', 'ipPool']);
    const targets = source.items(fields.get('target'), `${what}.target`).map((item) => {
      const target = reading.selector(item, `${what}.target`, '');
      if (target.kind === 'autogroup' && ['self', 'internet', 'danger-all', 'nonroot'].includes(target.autogroup))
        throw reading.invalid(`${quote(target.text)} not valid as a target of nodeAttrs`, item);
      return target;
    });
    for (const item of source.items(fields.get('ipPool'), `${what}.ipPool`)) {
      const text = source.string(item, `${what}.ipPool`);
      if (parseNetwork(text) === undefined) throw reading.invalid(`${quote(text)}: invalid prefix`, item);
    }
    const app = fields.get('app');
    if (app !== undefined) throw source.error('ERR_POLICY_UNSUPPORTED', `${what}: "app" is not supported`, app);
    const attributes = source.items(fields.get('attr'), `${what}.attr`).map((item) => {
      const attribute = source.string(item, `${what}.attr`).trim();
      if (attribute === '') throw reading.invalid('attr values cannot be empty', item);
      return attribute;
    });
    return { targets, attributes, line: source.lineOf(entry) };
  });
}

/** Attributes by machine; machines without any are not in it. */
export function compileAttributes(attributes: readonly NodeAttribute[], tailnet: Tailnet): Map<TailnetNode, Set<string>> {
  const granted = new Map<TailnetNode, Set<string>>();
  for (const entry of attributes) {
    const names = entry.attributes.flatMap((name) => [name, ...(IMPLIED[name] ?? [])]);
    if (names.length === 0) continue;
    for (const node of new Set(entry.targets.flatMap((target) => targeted(target, tailnet)))) {
      const own = granted.get(node) ?? new Set();
      for (const name of names) own.add(name);
      granted.set(node, own);
    }
  }
  return granted;
}

function targeted(target: Selector, tailnet: Tailnet): readonly TailnetNode[] {
  if (target.kind === 'any') return tailnet.nodes;
  if (target.kind === 'network') return tailnet.within(rangeOf(target.prefix));
  return tailnet.identified(target) ?? [];
}
