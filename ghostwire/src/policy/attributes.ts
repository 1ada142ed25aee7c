// `nodeAttrs`: what machines are told that they are or may do.

import { mappedProblem, type Prefix } from '../addresses/ip.js';
import type { Node } from './hujson.js';
import { quote } from './quote.js';
import type { Reading } from './reading.js';
import { parseNetwork, type Selector } from './selectors.js';
import type { Tailnet, TailnetNode } from './tailnet.js';
import { covers, formatRange, overlap, rangeOf, type AddressRange } from '../addresses/ranges.js';
import { RESERVED_RANGES } from '../addresses/rules.js';

export interface NodeAttribute {
  readonly targets: readonly Selector[];
  /** Values by name; null for an attribute that has none. */
  readonly attributes: ReadonlyMap<string, unknown>;
  /** Of `ipPool`: what the addresses of these machines are taken from. */
  readonly pools: readonly Prefix[];
  readonly line: number;
}

const range = (text: string): AddressRange => {
  const prefix = parseNetwork(text);
  if (prefix === undefined) throw new Error(`not a prefix: ${text}`);
  return rangeOf(prefix);
};
const TAILNET_V4 = range('100.64.0.0/10');

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
    const pools = source.items(fields.get('ipPool'), `${what}.ipPool`).map((item) => {
      const text = source.string(item, `${what}.ipPool`).trim();
      const pool = parseNetwork(text);
      if (pool === undefined) throw reading.invalid(`${quote(text)}: ${mappedProblem(text) ?? 'invalid prefix'}`, item);
      if (!covers(TAILNET_V4, rangeOf(pool))) throw reading.invalid(`ipPool ${quote(text)} is not within 100.64.0.0/10`, item);
      const reserved = RESERVED_RANGES.find((one) => overlap(one, rangeOf(pool)));
      if (reserved !== undefined) throw reading.invalid(`ipPool ${quote(text)} overlaps reserved range ${formatRange(reserved)}`, item);
      return pool;
    });
    const attributes = new Map<string, unknown>();
    for (const item of source.items(fields.get('attr'), `${what}.attr`)) {
      const name = source.string(item, `${what}.attr`).trim();
      if (name === '') throw reading.invalid('attr values cannot be empty', item);
      for (const one of [name, ...(IMPLIED[name] ?? [])]) attributes.set(one, null);
    }
    const app = fields.get('app');
    for (const { key, value } of app === undefined ? [] : source.members(app, `${what}.app`)) attributes.set(key, source.value(value));
    return { targets, attributes, pools, line: source.lineOf(entry) };
  });
}

/** Attributes with their values by machine; machines without any are not in it. */
export function compileAttributes(attributes: readonly NodeAttribute[], tailnet: Tailnet): Map<TailnetNode, Map<string, unknown>> {
  const granted = new Map<TailnetNode, Map<string, unknown>>();
  for (const entry of attributes) {
    if (entry.attributes.size === 0) continue;
    for (const node of new Set(entry.targets.flatMap((target) => targeted(target, tailnet)))) {
      const own = granted.get(node) ?? new Map<string, unknown>();
      for (const [name, value] of entry.attributes) own.set(name, value);
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
