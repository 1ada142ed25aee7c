// Routes: which of those that a machine offers are approved, and which of several routers is the one that is used.

import { CidrTable } from 'zqlite';
import { isMapped, type Prefix } from '../addresses/ip.js';
import { covers, overlap, prefixText, rangeOf, type AddressRange } from '../addresses/ranges.js';
import type { PolicyDocument } from './document.js';
import { isExitRoute, subnetRoutes, type Tailnet, type TailnetNode } from './tailnet.js';

/** `autoApprovers.routes`, to be found by what a prefix lies in: the table's values are places in the lists. */
interface Approvers {
  readonly table: CidrTable;
  readonly lists: (readonly string[])[];
  /** Entries for IPv4-mapped addresses, which the table would take for IPv4, and those that cover all of them. */
  readonly mapped: { readonly range: AddressRange; readonly approvers: readonly string[] }[];
}

const MAPPED = rangeOf({ family: 6, value: 0xffffn << 32n, length: 96 });

/** Made for a policy when a route is first offered. */
const known = new WeakMap<PolicyDocument['autoApprovers'], Approvers>();

function approversOf(autoApprovers: PolicyDocument['autoApprovers']): Approvers {
  let found = known.get(autoApprovers);
  if (found === undefined) {
    const [table, lists, mapped]: [CidrTable, Approvers['lists'], Approvers['mapped']] = [new CidrTable(), [], []];
    for (const { prefix, approvers } of autoApprovers.routes) {
      if (isExitRoute(prefix)) continue;
      const [text, range] = [prefixText(prefix), rangeOf(prefix)];
      if (overlap(range, MAPPED)) mapped.push({ range, approvers });
      if (isMapped(text)) continue;
      // Two entries may write one prefix in two ways.
      const place = table.get(text);
      if (place === undefined) table.insert(text, lists.push(approvers) - 1);
      else lists[place] = [...(lists[place] ?? []), ...approvers];
    }
    known.set(autoApprovers, (found = { table, lists, mapped }));
  }
  return found;
}

/** Who may approve what, asked about one machine's offers. */
export interface Offer {
  readonly user: string | null;
  readonly tags: readonly string[];
  readonly offered: readonly Prefix[];
  /** What an admin approved by hand, or the policy did before. */
  readonly approved: readonly Prefix[];
}

/** Routes in force: offered, and approved by hand or by `autoApprovers`. In the order of the offer. */
export function approvedRoutes(document: PolicyDocument, { user, tags, offered, approved }: Offer): Prefix[] {
  const byHand = new Set(approved.map(prefixText));
  const mayApprove = (approvers: readonly string[]): boolean =>
    approvers.some((approver) =>
      tags.length > 0
        ? tags.includes(approver) || approver === 'autogroup:tagged'
        : user !== null && (approver === user || approver.startsWith('autogroup:member') || (document.groups.get(approver) ?? []).includes(user)),
    );
  const { autoApprovers } = document;
  const { routes, exitNode } = autoApprovers;
  return offered.filter((route) => {
    if (byHand.has(prefixText(route))) return true;
    // A default route is only ever approved by `exitNode`, even where `routes` names it.
    if (isExitRoute(route)) return mayApprove(exitNode);
    if (routes.length === 0) return false;
    const { table, lists, mapped } = approversOf(autoApprovers);
    const text = prefixText(route);
    if (isMapped(text)) return mapped.some(({ range, approvers }) => covers(range, rangeOf(route)) && mayApprove(approvers));
    return table.covering(text).some(({ value }) => mayApprove(lists[value] ?? []));
  });
}

/**
 * Whom of the routers of a prefix the plane prefers. It goes by who registered first, so the nodes of a tailnet are given in
 * that order where it is known.
 */
export class Routers {
  readonly #byRoute = new Map<string, TailnetNode[]>();

  constructor(tailnet: Tailnet) {
    for (const node of tailnet.nodes) {
      for (const route of subnetRoutes(node)) {
        const text = prefixText(route);
        const routers = this.#byRoute.get(text);
        if (routers === undefined) this.#byRoute.set(text, [node]);
        else routers.push(node);
      }
    }
  }

  /** The router of a prefix that is used, among some or all of them. */
  primary(route: string, among?: ReadonlySet<TailnetNode>): TailnetNode | undefined {
    return this.#byRoute.get(route)?.find((node) => among === undefined || among.has(node));
  }
}
